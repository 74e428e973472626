"""``mixstage bench ffcv``: what mixing costs in FFCV's loader, and how long one waits for its first batch.

``MixLoader`` against plain FFCV with the same decoder, crop and flip, on JPEG records, loader alone. The first batch is
timed in processes of their own, which find, or do not find, code that was compiled before.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from ..figures import Json, console_for, write_json
from ..processors import usable_processors
from .epoch_timing import Open, measure_epochs
from .measure import Report, conditions, quartiles
from .peers import Setting
from .photos import write_photos

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
UNMIXED = "FFCV, NormalizeImage"
THEIRS = "FFCV, ImageMixup + NormalizeImage"
_CLASSES = 1000


class Part(str, Enum):
    """The tables."""

    START = "start"
    THROUGHPUT = "throughput"


def ffcv(
    root: Annotated[Path | None, typer.Argument(help="Folder of class folders; by default synthetic JPEGs.")] = None,
    part: Annotated[list[Part] | None, typer.Option(help="May be repeated; by default all.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Synthetic images.")] = 1024,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    size: Annotated[int, typer.Option(min=1, help="Side of the output in pixels.")] = 224,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    out: Annotated[Path | None, typer.Option(help="Folder for ffcv-*.md and .json.")] = None,
    json_file: Json = None,
) -> None:
    """Measure FFCV's loader with and without mixing, and the wait for its first batch."""
    from ..cli.convert import convert

    reports = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = root or write_photos(Path(scratch, "images"), images)
        cores = usable_processors()
        setting = Setting(folder, Path(scratch, "images.beton"), batch_size, size, cores, "cpu")
        convert(folder, setting.beton)
        for chosen in part or list(Part):
            report = {Part.START: measure_start, Part.THROUGHPUT: measure_throughput}[chosen](setting, rounds)
            report.show(console_for(json_file))
            reports.append(report.figures())
            if out is not None:
                report.save(out, f"ffcv-{chosen.value}-{setting.device}")
    write_json(json_file, reports)


def measure_throughput(setting: Setting, rounds: int) -> Report:
    """Images/s of the loaders alone."""
    from mixops import CutMix

    from . import peers

    loaders: dict[str, Callable[[], Any]] = {
        UNMIXED: lambda: plain_loader(setting, mixing=False),
        THEIRS: lambda: plain_loader(setting, mixing=True),
        "MixLoader, no mixing": lambda: mix_loader(setting, None),
        "MixLoader, CutMix": lambda: mix_loader(setting, CutMix()),
        "MixLoader, CutMix, K=4": lambda: mix_loader(setting, CutMix(interpolations=4)),
        "MixLoader, CutMix, records not verified": lambda: mix_loader(setting, CutMix(), verify=False),
    }

    cases: dict[str, Open] = {name: partial(_opened, make) for name, make in loaders.items()}
    cases["ImageLoader, CutMix"] = partial(peers.mixstage, setting, "ffcv", CutMix())
    rates = measure_epochs(setting, cases, rounds, "FFCV")
    rows = [
        [
            name,
            quartiles(rate),
            quartiles(rate / rates[UNMIXED]),
            quartiles(rates[UNMIXED] / rate),
            quartiles(rate / rates[THEIRS]),
        ]
        for name, rate in rates.items()
    ]
    columns = ["loader", "images/s", "x unmixed FFCV", "time, x unmixed FFCV", "x FFCV's ImageMixup"]
    notes = [
        "Source images a second, loader alone: with K = 4 each becomes four training images. Ratios are of one round.",
        "All decode, crop at random and flip on the CPU and give normalised float32 and, where they mix, dense targets. "
        "ImageLoader draws other crops and resizes with Pillow's filter.",
    ]
    title = f"FFCV on {setting.cores} cores: JPEG, random crop to {setting.size}, batches of {setting.batch_size}"
    return Report(title, columns, rows, conditions(("ffcv", "numba")), notes)


def _opened(make: Callable[[], Any]) -> AbstractContextManager[Callable[[], Iterable[Any]]]:
    loader = make()
    return nullcontext(lambda: loader)


