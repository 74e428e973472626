"""How far ``decode="fast"`` is from decoding all of an image: ``python -m benchmarks.fast_decoding IMAGES``.

For outputs of several sizes, under the crops of training and of validation, with Pillow. Only images that are decoded at a
fraction count: the others are the same. ``IMAGES`` is a folder of class folders.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.progress import track

from loaders.bench.measure import Report, conditions
from loaders.sources import Folder
from mixops import CenterCrop, Key, RandomResizedCrop
from mixops.augment.crop_plan import CropPlan, draw_crops
from mixops.augment.flips import Flip
from pipelines import pillow
from pipelines.scaled_decode import decode_scale

SIZES = (64, 112, 160, 224)
LAWS = (RandomResizedCrop(), CenterCrop())
COLUMNS = (
    "output", "crop", "at 1/2", "at 1/4", "at 1/8", "mean difference", "of the worst image", "99 % of pixels below",
    "brightness", "exact ms", "fast ms",
)  # fmt: skip


def compare(data: bytes, crops: CropPlan, row: int) -> list[float] | None:
    """Scale, mean difference, its 99th percentile, that of the brightness, and milliseconds of both, or None where equal."""
    scale = decode_scale(crops, row)
    if scale == 1:
        return None
    began = time.thread_time()
    exact = pillow.crop(pillow.decode(data), crops, row)
    between = time.thread_time()
    fast = pillow.crop(pillow.decode_scaled(data, scale)[0], crops, row, scale)
    ended = time.thread_time()
    apart = fast.astype(float) - exact
    levels = np.abs(apart)
    return [
        scale,
        levels.mean(),
        float(np.percentile(levels, 99)),
        apart.mean(),
        1e3 * (between - began),
        1e3 * (ended - between),
    ]


def main(
    images: Annotated[Path, typer.Argument(help="A folder of class folders.", exists=True, file_okay=False)],
    every: Annotated[int, typer.Option(min=1, help="Take one image of so many.")] = 1,
    save: Annotated[Path | None, typer.Option(help="Folder for fast-decoding.md and .json.")] = None,
) -> None:
    """Measures, prints, and saves."""
    source = Folder(images)
    samples = range(0, len(source), every)
    sizes = source.sizes[list(samples)]
    rows = []
    for side in SIZES:
        for law in LAWS:
            crops = draw_crops(Key(1), np.arange(len(samples)), sizes, law, Flip(0.0), (side, side))
            found = [compare(source.read(sample), crops, row) for row, sample in enumerate(track(samples, transient=True))]
            scaled = np.array([one for one in found if one is not None]).reshape(-1, 6)
            counts = [str(int((scaled[:, 0] == scale).sum())) for scale in (2, 4, 8)]
            figures = [float(scaled[:, column].mean()) if len(scaled) else None for column in range(1, 6)]
            worst = float(scaled[:, 1].max()) if len(scaled) else None
            rows.append([str(side), type(law).__name__, *counts, figures[0], worst, *figures[1:]])
    notes = [f"Of {len(samples)} images; grey levels of 255; milliseconds of processor an image, decoding, crop and resize."]
    report = Report("Fast decoding against exact, in grey levels", COLUMNS, rows, conditions(["pillow"]), notes)
    report.show()
    if save is not None:
        report.save(save, "fast-decoding")


if __name__ == "__main__":
    typer.run(main)
