"""Puzzle-mix and FMix measured: how good the masks and the transport are against exact solvers, and what a plan costs.

python -m loaders.bench.puzzle --out benchmarks/results
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer

from mixops import Key
from mixops.mixers.fmix import FMix, low_frequency_fields
from mixops.mixers.saliency.puzzle import PuzzleMix
from mixops.mixers.saliency.puzzle_masks import block_saliency, solve_masks
from mixops.mixers.saliency.transport import auction, complete, exact_assignment

from ..figures import Json, console_for, write_json
from .measure import Quartiles, Report, alternate, conditions, quartiles, relative
from .puzzle_problems import (
    Pictures,
    best_constant_energies,
    digit_pictures,
    exact_masks,
    mask_energies,
    random_pictures,
)

BLOCKS = (2, 4, 8, 16)
ETA, T_EPS = 0.2, 0.8  # the authors'
_PACKAGES = ("PyMaxflow", "scipy", "numba")


def quality(pictures: dict[str, Pictures], interpolations: int = 5) -> Report:
    """The masks against minimum cuts, for 2 and 3 labels at every number of blocks."""
    rows = []
    for n_labels in (2, 3):
        for kind, some in pictures.items():
            for n in BLOCKS:
                problem, count = some.problem(n), len(some.images)
                lam = _lambdas(count, interpolations, n)
                exact, found = (
                    mask_energies(problem, solve(problem, lam, n_labels, ETA), lam, n_labels, ETA)
                    for solve in (exact_masks, solve_masks)
                )
                lost = (found - exact).sum() / (best_constant_energies(problem, lam, n_labels, ETA) - exact).sum()
                gap = 100 * (found - exact) / exact
                rows.append(
                    [kind, n_labels, f"{n} x {n}", count * interpolations, *_floats(gap.mean(), gap.max(), 100 * lost)]
                )
    columns = ["pictures", "labels", "blocks", "masks", "mean gap %", "largest gap %", "lost gain %"]
    notes = [
        "The gap is the energy above PyMaxflow's exact minimum, relative to it; the lost gain is the sum of the gaps over "
        "what the exact masks gain over the best mask of one value.",
    ]
    return Report("Puzzle-mix masks against exact minimum cuts", columns, rows, conditions(_PACKAGES), notes)


def transports(pictures: dict[str, Pictures]) -> Report:
    """Gain of the exact assignment and of the auction, and the saliency they reveal."""
    rows = []
    for kind, some in pictures.items():
        for n in BLOCKS:
            problem, count = some.problem(n), len(some.images)
            mask = solve_masks(problem, _lambdas(count, 1, n), 3, ETA)[:, 0].flatten(1)
            own = block_saliency(some.saliency, n).flatten(1)
            saliency, visible = torch.cat([own, own.roll(-1, 0)]), torch.cat([mask > 0, mask < 1])
            exact = complete(exact_assignment(saliency, visible, T_EPS))
            bought = complete(auction(saliency, visible, T_EPS))
            gains = [_gain(source, saliency, visible, n) for source in (exact, bought)]
            weight = torch.cat([mask, 1 - mask])
            shown = [
                float((weight * saliency.gather(1, source)).sum() / count)
                for source in (torch.arange(n * n).expand_as(exact), exact)
            ]
            moved = float((exact != torch.arange(n * n)).double().mean())
            rows.append(
                [
                    kind,
                    f"{n} x {n}",
                    gains[0] / len(saliency),
                    gains[1] / gains[0] if gains[0] > 0 else None,
                    100 * moved,
                    *shown,
                ]
            )
    columns = [
        "pictures",
        "blocks",
        "gain a problem",
        "auction / exact",
        "moved blocks %",
        "revealed before",
        "revealed after",
    ]
    notes = [
        "The gain is visible saliency less the cost of moving; the auction is what CUDA tensors get, run here on the CPU. "
        "Revealed is the saliency that a mask leaves visible, of two images with a share of 1 each. No ratio where nothing "
        "moves.",
    ]
    return Report("Puzzle-mix transport against the exact assignment", columns, rows, conditions(_PACKAGES), notes)


def costs(batch_size: int = 64, rounds: int = 9) -> Report:
    """Seconds of masks, plans and the exact solver in series, in the same rounds."""
    n, some = 16, random_pictures(batch_size)
    problem, lam = some.problem(n), _lambdas(batch_size, 5, 0)
    generator = torch.Generator().manual_seed(0)
    photos = torch.randint(0, 256, (batch_size, 3, 224, 224), dtype=torch.uint8, generator=generator)
    saliency = torch.nn.functional.interpolate(some.saliency[:, None], size=224, mode="bilinear")[:, 0]
    cases: dict[str, Callable[[], object]] = {}
    for n_labels in (2, 3):
        for k in (1, 5):
            cases[f"masks, {n_labels} labels, K={k}"] = _bind(solve_masks, problem, lam[:, :k], n_labels, ETA)
        cases[f"PyMaxflow in series, {n_labels} labels, K=5"] = _bind(exact_masks, problem, lam, n_labels, ETA)
    for k in (1, 5):
        mixer = PuzzleMix(1.0, interpolations=k, block_num=n)
        cases[f"puzzle-mix plan, 3 labels, K={k}"] = _bind(mixer.plan, Key(0), images=photos, saliency=saliency)
    fmix, fmix5 = FMix(1.0), FMix(1.0, interpolations=5)
    cases["FMix plan, B=256, K=1"] = _bind(fmix.plan, Key(0), batch_size=256, height=224, width=224)
    cases["FMix plan, B=64, K=5"] = _bind(fmix5.plan, Key(0), batch_size=64, height=224, width=224)
    seconds = alternate(cases, rounds=rounds, describe="puzzle-mix and FMix")
    rows: list[list[Any]] = []
    for name in cases:
        k1 = k5 = None
        if name.startswith("masks") and name.endswith("K=5"):
            k1 = relative(seconds, name, name[:-1] + "1")
            k5 = relative(seconds, name, f"PyMaxflow in series, {name[7:15]}, K=5")
        rows.append([name, _milliseconds(seconds[name]), k1, k5])
    rows += [[f"masks on an H200, 3 labels, K={k}", None, None, None] for k in (1, 5)]
    notes = [
        f"B={batch_size}, 16 x 16 blocks, unless it says otherwise; a plan is everything but the extra backward pass, for "
        "uint8 images of 224 x 224, transport included. PyMaxflow's time includes building its graphs from arrays.",
        "Rows without figures have not been measured: no such device was at hand.",
    ]
    columns = ["case", "milliseconds", "times K=1", "times PyMaxflow"]
    return Report("What plans of puzzle-mix and FMix cost", columns, rows, conditions(_PACKAGES), notes)


def spectrum(fields: int = 1000, side: int = 224) -> Report:
    """Energy of FMix's fields along the two axes against theory."""
    drawn = low_frequency_fields(Key(0), fields, side, side)
    energy = np.zeros((side, side))
    for some in np.array_split(drawn, max(fields // 100, 1)):
        energy += (np.abs(np.fft.fft2(some)) ** 2).sum(0)
    frequency = np.fft.fftfreq(side)
    theory = np.maximum(np.hypot(frequency[:, None], frequency), 1 / side) ** -6.0
    theory[0, 0] = 0
    energy, theory = energy / energy.sum(), theory / theory.sum()
    axes = {"horizontal": frequency**2, "vertical": frequency[:, None] ** 2}
    ratios = {name: float((energy * axis).sum() / (theory * axis).sum()) for name, axis in axes.items()}
    rows: list[list[Any]] = [[f"{name} energy / theory", ratio] for name, ratio in ratios.items()]
    rows.append(["horizontal / vertical energy", ratios["horizontal"] / ratios["vertical"]])
    rows.append(["energy at |k| > 1, not of either axis alone", float(energy[2:-1, 2:-1].sum() / theory[2:-1, 2:-1].sum())])
    return Report(
        f"Spectrum of {fields} FMix fields of {side} x {side}", ["quantity", "ratio"], rows, conditions(("numba",)),
        ["The energy of a direction is that of the gradient along it."],
    )  # fmt: skip


def puzzle(
    out: Annotated[
        Path | None, typer.Option(help="Folder for puzzle-*.md and .json; nothing is written without it.")
    ] = None,
    count: Annotated[int, typer.Option(help="Problems of each kind.")] = 200,
    rounds: Annotated[int, typer.Option(help="Rounds of timing.")] = 9,
    json_file: Json = None,
) -> None:
    """Measure what puzzle-mix and FMix cost."""
    pictures = {"random": random_pictures(count), "digits": digit_pictures(count)}
    parts: dict[str, Callable[[], Report]] = {
        "cost": lambda: costs(rounds=rounds),
        "quality": lambda: quality(pictures),
        "transport": lambda: transports(pictures),
        "spectrum": spectrum,
    }
    written = []
    for name, measure in parts.items():
        report = measure()
        report.show(console_for(json_file))
        written.append(report.figures())
        if out is not None:
            report.save(out, f"puzzle-{name}")
    write_json(json_file, written)


def _lambdas(count: int, k: int, seed: int) -> torch.Tensor:
    return torch.rand(count, k, generator=torch.Generator().manual_seed(seed)).sort(1, descending=True).values


def _gain(source: torch.Tensor, saliency: torch.Tensor, visible: torch.Tensor, n: int) -> float:
    """Visible saliency that a transport adds, less its cost, summed over problems."""
    y, x = np.divmod(np.arange(n * n), n)
    square = torch.from_numpy((y[:, None] - y) ** 2 + (x[:, None] - x) ** 2) / (n - 1) ** 2
    added = saliency.gather(1, source) - saliency - T_EPS * square[torch.arange(n * n), source]
    return float((added.double() * visible).sum())


def _bind(function: Callable[..., object], *args: Any, **kwargs: Any) -> Callable[[], object]:
    return lambda: function(*args, **kwargs)


def _floats(*values: torch.Tensor) -> list[float]:
    return [float(value) for value in values]


def _milliseconds(seconds: np.ndarray) -> Quartiles:
    return quartiles(1e3 * seconds)


if __name__ == "__main__":
    typer.run(puzzle)
