"""Pictures of a table's runs: ``python -m examples.cifar.figures cifar10 --out results``, after ``examples.cifar.table``.

Accuracy by method, curves, reliability diagrams, accuracy against the number of interpolations, and what more
interpolations of a pair do to the gradient of a step (multi-mix, arXiv 2406.01417, figure 8).
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from matplotlib import pyplot as plt
from rich.progress import track

from mixstage.mixops import MixUp
from mixstage.mixops.measures import gradient_moments

from .data import first_of_each_class, load
from .methods import Method
from .networks import network
from .table import BASELINE, FOR_K, run_file
from .train import Settings, training_loader

INTERPOLATIONS = (1, 2, 3, 5, 7, 9)
OF_K = {1: "mixup", 3: "mixup, K = 3", 5: "mixup, K = 5"}
SHOWN = (BASELINE, "mixup", "CutMix", "MultiMix", "label smoothing", "mixup, K = 5")
_BLUE, _GREY = "#3b6ea8", "#9a9a9a"


def load_runs(out: Path) -> dict[str, dict[int, Any]]:
    """All runs of a folder by method and seed."""
    found: dict[str, dict[int, Any]] = {}
    for file in sorted((out / "runs").glob("*.json")):
        one = json.loads(file.read_text())
        found.setdefault(one["method"], {})[one["seed"]] = one
    return found


def draw_accuracy(found: dict[str, dict[int, Any]], file: Path) -> None:
    """A dot a run and a stroke at the mean, methods in the order of their means; the baseline's is a line."""
    top = {name: [one["scores"]["top-1"] for one in runs.values()] for name, runs in found.items()}
    top = {name: values for name, values in top.items() if min(values) > 20}  # not that of shuffled labels
    names = sorted(top, key=lambda name: np.mean(top[name]))
    figure, axes = plt.subplots(figsize=(7, 0.28 * len(names) + 1), layout="constrained")
    for place, name in enumerate(names):
        axes.plot(top[name], [place] * len(top[name]), "o", color=_BLUE, alpha=0.6, markersize=4)
        axes.plot([np.mean(top[name])], [place], "|", color="black", markersize=12)
    axes.axvline(np.mean(top[BASELINE]), color=_GREY, linewidth=1)
    axes.set_yticks(range(len(names)), names)
    axes.set_xlabel("test accuracy, %")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_curves(found: dict[str, dict[int, Any]], file: Path) -> None:
    """Accuracy on the watched test images by epoch, the mean of the seeds."""
    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for name in SHOWN:
        if name in found:
            curve = np.mean([one["accuracies"] for one in found[name].values()], 0)
            axes.plot(range(1, len(curve) + 1), curve, label=name, linewidth=1.4)
    axes.set(xlabel="epoch", ylabel="test accuracy, %")
    axes.legend(fontsize=8)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def draw_reliability(found: dict[str, dict[int, Any]], file: Path) -> None:
    """How often answers are right by how sure they are, of the first seed."""
    names = [name for name in SHOWN if name in found]
    figure, grid = plt.subplots(
        1, len(names), figsize=(1.9 * len(names), 2.3), sharey=True, layout="constrained", squeeze=False
    )
    for axes, name in zip(grid[0], names, strict=True):
        bins = found[name][min(found[name])]["reliability"]
        axes.plot([0, 1], [0, 1], color=_GREY, linewidth=1)
        axes.bar(np.arange(10) / 10 + 0.05, np.nan_to_num(bins["accuracy"]), 0.09, color=_BLUE)
        axes.set_title(name, fontsize=8)
        axes.set_xlabel("confidence", fontsize=8)
    grid[0][0].set_ylabel("accuracy")
    figure.savefig(file, dpi=110)
    plt.close(figure)


def moments(found: dict[str, dict[int, Any]], data: Path, out: Path, count: int) -> list[dict[str, float]]:
    """E |g|^2 and the variance of a step's gradient for each K, of the trained net of mixup, over ``count`` batches."""
    seed = min(found[FOR_K])
    settings = Settings(**found[FOR_K][seed]["settings"])
    images = first_of_each_class(load(data, "train", out), settings.per_class)
    net = network(settings.network, len(images.classes))
    saved = torch.load(run_file(out, FOR_K, seed).with_suffix(".pt"), map_location="cpu", weights_only=True)
    net.load_state_dict(saved["net"])
    rows = []
    for k in track(INTERPOLATIONS, "gradients", transient=True):
        method = Method("", MixUp(1.0, interpolations=k))
        with training_loader(method, seed, settings, images) as loader:
            found_moments = gradient_moments(net.train(), (batch for batch, _ in zip(loader, range(count), strict=False)))
        rows.append({"K": k, "squared norm": found_moments.squared_norm, "variance": found_moments.variance})
    return rows


def draw_interpolations(found: dict[str, dict[int, Any]], rows: list[dict[str, float]], file: Path) -> None:
    """Accuracy, and the gradient's squared norm and variance, against K."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(7.5, 3), layout="constrained")
    for k, name in OF_K.items():
        if name in found:
            values = [one["scores"]["top-1"] for one in found[name].values()]
            left.plot([k] * len(values), values, "o", color=_BLUE, alpha=0.6)
    left.set(xlabel="K", ylabel="test accuracy, %", title="mixup with K interpolations")
    for name in ("squared norm", "variance"):
        right.plot([row["K"] for row in rows], [row[name] for row in rows], "o-", label=name)
    right.set(xlabel="K", ylabel="of the gradient", title="gradient of a training step", ylim=(0, None))
    right.legend()
    figure.savefig(file, dpi=110)
    plt.close(figure)


def main(
    data: Annotated[Path, typer.Argument(help="The folder of the table.", exists=True, file_okay=False)],
    out: Annotated[Path, typer.Option(help="The folder of its runs.", exists=True)] = Path("cifar"),
    batches: Annotated[int, typer.Option(min=2, help="Of which the gradients are taken.")] = 20,
) -> None:
    """Draws all pictures into the folder of the runs."""
    found, name = load_runs(out), data.absolute().name
    draw_accuracy(found, out / f"{name}-accuracy.png")
    draw_curves(found, out / f"{name}-curves.png")
    draw_reliability(found, out / f"{name}-reliability.png")
    rows = moments(found, data, out, batches)
    (out / f"{name}-gradients.json").write_text(json.dumps(rows, indent=1) + "\n")
    draw_interpolations(found, rows, out / f"{name}-interpolations.png")


if __name__ == "__main__":
    typer.run(main)
