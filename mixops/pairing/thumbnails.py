"""Images averaged down to a few cells, to take distances of.

An image is cut into cells of ceil(h / resolution) x ceil(w / resolution) pixels, smaller at the lower and right border, and
each cell becomes its mean. Means of uint8 images are sums of integers, rounded half up to a grey level, and so the same for
every memory layout and device; floating images are put in order first, for the same reason.
"""

from __future__ import annotations

from math import ceil
from typing import Any

import torch
from jaxtyping import Shaped
from torch import Tensor

from ..runtime.checks import check_array, shown


def features(images: Any, resolution: int | None) -> Shaped[Tensor, "b f"]:
    """Rows to take distances of: images torch or NumPy (b, ...), averaged down as ``thumbnails`` are."""
    x = thumbnails(images, resolution)
    return x.reshape(len(x), -1)


def thumbnails(images: Any, resolution: int | None) -> Shaped[Tensor, "b ..."]:
    """Images, torch or NumPy (b, ...), the last two of four or more axes averaged down to at most ``resolution`` cells.

    uint8 stays uint8, float64 stays float64, everything else becomes float32. None averages nothing.
    """
    x = check_array("images", images).detach()
    if x.ndim < 2 or x.is_complex():
        raise ValueError(f"images must be real and have a batch axis and at least one more, got {shown(images)}")
    if x.dtype not in (torch.uint8, torch.float64):
        x = x.float()
    if resolution is not None and x.ndim >= 4 and max(x.shape[-2:]) > resolution:
        height, width = (ceil(side / resolution) for side in x.shape[-2:])
        if x.ndim > 4:
            x = x.reshape(len(x), -1, *x.shape[-2:])
        x = _cell_means(x, height, width)
    return x


def _cell_means(x: Shaped[Tensor, "b c h w"], height: int, width: int) -> Shaped[Tensor, "b c gh gw"]:
    if x.dtype == torch.uint8 and x.device.type == "cpu":
        from ..kernels.cell_means import MOST_ROWS, cell_means

        if height <= MOST_ROWS:
            return cell_means(x, height, width)
    h, w = x.shape[-2:]
    if h % height or w % width:
        x = torch.nn.functional.pad(x, (0, -w % width, 0, -h % height))
    if x.dtype != torch.uint8:
        x = x.contiguous()  # rounding depends on the order of summation, and that on the layout
    cells = x.unflatten(-1, (-1, width)).unflatten(-3, (-1, height))  # (b, c, gh, height, gw, width)
    rows, columns = (_counts(side, cell, x.device) for side, cell in ((h, height), (w, width)))
    count = rows[:, None] * columns
    if x.dtype == torch.uint8:
        total = cells.sum((-3, -1), dtype=torch.int64)
        return ((2 * total + count).div(2 * count, rounding_mode="floor")).to(torch.uint8)
    return cells.sum((-3, -1)) / count


def _counts(side: int, cell: int, device: torch.device) -> Tensor:
    """How many of ``side`` pixels each cell has."""
    edges = torch.arange(0, side + cell, cell, device=device).clamp_max_(side)
    return edges.diff()
