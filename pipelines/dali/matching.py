"""The matching of k-mixup in DALI operators: cell means and distances in the graph, the assignment in a CPU function.

Each sample is compared with the k images of the block that it may be matched with, each of which is a ``permute_batch`` of
the cell means; k numbers a sample leave the graph. Distances of uint8 images are the exact integers of
``mixops.pairing.matching``, and so is their matching.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from mixops.pairing.matching import Metric, assign

from .plans import PlanSource


def match(images: Any, plans: PlanSource, place: Any, columns: Any, layout: str, *, exact: bool) -> Any:
    """The partner of each sample, a CPU node of int32 scalars.

    ``place`` and ``columns`` are those of ``PlanSource._blocks``. ``exact`` rounds cell means to grey levels and computes
    in integers, for uint8 images.
    """
    from nvidia.dali import fn, types

    matching = plans.mixer.matching
    assert matching is not None
    small = _cells(images, plans, layout, matching.resolution, exact)
    found = []
    for j in range(plans.k):
        d = small - fn.permute_batch(small, indices=columns[j])
        found.append(fn.reductions.sum(d * d, axes=[0, 1, 2], dtype=types.INT64 if exact else types.FLOAT))
    distances = fn.stack(*found)
    distances = distances.cpu() if distances.device == "gpu" else distances
    return fn.python_function(
        distances, place, columns, function=partial(_choose, matching.metric), num_outputs=1, batch_processing=True
    )


def _cells(images: Any, plans: PlanSource, layout: str, resolution: int | None, exact: bool) -> Any:
    """What ``mixops.pairing.thumbnails`` computes: means of ceil(h / resolution) x ceil(w / resolution) pixels."""
    from nvidia.dali import fn, math, types

    kind = types.INT32 if exact else types.FLOAT
    sides = plans.height, plans.width
    if resolution is None or max(sides) <= resolution:
        return fn.cast(images, dtype=kind)
    cells = [-(-side // resolution) for side in sides]
    grid = [-(-side // cell) for side, cell in zip(sides, cells, strict=True)]
    full = [cell * count for cell, count in zip(cells, grid, strict=True)]
    if full != list(sides):
        images = fn.pad(images, axes=[1, 2] if layout == "CHW" else [0, 1], shape=full)
    inner = [grid[0], cells[0], grid[1], cells[1]]
    shape, axes = ([-1, *inner], [2, 4]) if layout == "CHW" else ([*inner, -1], [1, 3])
    total = fn.reductions.sum(fn.reshape(images, shape=shape), axes=axes, dtype=types.FLOAT)
    counts = np.multiply.outer(
        *[np.minimum(cell, side - cell * np.arange(n)) for cell, side, n in zip(cells, sides, grid, strict=True)]
    )
    outer = [1, *grid] if layout == "CHW" else [*grid, 1]
    count = types.Constant(counts.reshape(outer).astype(np.float32), device=images.device)
    if exact:
        return fn.cast(math.floor((2.0 * total + count) / (2.0 * count)), dtype=kind)
    return total / count


def _choose(
    metric: Metric, distances: Sequence[np.ndarray], place: Sequence[np.ndarray], columns: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """The partners of a batch from each sample's distances to its columns; padding stays alone."""
    position, k = np.stack(list(place)).T
    column = np.stack(list(columns))
    cost = np.stack(list(distances)).astype(np.float64)
    partner = np.arange(len(position), dtype=np.int32)
    rows = np.argsort(position)[np.count_nonzero(position < 0) :]  # rows in the order in which they were shuffled
    if len(rows):
        size = int(k[rows[0]])
        cost = cost[rows, :size]
        choice = assign(np.sqrt(cost) if metric == "l2" else cost, size) % size
        partner[rows] = column[rows, choice]
    return [np.asarray(row) for row in partner]
