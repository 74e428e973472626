"""Tries tile sizes of the fused CUDA kernels on the device that is there: ``python -m loaders.bench.tiles``.

``mixops.kernels.launch.TILES`` holds what came out best. Each tile is timed over cases with one output and five, with boxes and
bells, as the share of the bandwidth of a copy of as many bytes; the best is the one whose least share is largest.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import cycle, product
from multiprocessing import get_context
from os import cpu_count
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from loaders.image_loader import IMAGENET_MEAN, IMAGENET_STD
from mixops import GMix, HMix, Key
from mixops.kernels.launch import Tile, choose, launch, upload

from .device import copy_seconds, graph_seconds
from .measure import Report, conditions

_SETS = 3
DTYPES = {"float16": torch.float16, "float32": torch.float32}
CASES = (("HMix", 1), ("GMix", 1), ("GMix", 5))  # mixer, outputs
_FORMATS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


@dataclass(frozen=True)
class Problem:
    """A kernel's work: uint8 pixels to ``k`` outputs."""

    dtype: str
    layout: str
    mixer: str
    k: int

    def bytes(self, batch: int, size: int) -> int:
        """Each source image read once, each output written once."""
        return batch * 3 * size * size * (1 + self.k * DTYPES[self.dtype].itemsize)

    def calls(self, batch: int, size: int, tile: Tile, sets: int) -> Any:
        """A launch that takes the next of ``sets`` pairs of buffers."""
        mixer = (HMix if self.mixer == "HMix" else GMix)(interpolations=self.k)
        plan = mixer.plan(Key(), batch_size=batch, height=size, width=size)
        dtype, form = DTYPES[self.dtype], _FORMATS[self.layout]
        shape = (batch, 3, size, size)
        works = []
        for _ in range(sets):
            images = torch.randint(0, 256, shape, dtype=torch.uint8, device="cuda").contiguous(
                memory_format=torch.channels_last
            )
            out = torch.zeros((batch * self.k, *shape[1:]), dtype=dtype, device="cuda").contiguous(memory_format=form)
            works.append((choose(images, out), out))
        there = upload(plan, *normalisation(), torch.device("cuda"))
        turns = cycle(works)

        def call() -> None:
            work, out = next(turns)
            launch(work, there, out, tile)

        return call


def normalisation() -> tuple[torch.Tensor, torch.Tensor]:
    """Scale and bias that normalise bytes as ImageNet's models expect."""
    mean, std = (torch.tensor(value, dtype=torch.float64) for value in (IMAGENET_MEAN, IMAGENET_STD))
    return 1 / (255 * std), -mean / std


def candidates() -> Iterator[Tile]:
    """What is tried."""
    for warps, each, rows, across in product((1, 2, 4), (1, 2), (1, 2, 4), (False, True)):
        if 2 <= each * rows <= 4:
            yield Tile(32 * warps * each, rows, warps, across)


def compile_tile(problem: Problem, tile: Tile) -> None:
    """Leaves the compiled kernel in Triton's cache on disk; run in a process of its own."""
    problem.calls(2, 224, tile, 1)()


def run(batch: int = 256, size: int = 224) -> Report:
    """Times every candidate for every problem."""
    from rich.console import Console
    from rich.progress import track

    problems = [Problem(dtype, layout, *case) for dtype, layout, case in product(DTYPES, _FORMATS, CASES)]
    tiles = list(candidates())
    console = Console(stderr=True)
    with ProcessPoolExecutor(max(1, (cpu_count() or 1) - 2), get_context("spawn")) as pool:
        waiting = [pool.submit(compile_tile, problem, tile) for problem in problems for tile in tiles]
        for future in track(waiting, "compiling", console=console):
            future.result()
    shares: dict[tuple[str, str], dict[Tile, list[float]]] = {}
    copies: dict[int, float] = {}
    for problem in track(problems, "timing", console=console):
        count = problem.bytes(batch, size)
        if count not in copies:
            copies[count] = copy_seconds(count)()
        at = shares.setdefault((problem.dtype, problem.layout), {})
        for tile in tiles:
            seconds = graph_seconds(problem.calls(batch, size, tile, _SETS))()
            at.setdefault(tile, []).append(copies[count] / seconds)
    rows: list[list[Any]] = []
    for (dtype, layout), found in shares.items():
        best = sorted(found, key=lambda tile: -min(found[tile]))
        rows += [[dtype, layout, t.block, t.rows, t.warps, str(t.across), *found[t], min(found[t])] for t in best[:8]]
    cases = [f"{mixer}, K={k}" for mixer, k in CASES]
    notes = [
        f"Shares of the bandwidth of a copy of the same bytes, {batch} images of {size} x {size}; the eight best tiles."
    ]
    columns = ["result", "layout", "block", "rows", "warps", "across", *cases, "least"]
    return Report("Tiles of the fused CUDA kernels", columns, rows, conditions(("triton",)), notes)


def tiles(save: Annotated[Path | None, typer.Option(help="Folder for kernel-tiles.md and .json.")] = None) -> None:
    """Try tile sizes of the fused kernels on this CUDA device."""
    report = run()
    report.show()
    if save is not None:
        report.save(save, "kernel-tiles-cuda")


if __name__ == "__main__":
    typer.run(tiles)
