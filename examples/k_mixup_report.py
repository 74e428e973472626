"""Tables and pictures of ``k_mixup_toys.py``, beside the published figures."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from PIL import Image
from torch import Tensor, nn

from mixstage.loaders.bench.measure import Report, conditions

Points = tuple[Float[Tensor, "n 2"], Int64[Tensor, " n"]]
ALPHAS = (0.25, 1.0, 4.0, 16.0, 64.0)
DIGIT_ALPHAS = (0.05, 0.1, 0.2, 0.5, 1.0, 10.0, 100.0)

# percent right by k, for each of ALPHAS (figure 3)
PUBLISHED = {
    "One Ring": {
        1: (94.487, 90.930, 86.527, 86.467, 86.899), 2: (95.230, 93.197, 90.653, 90.043, 90.027),
        4: (96.190, 94.110, 92.633, 92.191, 91.807), 8: (96.547, 95.714, 94.377, 93.807, 93.463),
        16: (96.717, 95.961, 95.097, 95.017, 95.193),
    },
    "Four Bars": {
        1: (100, 100, 100, 50.110, 50.017), 2: (100, 100, 100, 60.725, 50.107), 4: (100, 100, 100, 98.750, 92.477),
        8: (100, 100, 100, 99.920, 99.853), 16: (100, 100, 100, 99.997, 99.987),
    },
    "Swiss Roll": {
        1: (99.708, 99.670, 67.942, 61.633, 59.573), 2: (99.653, 99.667, 81.696, 69.327, 64.397),
        4: (99.703, 99.717, 99.721, 80.064, 73.773), 8: (99.693, 99.69, 99.646, 99.710, 98.897),
        16: (99.760, 99.707, 99.692, 99.787, 99.761),
    },
}  # fmt: skip
# mean squared distance of mixed MNIST digits from the nearer of their two sources, for each of DIGIT_ALPHAS (figure 5b)
PUBLISHED_DIGITS = {
    1: (0.068, 0.148, 0.239, 0.436, 0.617, 1.347, 1.732), 2: (0.070, 0.129, 0.214, 0.388, 0.586, 1.228, 1.585),
    4: (0.049, 0.111, 0.191, 0.338, 0.542, 1.078, 1.399), 8: (0.037, 0.092, 0.149, 0.305, 0.449, 0.930, 1.191),
    16: (0.035, 0.070, 0.122, 0.241, 0.341, 0.719, 0.938), 32: (0.029, 0.039, 0.076, 0.152, 0.221, 0.456, 0.586),
}  # fmt: skip


def toys_report(found: Mapping[tuple[str, int, float], Sequence[float]], notes: Sequence[str]) -> Report:
    """Figure 3: mean accuracies, and the published ones under them."""
    names, ks, alphas = (list(dict.fromkeys(keys)) for keys in zip(*found, strict=True))
    rows = []
    for name, k in product(names, ks):
        rows.append([name, k, "here", *[float(np.mean(found[name, k, alpha])) for alpha in alphas]])
        rows.append([name, k, "paper", *_published(PUBLISHED[name].get(k), ALPHAS, alphas)])
    return Report(
        "k-mixup on points in the plane: percent right on new points (arXiv 2106.02933, figure 3)",
        ["data", "k", "by", *[f"α = {alpha:g}" for alpha in alphas]],
        rows,
        conditions(("scipy",)),
        notes,
    )


def digits_report(found: Mapping[int, tuple[float, Sequence[float]]], notes: Sequence[str]) -> Report:
    """Figure 5b: squared distances of mixed digits from their sources, and the matched cost relative to k = 1."""
    rows: list[list[Any]] = []
    for k, (cost, distances) in found.items():
        rows.append([k, "digits", cost / found[1][0], *distances])
        values = PUBLISHED_DIGITS[k]
        at = DIGIT_ALPHAS.index(1.0)
        rows.append([k, "paper, MNIST", values[at] / PUBLISHED_DIGITS[1][at], *values])
    return Report(
        "k-mixup on digits: mean squared distance of mixed images from the nearer source (arXiv 2106.02933, figure 5b)",
        ["k", "by", "relative to k = 1", *[f"α = {alpha:g}" for alpha in DIGIT_ALPHAS]],
        rows,
        conditions(("scipy", "scikit-learn")),
        notes,
    )


def draw_decisions(nets: Mapping[tuple[str, int], nn.Module], data: Mapping[str, Points], title: str, path: Path) -> None:
    """What nets have learnt: the probability of class 1, a row a data set, a column a k (figure 1)."""
    figure, axes = _grid(nets)
    for ((name, k), net), axis in zip(nets.items(), axes.flat, strict=True):
        points, labels = data[name]
        x, y = (torch.linspace(-1.1 * float(side), 1.1 * float(side), 160) for side in points.abs().amax(0))
        plane = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1)  # (160, 160, 2)
        with torch.no_grad():
            shown = net(plane.flatten(0, 1)).softmax(-1)[:, 1].view(160, 160)
        axis.imshow(shown, extent=(x[0], x[-1], y[0], y[-1]), origin="lower", cmap="RdBu_r", vmin=0, vmax=1, aspect="auto")
        axis.scatter(*points.T, c=labels, cmap="RdBu_r", s=3, edgecolors="black", linewidths=0.15)
        axis.set_title(f"{name}, k = {k}", fontsize=8)
    figure.suptitle(title, fontsize=9)
    _save(figure, path)


def draw_couplings(
    partners: Mapping[tuple[str, int], Int64[np.ndarray, " n"]], data: Mapping[str, Points], path: Path
) -> None:
    """Who is matched with whom (figure 2, top), a row a data set, a column a k."""
    figure, axes = _grid(partners)
    for ((name, k), partner), axis in zip(partners.items(), axes.flat, strict=True):
        points, labels = data[name]
        for own, other in zip(points, points[torch.from_numpy(partner)], strict=True):
            axis.plot(*torch.stack([own, other]).T, color="#909090", linewidth=0.5, zorder=0)
        axis.scatter(*points.T, c=labels, cmap="RdBu_r", s=5, edgecolors="black", linewidths=0.2)
        axis.set_title(f"{name}, k = {k}", fontsize=8)
    _save(figure, path)


def _published(row: Sequence[float] | None, known: Sequence[float], alphas: Sequence[float]) -> list[float | None]:
    """The published values of some alphas, None where there are none."""
    values = dict(zip(known, map(float, row), strict=True)) if row else {}
    return [values.get(alpha) for alpha in alphas]


def _grid(cells: Mapping[tuple[str, int], Any]) -> tuple[Any, Any]:
    """A figure with a row a data set and a column a k."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows, columns = (len({key[i] for key in cells}) for i in (0, 1))
    figure, axes = pyplot.subplots(rows, columns, figsize=(1.9 * columns, 1.9 * rows), squeeze=False, layout="constrained")
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    return figure, axes


def _save(figure: Any, path: Path) -> None:
    """A PNG of 64 colours: half the size."""
    from matplotlib import pyplot

    buffer = io.BytesIO()
    figure.savefig(buffer, dpi=85)
    pyplot.close(figure)
    Image.open(buffer).convert("RGB").quantize(64).save(path, optimize=True)
