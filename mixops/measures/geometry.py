"""Alignment and uniformity of embeddings on the sphere (Wang and Isola, arXiv 2005.10242; MultiMix, arXiv 2311.05538, A.4).

    alignment = E |z - z'|^2 over pairs of one class,    uniformity = log E exp(-2 |z - z'|^2) over all pairs,    |z| = 1

Both are lower for better embeddings. Pairs are taken in blocks of rows, so that nothing of the size n x n is formed.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64
from torch import Tensor
from torch.nn.functional import normalize

from ..runtime.checks import check_tensor

_ROWS = 1024


@torch.no_grad()
def alignment(features: Float[Tensor, "n d"], labels: Int64[Tensor, " n"]) -> float:
    """Mean squared distance of two different embeddings of one class, in [0, 4]; NaN where no class has two.

    ``features`` are brought to length 1. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    z = _on_sphere(features)
    classes = check_tensor("labels", labels)
    if classes.shape != (len(z),):
        raise ValueError(f"labels must have shape ({len(z)},), got {tuple(classes.shape)}")
    total, pairs = 0.0, 0
    for start, squares in _squared_distances(z):
        same = classes[start : start + len(squares), None] == classes
        total += float(squares[same].sum())  # a row's distance to itself is 0
        pairs += int(same.sum()) - len(squares)
    return total / pairs if pairs else math.nan


@torch.no_grad()
def uniformity(features: Float[Tensor, "n d"]) -> float:
    """Logarithm of the mean of exp(-2 |z - z'|^2) over pairs of different rows, in [-8, 0]; NaN for one row."""
    z = _on_sphere(features)
    total = sum(float(squares.double().mul(-2).exp().sum()) for _, squares in _squared_distances(z)) - len(z)
    pairs = len(z) * (len(z) - 1)
    return math.log(total / pairs) if pairs else math.nan


def _on_sphere(features: Tensor) -> Tensor:
    x = check_tensor("features", features)
    if x.ndim != 2 or not x.is_floating_point() or not len(x):
        raise ValueError(f"features must be floating (n, d) with n at least 1, got {x.dtype} of shape {tuple(x.shape)}")
    return normalize(x.detach().double() if x.dtype == torch.float64 else x.detach().float(), dim=1)


def _squared_distances(z: Tensor) -> Iterator[tuple[int, Tensor]]:
    """Rows of squared distances to all, with the number of the first; exactly 0 to the row itself."""
    for start in range(0, len(z), _ROWS):
        rows = z[start : start + _ROWS]
        squares = (2 - 2 * rows @ z.T).clamp_min_(0)
        squares[torch.arange(len(rows)), torch.arange(start, start + len(rows))] = 0
        yield start, squares
