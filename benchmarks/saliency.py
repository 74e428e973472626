"""Saliency in the loader on real photographs, beside plain CutMix: ``python -m benchmarks.saliency IMAGES``.

``IMAGES`` is an image folder or a tar file of one. The DALI loader makes normalised batches of 224 x 224; all mixers take
turns in every round, each over the middle of an epoch. Beside images/s stands the CPU time of the whole process an image,
which other work on the machine disturbs least.
"""

from __future__ import annotations

import tarfile
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from loaders import ImageLoader
from loaders.bench.measure import Report, conditions, quartiles, take_turns
from mixops import parse_mixer

PLAIN = "CutMix(1.0)"
MIXERS = (
    "none",
    PLAIN,
    "CutMix(1.0, centre='saliency')",
    "CutMix(1.0, centre='saliency', interpolations=5)",
    "PuzzleMix(1.0, saliency='spectral')",
    "PuzzleMix(1.0, saliency='spectral', interpolations=5)",
)


def unpacked(source: Path, stack: ExitStack) -> Path:
    """The folder of images that ``source`` is, or that it holds."""
    if source.is_dir():
        return source
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
    with tarfile.open(source) as tar:
        tar.extractall(folder, filter="data")
    return folder


def epochs_of(loader: ImageLoader) -> Callable[[], Callable[[], tuple[float, float]]]:
    """Makes a measurement: seconds and CPU seconds an image (of the batch before mixing) in the middle of an epoch."""
    batches, batch_size = len(loader), loader.batch_size
    first, last = batches // 4, batches - batches // 4

    def measure() -> tuple[float, float]:
        began = (0.0, 0.0)
        for i, _ in enumerate(loader, 1):
            if i == first:
                began = time.perf_counter(), time.process_time()
            if i == last:
                ended = time.perf_counter(), time.process_time()
        images = (last - first) * batch_size
        return (ended[0] - began[0]) / images, (ended[1] - began[1]) / images

    def ready() -> Callable[[], tuple[float, float]]:
        measure()  # compiles
        return measure

    return ready


def run(source: Path, rounds: int, batch_size: int, batches: int, threads: int) -> Report:
    """Times every mixer."""
    with ExitStack() as stack:
        folder = unpacked(source, stack)
        cases = {}
        for text in MIXERS:
            options = {"batch_size": batch_size, "mixer": parse_mixer(text), "device": "cpu", "num_threads": threads}
            samples = len(ImageLoader(folder, **options).dataset)
            indices = np.resize(np.arange(samples), batch_size * batches)
            loader = stack.enter_context(ImageLoader(folder, indices=indices, **options))
            cases[text] = epochs_of(loader)
        taken = take_turns(cases, rounds=rounds, describe="loaders")  # type: ignore[arg-type]
    rows = []
    for text, seconds in taken.items():
        wall, cpu = seconds.T
        ratios = [quartiles(taken[PLAIN][:, i] / seconds[:, i]) for i in (0, 1)]
        rows.append([text, quartiles(1 / wall), ratios[0], quartiles(1e3 * cpu), ratios[1]])
    columns = ["mixer", "images/s", "speed beside CutMix", "ms of CPU an image", "CPU of CutMix beside it"]
    notes = [
        f"The DALI loader, {threads} threads, {samples} photographs over and over, batches of {batch_size}, float32 "
        "normalised; counted are images before mixing, of which K outputs a pair make K times as many. Medians of "
        f"{rounds} alternated rounds, quartiles in brackets.",
    ]
    return Report("Saliency in the loader", columns, rows, conditions(("nvidia-dali-cuda130", "numba")), notes)


def main(
    images: Annotated[Path, typer.Argument(help="An image folder or a tar file of one.", exists=True)],
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    batches: Annotated[int, typer.Option(min=4, help="Of an epoch; half of them are timed.")] = 12,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    save: Annotated[Path | None, typer.Option(help="Folder for saliency-loader-cpu.md and .json.")] = None,
) -> None:
    """Times mixers that follow saliency in the DALI loader."""
    torch.set_num_threads(threads)
    report = run(images, rounds, batch_size, batches, threads)
    report.show()
    if save is not None:
        report.save(save, "saliency-loader-cpu")


if __name__ == "__main__":
    typer.run(main)
