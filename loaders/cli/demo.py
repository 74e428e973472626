"""``mixstage demo``: trains on a few images a class with and without mixing, and draws what every mixer does to photographs.

With few images a class a network learns them by heart, and mixing can help; with many, or in few epochs, it need not. Every
training is repeated from other seeds, which choose other images, too: one run proves nothing. Without a folder the data are
what scikit-learn brings: its handwritten digits to train on, its two photographs to look at. Nothing is downloaded.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, median, stdev
from typing import Any

import numpy as np
import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, Switch
from mixops.key import Stream
from mixops.mixers.base import Mixer

from ..figures import print_table
from ..image_loader import ImageLoader
from ..sources.registry import open_source
from .preview import draw_sheet
from .training import fit, small_net

BATCH = 50
RUNS: tuple[tuple[str, Mixer | None], ...] = (
    ("no mixing", None),
    ("MixUp", MixUp(1.0)),
    ("HMix", HMix(1.0, r=0.5)),
    ("multi-mix (MixUp, K=3)", MixUp(1.0, interpolations=3)),
)
SHOWN: tuple[Mixer, ...] = (
    MixUp(1.0),
    CutMix(1.0),
    HMix(1.0, r=0.75),
    GMix(1.0),
    FMix(1.0),
    Switch([MixUp(0.8), CutMix(1.0)]),
    MixUp(1.0, interpolations=3),
    GMix(1.0, interpolations=3),
)


@dataclass(frozen=True)
class Comparison:
    """Test accuracies in [0, 1], one a seed, and the rates of training, the first epoch of every run not counted.

    ``sources_per_second`` images were read, ``outputs_per_second`` went through the model: K of each pair with K
    interpolations. Both are medians over the seeds.
    """

    accuracies: tuple[float, ...]
    sources_per_second: float
    outputs_per_second: float

    @property
    def spread(self) -> float:
        """The standard deviation over the seeds, 0 for one."""
        return stdev(self.accuracies) if len(self.accuracies) > 1 else 0.0


@dataclass
class Clock:
    """When each step ended; the first ``warm`` steps start what has to start, and are not counted."""

    warm: int
    then: Callable[[], None]
    ends: list[float] = field(default_factory=list)

    def __call__(self) -> None:
        self.ends.append(time.perf_counter())
        self.then()

    def steps_per_second(self) -> float:
        counted = self.ends[self.warm - 1 :]
        return (len(counted) - 1) / (counted[-1] - counted[0])


def write_digits(root: Path, size: int = 32) -> None:
    """Writes scikit-learn's digits as ``root/{train,test}/<digit>/<number>.jpg``, one in three for the test."""
    load_digits = _datasets().load_digits
    digits, labels = load_digits(return_X_y=True)
    test = set(Key(0).permutation(Stream.ORDER, len(digits))[: len(digits) // 3].tolist())
    for i, (pixels, label) in enumerate(zip(digits.reshape(-1, 8, 8), labels, strict=True)):
        folder = root / ("test" if i in test else "train") / str(label)
        folder.mkdir(parents=True, exist_ok=True)
        grey = Image.fromarray((pixels * (255 / 16)).astype(np.uint8))
        grey.resize((size, size), Image.Resampling.BICUBIC).save(folder / f"{i:04}.jpg", quality=95)


def write_photographs(root: Path, copies: int = 8) -> None:
    """Writes scikit-learn's two photographs as ``root/{temple,flower}/<copy>.jpg``: every copy is cropped in another way."""
    for name, pixels in zip(("temple", "flower"), _datasets().load_sample_images().images, strict=True):
        (root / name).mkdir(parents=True, exist_ok=True)
        for copy in range(copies):
            Image.fromarray(pixels).save(root / name / f"{copy}.jpg", quality=95)


def _datasets() -> Any:
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError("the demo needs scikit-learn: pip install 'mixstage[demo]'") from error
    return datasets


def few(labels: np.ndarray[Any, Any], per_class: int, seed: int) -> list[int]:
    """``per_class`` samples of each class, drawn from ``seed``; all of a class that has no more."""
    order = Key(seed).permutation(Stream.ORDER, len(labels))
    chosen = [order[labels[order] == label][:per_class] for label in np.unique(labels)]
    return sorted(np.concatenate(chosen).tolist())


def demo(
    out: Path = Path("demo"), epochs: int = 40, backend: str = "dali", *, root: Path | None = None, per_class: int = 10,
    seeds: int = 3, console: Console | None = None,
) -> dict[str, Comparison]:  # fmt: skip
    """Trains each of ``RUNS`` from ``seeds`` seeds, prints the table and draws ``out/preview.png``; returns the results.

    ``root`` is a folder with train/ and test/ or val/, each of class folders of small images; digits without.
    Raises ``ValueError`` naming what it lacks.
    """
    console = console or Console()
    photographs = root / "train" if root is not None else out / "photographs"
    if root is None:
        root = out / "digits"
        if not (root / "test" / "9").exists():
            console.print(f"writing 1,797 handwritten digits and two photographs as JPEGs to {out}")
            write_digits(root)
        write_photographs(photographs)
        data, looks = "digits", {"size": 16, "scale": (0.6, 1.0), "flip": 0.0}  # a digit is none upside down
    else:
        data, looks = "images", {"size": 32, "scale": (0.5, 1.0)}
    held_out = next((root / name for name in ("test", "val") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        raise ValueError(f"root must hold train/ and test/ or val/, got {root}")
    results = _compare(console, root / "train", held_out, epochs, per_class, seeds, {"backend": backend, **looks})
    title = f"{backend}: {epochs} epochs of {per_class} {data} a class, mean and spread of {seeds} seeds"
    rows = [
        [
            name,
            f"{mean(r.accuracies):.1%} (± {r.spread:.1%})",
            f"{r.sources_per_second:,.0f}",
            f"{r.outputs_per_second:,.0f}",
        ]
        for name, r in results.items()
    ]
    print_table(console, ["training", "test accuracy", "sources/s", "outputs/s"], rows, title)
    sheet = out / "preview.png"
    draw_sheet(photographs, SHOWN, sheet, backend=backend, size=128, scale=(0.5, 1.0))
    console.print(f"what every mixer does: {sheet}")
    return results


def _compare(
    console: Console, train_root: Path, test_root: Path, epochs: int, per_class: int, seeds: int, looks: dict[str, Any]
) -> dict[str, Comparison]:  # fmt: skip
    samples = open_source(train_root)
    plain = {"backend": looks["backend"], "size": looks["size"], "val_resize": looks["size"], "split": "val"}
    columns = (TextColumn("{task.description:24}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    found: dict[str, list[tuple[float, float, float]]] = {name: [] for name, _ in RUNS}
    with (
        Progress(*columns, console=console) as progress,
        ImageLoader(test_root, batch_size=4 * BATCH, **plain) as test,
    ):
        tasks = {name: progress.add_task(name, total=None) for name, _ in RUNS}
        for seed in range(seeds):  # round by round, so that what else the machine does weighs on all alike
            for name, mixer in RUNS:
                chosen = few(samples.labels, per_class, seed)
                options = {"batch_size": min(BATCH, len(chosen)), "seed": seed, "indices": chosen, **looks}
                with ImageLoader(samples, mixer=mixer, **options) as train:
                    progress.update(tasks[name], total=seeds * epochs * len(train))
                    clock = Clock(len(train) if epochs > 1 else 1, lambda task=tasks[name]: progress.advance(task))  # type: ignore[misc]
                    torch.manual_seed(seed)
                    result = fit(small_net(train.num_classes), train, test, epochs=epochs, on_step=clock)
                sources = clock.steps_per_second() * train.batch_size
                found[name].append((result.accuracy, sources, sources * (mixer.interpolations if mixer else 1)))
    columns_of = {name: list(zip(*rows, strict=True)) for name, rows in found.items()}
    return {name: Comparison(a, median(s), median(o)) for name, (a, s, o) in columns_of.items()}
