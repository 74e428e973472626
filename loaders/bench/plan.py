"""What drawing a plan costs, beside its random words alone and beside timm's draws of the same batch.

python -m loaders.bench.plan --save benchmarks/results

A plan holds lambda, box or bump, and label weight of every row and output. timm's ``mode="elem"`` draws lambda and box of
every row and corrects lambda by the clipped box, the same work for K = 1. The words are what no draw can do without.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from mixops import Key, Switch
from mixops.key import Stream
from mixops.mixers.base import Mixer
from mixops.mixers.registry import examples

from ..figures import Json
from .measure import Quartiles, Report, alternate, conditions, quartiles, relative

LIMITS = {1: 1.0, 5: 3.0}  # milliseconds that a plan may cost for K outputs a pair


def run(batch_size: int = 256, size: int = 224, rounds: int = 15) -> Report:
    """The cost of a plan of every mixer for K = 1 and 5, on one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return _run(batch_size, size, rounds)
    finally:
        torch.set_num_threads(before)


def _run(batch_size: int, size: int, rounds: int) -> Report:
    mixers = examples()
    cases: dict[str, Callable[[], object]] = {
        _name(mixer, k): partial(mixer.replace(interpolations=k).plan, Key(), batch_size=batch_size, height=size, width=size)
        for mixer in mixers
        for k in LIMITS
    }
    words = {f"words {k}": partial(_words, batch_size, k) for k in LIMITS}
    peers = {"timm": partial(_timm, batch_size, size)}
    seconds = alternate({**cases, **words, **peers}, rounds=rounds, at_least=0.02, describe="drawing plans")
    rows: list[list[Any]] = []
    for mixer in mixers:
        for k, limit in LIMITS.items():
            name = _name(mixer, k)
            cost = quartiles(1000 * seconds[name])
            rows.append([
                _short_name(mixer), k, cost, limit, "yes" if cost.median <= limit else "no",
                relative(seconds, name, f"words {k}"), relative(seconds, name, "timm") if k == 1 else None,
                _peak(cases[name]) / 2**20, batch_size * k * size * size * 4 / 2**20,
            ])  # fmt: skip
    timm: Quartiles = quartiles(1000 * seconds["timm"])
    columns = ["mixer", "K", "ms a plan", "limit ms", "within", "x words", "x timm", "peak MiB", "MiB of its masks"]
    notes = [
        f"Batches of {batch_size} at {size}x{size}, one thread; medians and quartiles of {rounds} alternated rounds.",
        f"timm's mode='elem' draws lambda and box of a CutMix batch in {timm} ms. The masks are float32, were they made.",
    ]
    return Report("What a plan costs", columns, rows, conditions(("scipy", "timm")), notes)


def _words(batch_size: int, k: int) -> None:
    Key().permutation(Stream.PAIRING, batch_size)
    Key().uniform(Stream.MIX, (batch_size, 4 + 3 * k))


def _timm(batch_size: int, size: int) -> None:
    try:
        from timm.data.mixup import Mixup, cutmix_bbox_and_lam
    except ImportError as error:
        raise ImportError("the peer of this benchmark is timm: pip install 'mixstage[bench]'") from error
    lam, _ = Mixup(mixup_alpha=0.0, cutmix_alpha=1.0, mode="elem")._params_per_elem(batch_size)
    for i in range(batch_size):
        lam[i] = cutmix_bbox_and_lam((3, size, size), lam[i])[1]


def _peak(draw: Callable[[], object]) -> float:
    """The most bytes that were allocated at once while drawing."""
    tracemalloc.start()
    draw()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return float(peak)


def _short_name(mixer: Mixer) -> str:
    if isinstance(mixer, Switch):
        return "Switch of " + " and ".join(type(member).__name__ for member in mixer.mixers)
    return type(mixer).__name__


def _name(mixer: Mixer, k: int) -> str:
    return f"{_short_name(mixer)} {k}"


def plan(
    batch_size: Annotated[int, typer.Option(min=1, help="Images in a batch.")] = 256,
    size: Annotated[int, typer.Option(min=1, help="Side of the images in pixels.")] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Alternated rounds.")] = 15,
    json_file: Json = None,
    save: Annotated[Path | None, typer.Option(help="Folder for plan.md and plan.json.")] = None,
) -> None:
    """Measure what drawing a plan costs, beside its random words and beside timm."""
    report = run(batch_size, size, rounds)
    report.tell(json_file)
    if save is not None:
        report.save(save, "plan")


if __name__ == "__main__":
    typer.run(plan)
