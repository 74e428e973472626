"""Pillow's resize as two products of matrices, on whatever device the images are: crops of arrays that are kept there.

    across = clip8((2^21 + W_x x) >> 22),    out = clip8((2^21 + W_y across) >> 22)

``resize_kernel`` says what the integer weights are. Products of 22 and 8 bits are exact in float64, so the bytes are
Pillow's, but for a weight whose sum was rounded in another order. Margins and flips are rows of the matrices: an output
pixel that mirrors another has its weights, and a black one has none.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8
from torch import Tensor

from mixops.augment.crop_plan import CropPlan
from mixops.runtime.devices import to_device

from .resize import pillow_order
from .resize_kernel import BICUBIC, BILINEAR, DOWN_FIRST_IF_LESS, DOWN_FIRST_IF_TALL, FILTERS, LANCZOS

_BITS = 22
_SUPPORT = {BILINEAR: 1.0, BICUBIC: 2.0, LANCZOS: 3.0}
_CHUNK = 1 << 28  # bytes of images in float64 at a time


def resize_tensor(
    images: UInt8[Tensor, "n h w 3"], ids: Int64[np.ndarray, " b"], crops: CropPlan,
    rows: Int64[np.ndarray, "b oh"], columns: Int64[np.ndarray, "b ow"],
) -> UInt8[Tensor, "b oh ow 3"]:  # fmt: skip
    """What ``crops`` makes of ``images[ids]`` on their device, where filters weigh pixels.

    ``rows`` and ``columns`` are those of the resized window, flips and margins included, that each output pixel shows, -1
    for black.
    """
    height, width = images.shape[1:3]
    margins = np.zeros((len(ids), 4), np.int64) if crops.margins is None else crops.margins
    inner = np.array(crops.size) - margins[:, :2] - margins[:, 2:]
    vertical, horizontal, full = placed((height, width), crops, inner)
    kinds = np.array([FILTERS[name] for name in crops.interpolations])
    down_first = _down_first((height, width), crops, full)
    out = torch.empty((len(ids), *crops.size, 3), dtype=torch.uint8, device=images.device)
    step = max(_CHUNK // (height * width * 3 * 8), 1)
    for down in (False, True):
        chosen = np.flatnonzero(down_first == down)
        for part in np.split(chosen, range(step, len(chosen), step)):
            if not len(part):
                continue
            where = to_device(part, images.device)
            pixels = images[to_device(ids[part], images.device)].permute(0, 3, 1, 2).to(torch.float64)  # (b, 3, h, w)
            axes = [
                (2, _matrices(rows[part], vertical[part], kinds[part], height, images.device)),
                (3, _matrices(columns[part], horizontal[part], kinds[part], width, images.device)),
            ]
            for axis, weights in axes if down else axes[::-1]:
                pixels = weights[:, None] @ pixels if axis == 2 else pixels @ weights[:, None].mT
                pixels = ((pixels + (1 << (_BITS - 1))) / (1 << _BITS)).floor_().clamp_(0, 255)
            out[where] = pixels.permute(0, 2, 3, 1).to(torch.uint8)
    return out


def nearest(
    shown: Int64[np.ndarray, "b out"], axis: Float64[np.ndarray, "b 5"], inner: Int64[np.ndarray, " b"]
) -> Int64[np.ndarray, "b out"]:
    """The stored pixel that each output pixel shows by Pillow's filter "nearest", which adds up its positions; -1 for black.

    ``axis`` is one of those of ``placed``.
    """
    start, scale, skipped, first, limit = axis.T
    steps = np.repeat(scale[:, None], int((skipped + inner).max()), 1)
    steps[:, 0] = start + scale * 0.5
    at = np.take_along_axis(np.cumsum(steps, 1), np.maximum(shown, 0) + skipped.astype(np.int64)[:, None], 1)
    pixel = first[:, None] + np.minimum(np.trunc(at), limit[:, None] - 1)
    return np.where(shown < 0, -1, pixel.astype(np.int64))


def placed(
    size: tuple[int, int], crops: CropPlan, inner: Int64[np.ndarray, "b 2"]
) -> tuple[Float64[np.ndarray, "b 5"], Float64[np.ndarray, "b 5"], Int64[np.ndarray, "b 2"]]:
    """Rows and columns of each image as (start, scale, outputs skipped, first pixel, pixels), and the whole's new size."""
    start, side = crops.windows[:, :2], crops.windows[:, 2:]
    nothing = np.zeros_like(start)
    if not crops.spill:
        axes = np.stack([nothing, side / inner, nothing, start, side], -1)
        return axes[:, 0], axes[:, 1], inner
    limit = np.array(size, np.float64)
    full = np.floor(limit * inner / side + 0.5)
    scale = limit / full
    skipped = np.floor(start / scale + 0.5)
    fits = (np.abs(scale * inner - side) <= 1e-9 * limit) & (np.abs(skipped * scale - start) <= 1e-9 * limit)
    whole = np.broadcast_to(limit, start.shape)
    grid = np.stack([nothing, scale, skipped, nothing, whole], -1)
    first, last = start.astype(np.float32), (start + side).astype(np.float32)  # as Pillow keeps the edges of a box
    box = np.stack([first, (last - first) / inner, nothing, nothing, whole], -1)
    both = fits.all(1)
    axes = np.where(both[:, None, None], grid, box)
    return axes[:, 0], axes[:, 1], np.where(both[:, None], full, inner).astype(np.int64)


