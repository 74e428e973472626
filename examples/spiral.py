"""Two noisy spirals without mixing, with manifold mixup, and with manifold multi-mix (arXiv 2406.01417, section IV-A).

    python examples/spiral.py --out spiral.png
    python examples/spiral.py --seeds 10 --save benchmarks/results

1,000 points of which 40 % train, a fifth of those with the wrong label; eight hidden layers of six units; mixing after
hidden layer 1 or 2; Adam at 0.01 with weight decay; 3,000 epochs of batches of 256. The paper's activation is not said;
tanh here, because ReLU nets of this shape mostly do not train.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import Progress
from torch import Tensor, nn

from mixstage.loaders.bench.measure import Report, conditions
from mixstage.mixops import Key, ManifoldMix, MixUp, soft_cross_entropy
from mixstage.mixops.key import Stream

PUBLISHED = {"no mixing": 90.67, "manifold mixup, K = 1": 94.17, "manifold multi-mix, K = 5": 97.50}
METHODS = {"no mixing": 0, "manifold mixup, K = 1": 1, "manifold multi-mix, K = 5": 5}  # interpolations


class Points(NamedTuple):
    """Points (n, 2) and their classes (n,)."""

    x: Tensor
    y: Tensor


def spirals(n: int, seed: int, noise: float = 0.1) -> Points:
    """Two interleaved spirals of one and a half turns, radius 1 to about 5."""
    u = torch.from_numpy(Key(seed).uniform(Stream.ORDER, (4, n))).float()
    y = torch.arange(n) % 2
    angle = 3 * torch.pi * u[0].sqrt()
    radius = angle / 2 + 0.3
    around = angle + torch.pi * y
    jitter = torch.stack([(-2 * (1 - u[2]).log()).sqrt() * f(2 * torch.pi * u[3]) for f in (torch.cos, torch.sin)], 1)
    return Points(radius[:, None] * torch.stack([around.cos(), around.sin()], 1) + noise * jitter, y)


def network() -> nn.Sequential:
    """Eight hidden layers of six units; children 2 and 4 are the outputs of hidden layers 1 and 2."""
    widths = [2, *[6] * 8]
    hidden = [layer for a, b in pairwise(widths) for layer in (nn.Linear(a, b), nn.Tanh())]
    return nn.Sequential(*hidden, nn.Linear(6, 2))


def train(points: Points, interpolations: int, epochs: int, seed: int, progress: Progress) -> nn.Module:
    """Trains a network, with K interpolations of hidden activations where K > 0."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = network()
    mix = ManifoldMix(model, [2, 4], MixUp(1.0, interpolations=max(interpolations, 1)))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, weight_decay=1e-4)
    task = progress.add_task(f"K = {interpolations}, seed {seed}", total=epochs)
    for epoch in range(epochs):
        order = torch.from_numpy(Key(seed, epoch).permutation(Stream.ORDER, len(points.x)))
        for step, rows in enumerate(order.split(256)):
            x, y = points.x[rows], points.y[rows]
            if interpolations:
                logits, targets = mix(x, y, key=Key(seed, epoch, step), num_classes=2)
                loss = soft_cross_entropy(logits, targets)
            else:
                loss = F.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        progress.advance(task)
    progress.remove_task(task)
    return model


@torch.no_grad()
def accuracy(model: nn.Module, points: Points) -> float:
    """Share of right answers."""
    return (model(points.x).argmax(1) == points.y).float().mean().item()


def draw(path: Path, models: dict[str, nn.Module], points: Points, scores: dict[str, float]) -> None:
    """Decision maps with the training points, wrong labels included, one panel a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    side = torch.linspace(-6, 6, 300)
    grid = torch.cartesian_prod(side, side)
    figure, panels = pyplot.subplots(1, len(models), figsize=(4.2 * len(models), 4.4), layout="constrained")
    for panel, (name, model) in zip(panels, models.items(), strict=True):
        with torch.no_grad():
            share = model(grid).softmax(1)[:, 1].view(300, 300).T.numpy()
        panel.imshow(share, extent=(-6, 6, -6, 6), origin="lower", cmap="RdBu", vmin=0, vmax=1, alpha=0.6)
        panel.scatter(*points.x.T.numpy(), c=points.y.numpy(), cmap="RdBu", s=8, edgecolors="black", linewidths=0.3)
        panel.set(title=f"{name}: {scores[name]:.1%}", xticks=[], yticks=[])
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def report(scores: dict[str, list[float]], epochs: int) -> Report:
    """The mean over runs beside what is published."""
    rows = [
        [name, round(100 * sum(values) / len(values), 1), " ".join(f"{value:.1%}" for value in values), PUBLISHED[name]]
        for name, values in scores.items()
    ]
    notes = [
        "Published: multi-mix (arXiv 2406.01417), section IV-A, of one data set and network whose details it leaves open."
    ]
    columns = ["method", "held-out accuracy, %", "of runs", "published, %"]
    return Report(f"Spiral, {epochs} epochs", columns, rows, conditions(()), notes)


def main(
    out: Annotated[Path, typer.Option(help="Where the decision maps go.")] = Path("spiral.png"),
    epochs: Annotated[int, typer.Option(min=1)] = 3000,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method; the first is drawn.")] = 1,
    save: Annotated[Path | None, typer.Option(help="Folder for spiral.md and spiral.json.")] = None,
) -> None:
    """Train the three networks, print held-out accuracies, draw decision maps."""
    clean = spirals(1000, seed=0)
    held_out = Points(clean.x[400:], clean.y[400:])
    wrong = torch.from_numpy(Key(1).uniform(Stream.ORDER, (400,))) < 0.2
    points = Points(clean.x[:400], torch.where(wrong, 1 - clean.y[:400], clean.y[:400]))
    models: dict[str, nn.Module] = {}
    scores: dict[str, list[float]] = {name: [] for name in METHODS}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for seed in range(seeds):
            for name, interpolations in METHODS.items():
                model = train(points, interpolations, epochs, seed, progress)
                models.setdefault(name, model)
                scores[name].append(accuracy(model, held_out))
    told = report(scores, epochs)
    told.show()
    if save is not None:
        told.save(save, "spiral")
    draw(out, models, points, {name: values[0] for name, values in scores.items()})
    typer.echo(f"decision maps: {out}")


if __name__ == "__main__":
    typer.run(main)
