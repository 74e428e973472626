"""``mixstage demo``: trains on real JPEGs through the DALI loader with and without mixing, and draws what every mixer does.

The data are scikit-learn's 1,797 handwritten digits written as a JPEG image folder: no download, two minutes on two cores.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mixops import CutMix, GMix, HMix, Key, MixUp, Switch
from mixops.key import Stream
from mixops.mixers.base import Mixer

from ..figures import print_table
from ..image_loader import ImageLoader
from .preview import draw_sheet
from .training import TrainingResult, fit, small_net

SIZE, BATCH, SEED = 32, 64, 0
RUNS: tuple[tuple[str, Mixer | None], ...] = (
    ("no mixing", None),
    ("HMix", HMix(0.2, r=0.5)),
    ("multi-mix (MixUp, K=3)", MixUp(0.2, interpolations=3)),
)
SHOWN: tuple[Mixer, ...] = (
    MixUp(1.0),
    CutMix(1.0),
    HMix(1.0, r=0.75),
    GMix(1.0),
    Switch([MixUp(0.8), CutMix(1.0)]),
    MixUp(1.0, interpolations=3),
    GMix(1.0, interpolations=3),
)


def write_digits(root: Path) -> None:
    """Writes scikit-learn's digits as ``root/{train,test}/<digit>/<number>.jpg``, 32 x 32, one in five for the test."""
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the demo needs scikit-learn: pip install 'mixstage[demo]'") from error
    digits, labels = load_digits(return_X_y=True)
    test = set(Key(SEED).permutation(Stream.ORDER, len(digits))[: len(digits) // 5].tolist())
    for i, (pixels, label) in enumerate(zip(digits.reshape(-1, 8, 8), labels, strict=True)):
        folder = root / ("test" if i in test else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((pixels * (255 / 16)).astype(np.uint8))
        grey.resize((SIZE, SIZE), Image.Resampling.BICUBIC).save(folder / f"{i:04}.jpg", quality=95)


def demo(
    out: Path = Path("demo"), epochs: int = 8, backend: str = "dali", console: Console | None = None
) -> dict[str, TrainingResult]:
    """Writes the images, trains each of ``RUNS``, prints the table and draws ``out/preview.png``; returns the results."""
    console = console or Console()
    root = out / "digits"
    if not (root / "test" / "9").exists():
        console.print(f"writing 1,797 handwritten digits as JPEGs to {root}")
        write_digits(root)
    results: dict[str, TrainingResult] = {}
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        for name, mixer in RUNS:
            shared: dict[str, Any] = {"backend": backend, "size": SIZE, "seed": SEED}
            # digits are not digits upside down or cut to a twelfth: mild crops, no flips
            train = ImageLoader(root / "train", batch_size=BATCH, mixer=mixer, scale=(0.6, 1.0), flip=0.0, **shared)
            test = ImageLoader(root / "test", batch_size=2 * BATCH, split="val", val_resize=SIZE, **shared)
            with train, test:
                task = progress.add_task(name, total=epochs * len(train))
                torch.manual_seed(SEED)
                model = small_net(train.num_classes)
                results[name] = fit(model, train, test, epochs=epochs, on_step=partial(progress.advance, task))
    rows = [[name, f"{r.images_per_second:,.0f}", f"{r.seconds:.1f}", f"{r.accuracy:.1%}"] for name, r in results.items()]
    head = ["training", "images/s", "seconds", "test accuracy"]
    print_table(console, head, rows, f"{backend}, {epochs} epochs of 1,438 digits")
    sheet = out / "preview.png"
    draw_sheet(root / "train", SHOWN, sheet, backend=backend, size=SIZE, scale=(0.6, 1.0), flip=0.0)
    console.print(f"what every mixer does: {sheet}")
    return results
