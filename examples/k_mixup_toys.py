"""The toy experiments of k-mixup (arXiv 2106.02933): figures 1 to 3, and figure 5b on handwritten digits.

    python examples/k_mixup_toys.py --out benchmarks/results

Three distributions in the plane, a net of 130 and 120 hidden units, SGD as in section 5. The paper gives neither shapes nor
sizes; here they are 512 points of four bars at pitch 1, of two spirals of one and a half turns, and of a disc that touches
a ring. Writes accuracies beside the published ones (``k-mixup-toys``), what the nets have learnt (``k-mixup-decisions.png``,
figure 1), who is matched with whom (``k-mixup-couplings.png``, figure 2), and how far from their sources mixed digits are
(``k-mixup-digits``).
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from jaxtyping import Float
from k_mixup_report import ALPHAS, DIGIT_ALPHAS, Points, digits_report, draw_couplings, draw_decisions, toys_report
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from mixstage.mixops import Key, MixUp, OptimalMatching, mix_images
from mixstage.mixops.key import Stream

POINTS, TEST_POINTS, BATCH = 512, 5000, 128
DIGIT_KS = (1, 2, 4, 8, 16, 32)


def one_ring(u: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
    """A disc of radius 1 and the ring of width a half around it."""
    label = (u[:, 0] < 0.5).astype(np.int64)
    radius = np.where(label, np.sqrt(1 + u[:, 1] * (1.5**2 - 1)), np.sqrt(u[:, 1]))
    return radius[:, None] * _direction(2 * np.pi * u[:, 2]), label


def four_bars(u: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Upright bars 0.3 wide and 2 high at pitch 1, of one class and the other in turn."""
    bar = (u[:, 0] * 4).astype(np.int64)
    return np.stack([bar - 1.5 + 0.3 * (u[:, 1] - 0.5), 2 * u[:, 2] - 1], 1), bar % 2


def swiss_roll(u: Float[np.ndarray, "n 3"]) -> tuple[np.ndarray, np.ndarray]:
    """Two spirals of one and a half turns, half a turn apart, that begin beside the centre."""
    label = (u[:, 0] < 0.5).astype(np.int64)
    s = 0.15 + 0.85 * u[:, 1]
    return 1.5 * s[:, None] * _direction(3 * np.pi * s + np.pi * label), label


DATA: dict[str, Callable[..., tuple[np.ndarray, np.ndarray]]] = {
    "One Ring": one_ring, "Four Bars": four_bars, "Swiss Roll": swiss_roll,
}  # fmt: skip


def draw_points(name: str, seed: int, n: int, start: int = 0) -> Points:
    """Points ``start`` to ``start + n`` of a data set and their classes."""
    points, labels = DATA[name](Key(seed).uniform(Stream.CROP, (n, 3), 3 * start))
    return torch.from_numpy(points).float(), torch.from_numpy(labels)