def measure_start(setting: Setting, rounds: int) -> Report:
    """Seconds from the construction of a loader to its first batch, in a new process each time, imports not counted."""
    columns = ["loader", "compiled code on disk", "seconds to the first batch"]
    rows: list[list[Any]] = []
    with tempfile.TemporaryDirectory() as cache:
        for name, kind in (
            ("FFCV, NormalizeImage", "plain"),
            ("MixLoader, CutMix", "mix"),
            ("ImageLoader, CutMix", "image"),
        ):
            folder = Path(cache, kind)
            first = _start(setting, kind, folder)
            later = np.array([_start(setting, kind, folder) for _ in range(rounds)])
            rows += [[name, "no", first], [name, "yes", quartiles(later)]]
    notes = ["FFCV keeps no compiled code: its second line says how much its first varies."]
    return Report("FFCV: the wait for the first batch", columns, rows, conditions(("ffcv", "numba")), notes)


_START = """
import sys, time
from pathlib import Path
import torch
from loaders.bench import ffcv
kind, beton, batch_size, size, workers = sys.argv[1:]
setting = ffcv.Setting(Path(), Path(beton), int(batch_size), int(size), int(workers), "cpu")
from mixops import CutMix
if kind != "image":
    from pipelines.ffcv import loader as _
else:
    from loaders import ImageLoader
began = time.perf_counter()
if kind == "plain":
    loader = ffcv.plain_loader(setting, mixing=False)
elif kind == "mix":
    loader = ffcv.mix_loader(setting, CutMix())
else:
    options = {"batch_size": setting.batch_size, "num_threads": setting.cores, "device": "cpu"}
    loader = ImageLoader(beton, backend="ffcv", mixer=CutMix(), **options)
next(iter(loader))
print(time.perf_counter() - began)
"""


def _start(setting: Setting, kind: str, cache: Path) -> float:
    arguments = [kind, setting.beton, setting.batch_size, setting.size, setting.cores]
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache)}
    if kind == "plain":  # as FFCV is: nothing is kept
        environment.pop("NUMBA_CACHE_DIR")
    command = [sys.executable, "-c", _START, *map(str, arguments)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return float(done.stdout.split()[-1])


def plain_loader(setting: Setting, *, mixing: bool) -> Any:
    """FFCV as its users set it up, to normalised float32 on the CPU."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import Loader, OrderOption
    from ffcv.transforms import (
        ImageMixup,
        LabelMixup,
        MixupToOneHot,
        NormalizeImage,
        RandomHorizontalFlip,
        ToTensor,
        ToTorchImage,
    )  # fmt: skip

    scale = np.array([255.0] * 3)
    normalise = NormalizeImage(np.array(MEAN) * scale, np.array(STD) * scale, np.float32)
    side = (setting.size, setting.size)
    mixed = [ImageMixup(1.0, same_lambda=True)] if mixing else []
    targets = [LabelMixup(1.0, same_lambda=True), ToTensor(), MixupToOneHot(_CLASSES)] if mixing else [ToTensor()]
    image = [RandomResizedCropRGBImageDecoder(side), RandomHorizontalFlip(), *mixed, normalise, ToTensor(), ToTorchImage()]
    pipelines = {"image": image, "label": [IntDecoder(), *targets]}
    return Loader(
        str(setting.beton), setting.batch_size, setting.cores, order=OrderOption.RANDOM, pipelines=pipelines, seed=0
    )


def mix_loader(setting: Setting, mixer: Any, *, verify: bool = True) -> Any:
    """The same with ``MixImage`` in the place of ``ImageMixup`` and ``NormalizeImage``."""
    from ffcv.fields.basics import IntDecoder
    from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder
    from ffcv.loader import OrderOption
    from ffcv.transforms import RandomHorizontalFlip, ToTensor, ToTorchImage

    from pipelines.ffcv import MixImage, MixLabel, MixLoader

    decoder = RandomResizedCropRGBImageDecoder((setting.size, setting.size))
    image = [decoder, RandomHorizontalFlip(), MixImage(MEAN, STD), ToTensor(), ToTorchImage()]
    label = [IntDecoder(), ToTensor(), *([MixLabel(_CLASSES)] if mixer else [])]
    return MixLoader(
        setting.beton, setting.batch_size, setting.cores, order=OrderOption.RANDOM, seed=0, mixer=mixer, verify=verify,
        pipelines={"image": image, "label": label},
    )  # fmt: skip
