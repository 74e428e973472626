"""The loader of this checkout beside that of another one: ``python -m benchmarks.checkouts OTHER IMAGES``.

    git worktree add ../before v0.1.0
    python -m benchmarks.checkouts ../before imagenet/train

Each measures in processes of its own, with one interpreter and one set of libraries, round by round in turn: what a change
costs or gives shows as a ratio within a round. ``IMAGES`` is a folder of class folders.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from loaders.bench.measure import Report, conditions, quartiles, take_turns

ROOT = Path(__file__).parents[1]
BACKENDS = ("dali", "torchvision")
_RUN = """
import json, resource, sys, time
import torch
from loaders import ImageLoader
from mixops import HMix
root, backend, passes = sys.argv[1], sys.argv[2], int(sys.argv[3])
def processor_seconds():
    return resource.getrusage(resource.RUSAGE_SELF).ru_utime + resource.getrusage(resource.RUSAGE_SELF).ru_stime
with ImageLoader(root, backend=backend, batch_size=64, mixer=HMix(), device="cpu") as loader:
    for _ in loader: pass
    images, began, used = 0, time.perf_counter(), processor_seconds()
    for _ in range(passes):
        for batch, _ in loader: images += len(batch)
    print(json.dumps([images / (time.perf_counter() - began), 1e3 * (processor_seconds() - used) / images]))
"""


def measure(checkout: Path, images: Path, backend: str, passes: int) -> list[float]:
    """Images a second and milliseconds of processors an image, behind a first epoch that compiles and fills caches."""
    environment = {**os.environ, "PYTHONPATH": str(checkout)}
    command = [sys.executable, "-c", _RUN, str(images.absolute()), backend, str(passes)]
    done = subprocess.run(command, cwd=checkout, env=environment, capture_output=True, text=True, check=True)
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main(
    other: Annotated[Path, typer.Argument(help="Another checkout of mixstage.", exists=True, file_okay=False)],
    images: Annotated[Path, typer.Argument(help="A folder of class folders.", exists=True, file_okay=False)],
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    passes: Annotated[int, typer.Option(min=1, help="Epochs of one measurement.")] = 3,
    save: Annotated[Path | None, typer.Option(help="Folder for checkouts-cpu.md and .json.")] = None,
) -> None:
    """Measures, prints, and saves."""
    places = {"this": ROOT, "other": other.absolute()}
    used: dict[str, list[float]] = {}

    def start(name: str, place: Path, backend: str) -> Callable[[], float]:
        def once() -> float:
            rate, milliseconds = measure(place, images, backend, passes)
            used.setdefault(name, []).append(milliseconds)
            return rate

        return once

    cases = {
        f"{backend}, {name}": partial(start, f"{backend}, {name}", place, backend)
        for backend in BACKENDS for name, place in places.items()
    }  # fmt: skip
    rates = take_turns(cases, rounds=rounds, describe="loaders of two checkouts")
    rows = []
    for backend in BACKENDS:
        for name in places:
            case = f"{backend}, {name}"
            ratio = quartiles(rates[case] / rates[f"{backend}, other"])
            rows.append([case, quartiles(rates[case]), ratio, sorted(used[case])[len(used[case]) // 2]])
    report = Report(
        "Two checkouts: the loader with HMix",
        ["backend, checkout", "images/s", "x the other", "processor ms/image"],
        rows,
        conditions(["nvidia-dali-cuda130", "pillow"]) | {"other": _commit(other), "images": images.name},
    )
    report.show()
    if save is not None:
        report.save(save, "checkouts-cpu")


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--exclude=*"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip() or "no repository"


if __name__ == "__main__":
    typer.run(main)
