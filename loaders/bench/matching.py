"""What k-mixup costs: the matching by itself, and the loader with it beside the same loader with plain mixup.

The limit is plain mixup, whose batches are read, decoded, blended and counted alike.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from mixops import Key, MixUp, OptimalMatching
from mixops.pairing.blocks import draw_blocks
from mixops.pairing.matching import assign
from mixops.pairing.thumbnails import features

from ..figures import Json, console_for, write_json
from ..image_loader import ImageLoader
from .measure import Report, alternate, conditions, quartiles, rate, relative
from .photos import write_photos


def stages(batch_size: int, k: int, size: int, rounds: int) -> Report:
    """Milliseconds of each stage of one batch's matching."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (batch_size, size, size, 3), dtype=torch.uint8, generator=generator).permute(0, 3, 1, 2)
    matching, blocks = OptimalMatching(k), draw_blocks(Key(), batch_size, k)
    cells = features(images, matching.resolution)
    distances = matching.distances(blocks, cells)
    cases: dict[str, Callable[[], object]] = {
        "averages of cells": partial(features, images, matching.resolution),
        "distances": partial(matching.distances, blocks, cells),
        "assignment": partial(assign, distances, k),
        "matching alone": lambda: assign(matching.distances(blocks, cells), k),
        "copy of the batch": partial(torch.empty_like(images).copy_, images),
    }
    seconds = alternate(cases, rounds=rounds, at_least=0.05, describe="matching")
    rows = [[name, quartiles(1000 * seconds[name]), relative(seconds, name, "copy of the batch")] for name in cases]
    notes = [f"{batch_size} images of {size} x {size}, k = {k}, uint8 channels-last; {rounds} alternated rounds, quartiles."]
    return Report(
        "What matching a batch costs", ["stage", "milliseconds", "times a copy"], rows, conditions(("scipy",)), notes
    )


def throughput(root: Path, batch_size: int, k: int, size: int, rounds: int, backend: Any) -> Report:
    """Images per second of the loader with k-mixup, with mixup and without mixing, whole epochs in turn."""
    mixers = {"no mixing": None, "mixup": MixUp(1.0), "k-mixup": MixUp(1.0, matching=OptimalMatching(k))}
    loaders = {
        name: ImageLoader(root, backend=backend, batch_size=batch_size, size=size, mixer=m) for name, m in mixers.items()
    }
    cases = {name: partial(_epoch, loader) for name, loader in loaders.items()}
    seconds = alternate(cases, rounds=rounds, describe="loading")
    images = len(loaders["mixup"]) * batch_size
    rows = [[name, rate(seconds, name, images), quartiles(seconds["mixup"] / seconds[name])] for name in cases]
    for loader in loaders.values():
        loader.close()
    notes = [
        f"{backend}, {images} images an epoch, batches of {batch_size}, k = {k}, {size} x {size}; {rounds} rounds in turn."
    ]
    packages = ("nvidia-dali-cuda130", "scipy")
    return Report("The loader with k-mixup", ["mixing", "images/s", "of mixup's"], rows, conditions(packages), notes)


def _epoch(loader: ImageLoader) -> None:
    for _ in loader:
        pass


def matching(
    root: Annotated[Path | None, typer.Argument(help="Folder of class folders; by default synthetic photographs.")] = None,
    batch_size: Annotated[int, typer.Option(min=2)] = 256,
    k: Annotated[int, typer.Option(min=1)] = 32,
    size: Annotated[int, typer.Option(min=1)] = 224,
    images: Annotated[int, typer.Option(min=2, help="Synthetic photographs.")] = 1024,
    rounds: Annotated[int, typer.Option(min=1)] = 5,
    backend: Annotated[str, typer.Option(help="dali, ffcv or torchvision.")] = "dali",
    json_file: Json = None,
    save: Annotated[Path | None, typer.Option(help="Folder for k-mixup-*.md and .json.")] = None,
) -> None:
    """Measure what k-mixup costs, by itself and in the loader."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = root or write_photos(Path(scratch, "images"), images)
        reports = {
            "k-mixup-matching": stages(batch_size, k, size, 5 * rounds),
            "k-mixup-loader": throughput(folder, batch_size, k, size, rounds, backend),
        }
    for name, report in reports.items():
        report.show(console_for(json_file))
        if save is not None:
            report.save(save, name)
    write_json(json_file, [report.figures() for report in reports.values()])