def train(name: str, k: int, alpha: float, seed: int, epochs: int) -> nn.Module:
    """A net trained by k-mixup: SGD .1, a tenth of it after a half and three quarters of the epochs, momentum, decay."""
    points, labels = draw_points(name, seed, POINTS)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = new_net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [epochs // 2, epochs * 3 // 4])
    mixer = MixUp(alpha, matching=OptimalMatching(k))
    for epoch in range(epochs):
        order = torch.from_numpy(Key(seed, epoch).permutation(Stream.ORDER, POINTS))
        for step, rows in enumerate(order.split(BATCH)):
            mixed, targets = mixer(points[rows], labels[rows], key=Key(seed, epoch, step), num_classes=2)
            optimizer.zero_grad()
            F.cross_entropy(net(mixed), targets).backward()
            optimizer.step()
        schedule.step()
    return net


@torch.no_grad()
def accuracy(net: nn.Module, name: str, seed: int) -> float:
    """Percent right on new points."""
    points, labels = draw_points(name, seed, TEST_POINTS, POINTS)
    return 100 * (net(points).argmax(1) == labels).float().mean().item()


def run(name: str, k: int, alpha: float, seed: int, epochs: int) -> tuple[float, dict[str, Tensor]]:
    """Accuracy and weights of one training, on one processor."""
    torch.set_num_threads(1)
    net = train(name, k, alpha, seed, epochs)
    return accuracy(net, name, seed), {key: value.detach() for key, value in net.state_dict().items()}


def run_all(jobs: Iterable[tuple[Any, ...]], workers: int) -> dict[tuple[Any, ...], tuple[float, dict[str, Tensor]]]:
    """``run`` of every job, on all processors."""
    jobs, done = list(jobs), {}
    spawn = multiprocessing.get_context("spawn")
    with Progress(console=Console(stderr=True)) as progress, ProcessPoolExecutor(workers, mp_context=spawn) as pool:
        task = progress.add_task("training", total=len(jobs))
        running = {pool.submit(run, *job): job for job in jobs}
        for future in as_completed(running):
            done[running[future]] = future.result()
            progress.advance(task)
    return done


def digit_distances(ks: Iterable[int], alphas: Iterable[float], trials: int) -> dict[int, tuple[float, list[float]]]:
    """Per k: mean squared distance of matched digits, and for each alpha that of mixed digits from the nearer source."""
    from sklearn.datasets import load_digits

    digits = torch.from_numpy(load_digits().images / 16).float()[:, None]  # (1797, 1, 8, 8) in [0, 1]
    found = {}
    for k in ks:
        cost, distances = [], [[] for _ in alphas]
        for trial in range(trials):
            rows = torch.from_numpy(Key(trial).permutation(Stream.ORDER, len(digits)))
            for step, part in enumerate(rows.split(BATCH)[:-1]):
                x, key = digits[part], Key(trial, 0, step)
                for values, alpha in zip(distances, alphas, strict=True):
                    mixer = MixUp(alpha, matching=OptimalMatching(k))
                    plan = mixer.plan(key, batch_size=BATCH, height=8, width=8, images=x)
                    mixed, other = mix_images(x, plan), x[torch.from_numpy(plan.partner)]
                    to_own, to_other = ((mixed - y).square().sum((1, 2, 3)) for y in (x, other))
                    values.append(torch.minimum(to_own, to_other).mean().item())
                cost.append((x - other).square().sum((1, 2, 3)).mean().item())
        found[k] = float(np.mean(cost)), [float(np.mean(values)) for values in distances]
    return found


def _direction(angle: np.ndarray) -> np.ndarray:
    return np.stack([np.cos(angle), np.sin(angle)], 1)


def new_net() -> nn.Module:
    """The paper's: hidden layers of 130 and 120 units."""
    return nn.Sequential(nn.Linear(2, 130), nn.ReLU(), nn.Linear(130, 120), nn.ReLU(), nn.Linear(120, 2))


def load_net(weights: dict[str, Tensor]) -> nn.Module:
    """A trained net."""
    net = new_net()
    net.load_state_dict(weights)
    return net


def partners(ks: Iterable[int], data: Mapping[str, Points]) -> dict[tuple[str, int], np.ndarray]:
    """Who is matched with whom in one batch."""
    size = {"batch_size": BATCH, "height": 1, "width": 2}
    return {
        (name, k): MixUp(matching=OptimalMatching(k)).plan(Key(), images=data[name][0], **size).partner
        for name, k in product(data, ks)
    }


def main(
    out: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = Path("k-mixup-toys"),
    k: Annotated[list[int] | None, typer.Option(help="May be repeated; 1, 2, 4, 8 and 16 by default.")] = None,
    alpha: Annotated[list[float] | None, typer.Option(help="May be repeated; .25, 1, 4, 16 and 64 by default.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each kind.")] = 3,
    epochs: Annotated[int, typer.Option(min=1)] = 200,
    trials: Annotated[int, typer.Option(min=1, help="Passes over the digits.")] = 20,
    workers: Annotated[int, typer.Option(min=0, help="Processes; 0: one a processor.")] = 0,
) -> None:
    """Train, tabulate and draw the toy experiments of k-mixup."""
    ks, alphas = k or [1, 2, 4, 8, 16], alpha or list(ALPHAS)
    out.mkdir(parents=True, exist_ok=True)
    found = run_all(product(DATA, ks, alphas, range(seeds), [epochs]), workers or os.cpu_count() or 1)
    right = {
        (name, k, alpha): [found[name, k, alpha, seed, epochs][0] for seed in range(seeds)]
        for name, k, alpha in product(DATA, ks, alphas)
    }
    toys = toys_report(right, [
        f"Means over {seeds} seeds; {POINTS} training points, {TEST_POINTS} test points, {epochs} epochs, batch {BATCH}. "
        "The paper's are means of 5 trials on shapes that it does not describe: compare the course over k and alpha."
    ])  # fmt: skip
    digits = digits_report(digit_distances(DIGIT_KS, DIGIT_ALPHAS, trials), [
        f"scikit-learn's 1,797 digits of 8x8 pixels in [0, 1], {trials} times in batches of {BATCH}; the paper's are "
        "MNIST's 28x28. \"relative to k = 1\" is the squared distance of the pairs; the paper's is its column alpha = 1."
    ])  # fmt: skip
    for report, stem in ((toys, "k-mixup-toys"), (digits, "k-mixup-digits")):
        report.show()
        report.save(out, stem)
    shown = 16.0 if 16.0 in alphas else alphas[-1]
    nets = {(name, k): load_net(found[name, k, shown, 0, epochs][1]) for name, k in product(DATA, ks)}
    data = {name: draw_points(name, 0, POINTS) for name in DATA}
    draw_decisions(nets, data, f"Probability of a class after k-mixup, α = {shown:g}", out / "k-mixup-decisions.png")
    batch = {name: draw_points(name, 0, BATCH) for name in DATA}
    draw_couplings(partners(DIGIT_KS, batch), batch, out / "k-mixup-couplings.png")


if __name__ == "__main__":
    typer.run(main)
