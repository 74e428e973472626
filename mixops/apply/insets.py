"""Shows an image whole inside a box, made as small as the box: the paste of ResizeMix, applied.

    (y, x) in the box shows (floor((y - y0) * h / (y1 - y0)), floor((x - x0) * w / (x1 - x0)))

That is torch's "nearest", in whole numbers, so that every kernel shows the same pixel. The mask hides what is outside.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

from ..masks import X0, X1, Y0, Y1
from ..plan import MixPlan
from ..runtime.devices import to_device


def show_insets(images: Shaped[Tensor, "b ... h w"], plan: MixPlan, k: int) -> Shaped[Tensor, "b ... h w"]:
    """The partners of all rows, (b, ..., h, w) of any dtype, as output ``k`` of the plan shows them inside its boxes."""
    if plan.inset is None:
        return images
    boxes = to_device(np.where(plan.inset[:, None], plan.params[:, k, Y0 : X1 + 1], 0).astype(np.int64), images.device)
    rows, columns = (
        _places(boxes[:, low - Y0], boxes[:, high - Y0], side)
        for (low, high), side in zip(((Y0, Y1), (X0, X1)), images.shape[-2:], strict=True)
    )
    flat = images.reshape(len(images), -1, *images.shape[-2:])
    row = torch.arange(len(images), device=images.device)[:, None, None, None]
    channel = torch.arange(flat.shape[1], device=images.device)[None, :, None, None]
    return flat[row, channel, rows[:, None, :, None], columns[:, None, None, :]].reshape(images.shape)


def _places(first: Int64[Tensor, " b"], last: Int64[Tensor, " b"], side: int) -> Int64[Tensor, "b side"]:
    """The row or column of an image that each place of the result shows."""
    t = torch.arange(side, device=first.device)
    first, last = first[:, None], last[:, None]
    shown = ((t - first) * side).div((last - first).clamp_min(1), rounding_mode="floor")
    return torch.where((t >= first) & (t < last), shown, t)
