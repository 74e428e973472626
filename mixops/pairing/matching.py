"""Optimal matching of the images of a batch, for k-mixup.

k-mixup (arXiv 2106.02933, section 3.1) draws two batches of k images and mixes each image with the one that the optimal
transport between the batches assigns to it: the permutation that minimises the sum of squared L2 distances. Distances are
``|x|^2 + |y|^2 - 2 x.y`` from one Gram product a block, on images averaged down to ``resolution``: at 224 pixels the full
distances cost fifty times as much and change the matched cost by less than 1 %.

Distances of uint8 images are exact integers, so that their matching does not depend on the memory layout, the device and
the order of summation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64, Shaped
from torch import Tensor

from ..runtime.checks import check_choice, check_count, check_tensor, check_type
from ..runtime.devices import to_device, to_host
from ..runtime.names import name_of
from .blocks import Blocks
from .thumbnails import features

Metric = str | Callable[[Any, Any], Any]
_METRICS = ("sqeuclidean", "l2")
_CHUNK = 1 << 13  # features of uint8 images that are widened to float64 at a time


@dataclass(frozen=True, repr=False)
class OptimalMatching:
    """Matches blocks of ``k`` images one to one at the least total distance (k-mixup, arXiv 2106.02933, eq. 2).

    ``metric`` is "sqeuclidean" (the paper's squared W2), "l2" (the authors' code) or a function that takes two floating
    tensors (k, features), (k, features) on the images' device and returns their (k, k) distances; the last block of a batch
    may be smaller than k. A function prints as its name, by which the state of a loader knows it. ``resolution`` is the side
    in cells, at most, to which images are averaged down before distances are taken; None compares every pixel. k = 1 is
    plain mixup. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    k: int
    metric: Metric = "sqeuclidean"
    resolution: int | None = 32

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", check_count("k", self.k))
        if self.resolution is not None:
            object.__setattr__(self, "resolution", check_count("resolution", self.resolution))
        if not callable(self.metric):
            object.__setattr__(self, "metric", check_choice("metric", self.metric, _METRICS, "or a function"))
        elif isinstance(self.metric, type):
            raise TypeError(f"metric must be a function of two blocks, got the class {self.metric.__name__}")

    def __repr__(self) -> str:
        metric = name_of(self.metric) if callable(self.metric) else repr(self.metric)
        return f"OptimalMatching(k={self.k}, metric={metric}, resolution={self.resolution})"

    def replace(self, **changes: Any) -> OptimalMatching:
        """The same matching with some fields changed."""
        return replace(self, **changes)

    def shortened(self, batch_size: int) -> OptimalMatching:
        """The matching for a batch that may be too short, as an epoch's last: the largest k that leaves two blocks.

        Up to three images leave k = 1, which is plain mixup.
        """
        k = min(self.k, max(batch_size // 2, 1))
        return self if k == self.k else self.replace(k=k)

    def partner(self, blocks: Blocks, images: Any) -> Int64[np.ndarray, " b"]:
        """The partner of each row: the best one-to-one match within each pair of blocks.

        ``images`` is a torch tensor or NumPy array (b, c, h, w) or (b, ...); the last two of four or more axes are
        averaged down to ``resolution``. Distances are computed on the images' device. Raises ``ValueError`` where they are
        not finite.
        """
        check_type("blocks", blocks, Blocks, "the Blocks of a batch")
        if blocks.k == 1:
            return blocks.partner()
        x = features(images, self.resolution)
        if len(x) != len(blocks.rows):
            raise ValueError(f"images must have the {len(blocks.rows)} rows of blocks, got {len(x)}")
        return blocks.partner(assign(self.distances(blocks, x), blocks.k))

    def distances(self, blocks: Blocks, x: Shaped[Tensor, "b f"]) -> Float64[np.ndarray, "b k"]:
        """Distance of position i of ``blocks.rows`` to each position of ``blocks.columns`` in its block.

        ``x`` uint8 or floating; float64 is computed in float64, other floating types in float32. What lies beyond a short
        last block means nothing.
        """
        if callable(self.metric):
            measured = torch.cat([_measure(self.metric, a, b, blocks.k) for a, b in _pairs(blocks, x)])
            return to_host(measured).astype(np.float64)
        if x.dtype == torch.uint8 and x.device.type == "cpu":
            from ..kernels.distances import squared_distances

            found = squared_distances(x.numpy(), blocks.rows, blocks.columns, blocks.k).astype(np.float64)
        else:
            x = x - x.mean(0) if x.is_floating_point() else x  # a Gram product of large values loses what distances are
            found = to_host(torch.cat([_squared(a, b, blocks.k) for a, b in _pairs(blocks, x)])).astype(np.float64)
        return np.sqrt(found) if self.metric == "l2" else found


def assign(distances: Float[np.ndarray, "b k"], k: int) -> Int64[np.ndarray, " b"]:
    """The optimal one-to-one choice within each block: position in the batch of the column that each row takes.

    Raises ``ValueError`` where distances are not finite.
    """
    from scipy.optimize import linear_sum_assignment

    b = len(distances)
    choice = np.empty(b, np.int64)
    for start in range(0, b, k):
        stop = min(start + k, b)
        block = distances[start:stop, : stop - start]
        if not np.isfinite(block).all():
            raise ValueError(f"images must have finite distances to be matched, got {block[~np.isfinite(block)][0]}")
        choice[start:stop] = start + linear_sum_assignment(block)[1]
    return choice


def _pairs(blocks: Blocks, x: Shaped[Tensor, "b f"]) -> list[tuple[Tensor, Tensor]]:
    """Blocks to compare, (n, k, f) each: all whole ones at once, then the short last one."""
    left, right = (x[to_device(order, x.device)] for order in (blocks.rows, blocks.columns))
    whole = len(x) - len(x) % blocks.k
    pairs = [(left[:whole].unflatten(0, (-1, blocks.k)), right[:whole].unflatten(0, (-1, blocks.k)))]
    return pairs if whole == len(x) else [*pairs, (left[None, whole:], right[None, whole:])]


def _squared(left: Shaped[Tensor, "n s f"], right: Shaped[Tensor, "n s f"], k: int) -> Float[Tensor, "n*s k"]:
    """Squared distances by Gram products: exact in float64 for uint8."""
    dtype = torch.float64 if left.dtype == torch.uint8 else left.dtype
    total = torch.zeros((*left.shape[:2], left.shape[1]), dtype=dtype, device=left.device)
    with torch.autocast(left.device.type, enabled=False):  # half precision has too few digits
        for a, b in zip(left.split(_CHUNK, -1), right.split(_CHUNK, -1), strict=True):
            a, b = a.to(dtype), b.to(dtype)
            total += a.square().sum(-1)[:, :, None] + b.square().sum(-1)[:, None] - 2 * a @ b.mT
    return _rows(total.clamp_min_(0), k)


def _measure(metric: Callable[[Any, Any], Any], left: Tensor, right: Tensor, k: int) -> Float[Tensor, "n*s k"]:
    """Distances by a function of one pair of blocks."""
    if not left.is_floating_point():
        left, right = left.float(), right.float()
    found = []
    for a, b in zip(left, right, strict=True):
        distances = check_tensor("metric", metric(a, b), "a function that returns a tensor").detach()
        if distances.shape != (len(a), len(b)):
            raise ValueError(f"metric must return distances of shape {(len(a), len(b))}, got {tuple(distances.shape)}")
        found.append(distances)
    return _rows(torch.stack(found), k)


def _rows(distances: Float[Tensor, "n s s"], k: int) -> Float[Tensor, "n*s k"]:
    """One row for each image, filled up to k columns."""
    flat = distances.flatten(0, 1)
    return torch.nn.functional.pad(flat, (0, k - flat.shape[1]))
