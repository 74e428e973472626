"""``mixstage bench pipeline``: images/s of every backend with and without mixing, against what people use today.

Six parts, each a table: ``loaders`` (every loader alone, against torchvision's DataLoader, plain DALI, plain FFCV and
decoding alone), ``stages`` (the processor time of an image by stage, on the CPU whatever the device), ``mixers`` (what each
mixer and each K costs), ``augment`` (what each policy costs), ``cores`` (1, 2, 4, ... of them) and ``training`` (a step on a
batch that is there already, the loader alone, and both together). ``epoch_timing`` says what is timed.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from ..backends.base import is_installed
from ..cli.convert import convert
from ..figures import Json, console_for, write_json
from ..processors import usable_processors
from .measure import Report
from .peers import Setting
from .photos import write_photos
from .pipeline_alone import measure_loaders, measure_mixers
from .pipeline_augment import measure_augmentation
from .pipeline_cores import measure_cores, run_with_cores
from .pipeline_stages import measure_stages
from .pipeline_training import measure_training


class Part(str, Enum):
    """The tables."""

    LOADERS = "loaders"
    STAGES = "stages"
    MIXERS = "mixers"
    AUGMENT = "augment"
    CORES = "cores"
    TRAINING = "training"


# parts that are left out without, unless asked for
_NEEDS = {Part.STAGES: "nvidia.dali", Part.AUGMENT: "nvidia.dali", Part.TRAINING: "torchvision"}


def pipeline(
    root: Annotated[Path | None, typer.Argument(help="Folder of class folders; by default synthetic JPEGs.")] = None,
    part: Annotated[list[Part] | None, typer.Option(help="May be repeated; by default all.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Synthetic images.")] = 1536,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    size: Annotated[int, typer.Option(min=1, help="Side of the output in pixels.")] = 224,
    only: Annotated[list[str] | None, typer.Option(help="Contestants of this name; may be repeated.")] = None,
    cores: Annotated[int, typer.Option(min=0, help="Processors to use; 0: all.")] = 0,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    device: Annotated[str, typer.Option(help="cuda or cpu; by default what is there.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for pipeline-*.md, .json and .png.")] = None,
    json_file: Json = None,
) -> None:
    """Measure the loaders: images/s with and without mixing, against torchvision, plain DALI, plain FFCV and decoding."""
    parts = part or [one for one in Part if is_installed(_NEEDS.get(one, "torch"))]
    if only and not {*parts} <= {Part.LOADERS, Part.MIXERS, Part.AUGMENT}:
        raise typer.BadParameter("only takes contestants of --part loaders, mixers or augment", param_hint="--only")
    if cores and cores < usable_processors():
        raise typer.Exit(run_with_cores(cores, sys.argv))
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = root or write_photos(Path(scratch, "images"), images)
        beton = Path(scratch, "images.beton")
        setting = Setting(folder, beton, batch_size, size, usable_processors(), device)
        if is_installed("ffcv") and device == "cpu" and {*parts} & {Part.LOADERS, Part.CORES}:
            convert(folder, beton)
        measures: dict[Part, Callable[[Setting, int], Report]] = {
            Part.LOADERS: partial(measure_loaders, only=only), Part.STAGES: measure_stages,
            Part.MIXERS: partial(measure_mixers, only=only), Part.AUGMENT: partial(measure_augmentation, only=only),
            Part.CORES: measure_cores, Part.TRAINING: measure_training,
        }  # fmt: skip
        for chosen in parts:
            report = measures[chosen](setting, rounds)
            report.show(console_for(json_file))
            written.append(report.figures())
            if out is not None:
                stem = f"pipeline-{chosen.value}-{'cpu' if chosen is Part.STAGES else device}"
                report.save(out, stem)
                report.chart(out / f"{stem}.png", "images/s" if "images/s" in report.columns else report.columns[1])
    write_json(json_file, written)