def _down_first(size: tuple[int, int], crops: CropPlan, full: Int64[np.ndarray, "b 2"]) -> Bool[np.ndarray, " b"]:
    """Which images the installed Pillow resizes down before across."""
    sides = np.broadcast_to(np.array(size), full.shape) if crops.spill else crops.windows[:, 2:]
    lost = sides - full
    order = pillow_order()
    tall = (order == DOWN_FIRST_IF_TALL) & (sides[:, 0] > 100 * sides[:, 1])
    less = (order == DOWN_FIRST_IF_LESS) & (lost[:, 0] > 2 * lost[:, 1])
    return (lost[:, 0] > 0) & (tall | less)


def _matrices(
    shown: Int64[np.ndarray, "b out"],
    axis: Float64[np.ndarray, "b 5"],
    kinds: Int64[np.ndarray, " b"],
    side: int,
    device: torch.device,
) -> Float64[Tensor, "b out side"]:
    """The weights, as whole numbers, of ``side`` pixels for each output pixel; it shows pixel ``shown`` of the resized."""
    packed = to_device(np.concatenate([shown, axis, kinds[:, None]], 1).astype(np.float64), device)
    at = packed[:, : shown.shape[1], None]
    start, scale, skipped, first_pixel, limit, kind = (packed[:, i - 6, None, None] for i in range(6))
    stretch = scale.clamp(min=1)
    support = torch.zeros_like(stretch)
    for number, reach in _SUPPORT.items():
        support += (kind == number) * reach * stretch
    centre = start + (skipped + at + 0.5) * scale
    first = (centre - support + 0.5).trunc().clamp_(min=0)
    last = torch.minimum((centre + support + 0.5).trunc(), limit)
    pixel = torch.arange(side, dtype=torch.float64, device=device) - first_pixel
    raw = _filtered(((pixel - centre + 0.5) * (1 / stretch)).abs(), kind) * ((pixel >= first) & (pixel < last) & (at >= 0))
    total = raw.sum(2, keepdim=True)
    weight = raw / torch.where(total == 0, 1, total) * (1 << _BITS)
    return (weight + torch.where(weight >= 0, 0.5, -0.5)).trunc()


def _filtered(x: Float64[Tensor, "b out side"], kind: Float64[Tensor, "b 1 1"]) -> Float64[Tensor, "b out side"]:
    """Pillow's filters at distances ``x``."""
    linear = (1 - x).clamp(min=0)
    near, far = (1.5 * x - 2.5) * x * x + 1, (((x - 5) * x + 8) * x - 4) * -0.5
    cubic = torch.where(x < 1, near, torch.where(x < 2, far, 0))
    sinc = torch.sinc(x) * torch.sinc(x / 3) * (x < 3)
    return torch.where(kind == BILINEAR, linear, torch.where(kind == BICUBIC, cubic, sinc))
