"""Tries tile sizes of the fused CUDA kernels on the device that is there: ``python -m benchmarks.tiles``.

``mixops.kernels.blend.launch.TILES`` holds what came out best. Each tile is timed with one output and with five, with boxes
and with bells, as the share of the bandwidth of a copy of as many bytes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from loaders.bench.device import copy_seconds, graph_seconds, run_ahead
from loaders.bench.kernel_calls import FORMATS, batches
from loaders.bench.kernels_cuda import DEVICE, kernel_call
from loaders.bench.measure import Report, conditions
from mixops import GMix, HMix
from mixops.kernels.blend.launch import Tile

DTYPES = {"float16": torch.float16, "float32": torch.float32}
CASES = (("HMix", 1), ("GMix", 1), ("GMix", 5))  # mixer, outputs


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

    def call(self, images: list[torch.Tensor], tile: Tile) -> Callable[[], None]:
        """A launch over the next of ``images``."""
        mixer = (HMix if self.mixer == "HMix" else GMix)(interpolations=self.k)
        return kernel_call(mixer, images, self.layout, DTYPES[self.dtype], tile)


def candidates() -> Iterator[Tile]:
    """What is tried."""
    for warps, each, rows, across in product((1, 2, 4), (1, 2), (1, 2, 4, 8), (False, True)):
        if 2 <= each * rows <= 4 or (each, rows) == (1, 8):
            yield Tile(32 * warps * each, rows, warps, across)


def compile_tile(problem: Problem, tile: Tile) -> None:
    """Leaves the compiled kernel in Triton's cache on disk; run in a process of its own."""
    problem.call(batches(2, 224, DEVICE), tile)()


def run(batch: int = 256, size: int = 224) -> Report:
    """Times every candidate for every problem."""
    from rich.console import Console
    from rich.progress import track

    problems = [Problem(dtype, layout, *case) for dtype, layout, case in product(DTYPES, FORMATS, CASES)]
    tiles = list(candidates())
    console = Console(stderr=True)
    run_ahead([partial(compile_tile, problem, tile) for problem in problems for tile in tiles], "compiling")
    images = batches(batch, size, DEVICE)
    shares: dict[tuple[str, str], dict[Tile, list[float]]] = {}
    copies: dict[int, float] = {}
    for problem in track(problems, "timing", console=console):
        count = problem.bytes(batch, size)
        if count not in copies:
            copies[count] = copy_seconds(count)()
        at = shares.setdefault((problem.dtype, problem.layout), {})
        for tile in tiles:
            seconds = graph_seconds(problem.call(images, tile))()
            at.setdefault(tile, []).append(copies[count] / seconds)
    rows: list[list[Any]] = []
    for (dtype, layout), found in shares.items():
        for k in (1, 5):
            asked = [i for i, case in enumerate(CASES) if case[1] == k]
            least = {tile: min(found[tile][i] for i in asked) for tile in tiles}
            best = sorted(tiles, key=lambda tile: -least[tile])[:6]
            rows += [[dtype, layout, k, t.block, t.rows, t.warps, str(t.across), *found[t], least[t]] for t in best]
    cases = [f"{mixer}, K={k}" for mixer, k in CASES]
    notes = [f"Shares of the bandwidth of a copy of the same bytes, {batch} images of {size} x {size}; the six best tiles."]
    columns = ["result", "layout", "best for K", "block", "rows", "warps", "across", *cases, "least for K"]
    return Report("Tiles of the fused CUDA kernels", columns, rows, conditions(("triton",)), notes)


def tiles(save: Annotated[Path | None, typer.Option(help="Folder for kernel-tiles.md and .json.")] = None) -> None:
    """Try tile sizes of the fused kernels on this CUDA device."""
    report = run()
    report.show()
    if save is not None:
        report.save(save, "kernel-tiles-cuda")


if __name__ == "__main__":
    typer.run(tiles)
