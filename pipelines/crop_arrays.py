"""Executes plans of crops on images of one size that lie in one array, on the CPU or on a device: CIFAR and its kind.

    images (n, h, w, c), ids, plan  ->  cut out, margins filled, flipped  ->  (b, oh, ow, c)

Where nothing is resized a crop is a choice of pixels, so any number of channels and any dtype will do. On the CPU the rows
of a thread are one compiled call: at 32 x 32 pixels a call for each row takes longer than the row. On a device it is one
operation of torch's on places that the host has worked out and sent ahead, or where pixels are resized two products of
matrices; nothing waits for the device.
"""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Int64, Shaped
from torch import Tensor

from mixops.augment.crop_plan import CropPlan
from mixops.augment.plan import AugmentPlan
from mixops.runtime.buffers import empty
from mixops.runtime.devices import to_device
from mixops.runtime.jit import njit

from .crop_rows import MODES, crop_rows, cut_rows, fill_row
from .resize_tensor import nearest, placed, resize_tensor

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}  # pixels are moved, not read: any dtype by its size


def crop_array(
    images: Shaped[np.ndarray, "n h w c"], ids: Int64[np.ndarray, " b"], crops: CropPlan, augment: AugmentPlan | None = None
) -> Shaped[np.ndarray, "b oh ow c"]:
    """What ``crops``, and then ``augment``, make of ``images[ids]``; in memory it has planes where ``images`` has.

    Raises ``ValueError`` for samples and windows that are not there, and as ``crop_rows`` where pixels are resized, which
    must be uint8 of three channels then, as they must be to be augmented.
    """
    if crops.resized:
        return crop_rows([images[i] for i in ids.tolist()], crops, augment)
    windows, margins = _checked(images.shape, ids, crops)
    dtype = torch.from_numpy(np.empty(0, images.dtype)).dtype
    planar = images.strides[3] > images.strides[1] and augment is None
    shape = (len(ids), *crops.size)
    memory = empty((shape[0], images.shape[3], *shape[1:]) if planar else (*shape, images.shape[3]), dtype).numpy()
    out = memory.transpose(0, 2, 3, 1) if planar else memory
    bits = _BITS[images.itemsize]
    source, target = np.asarray(images).view(bits), out.view(bits)
    turns = np.stack([crops.flips, crops.vertical_flips], 1)
    mode = MODES.index(crops.padding_mode or "constant")

    def cut(start: int, stop: int) -> None:
        _cut_rows(start, stop, source, ids, windows, margins, turns, mode, target)

    cut_rows(cut, out, augment)
    return out


def crop_tensor(
    images: Shaped[Tensor, "n h w c"], ids: Int64[np.ndarray, " b"], crops: CropPlan
) -> Shaped[Tensor, "b oh ow c"]:
    """What ``crops`` makes of ``images[ids]`` on their device, enqueued on the current stream.

    Raises ``ValueError`` for samples and windows that are not there. Where pixels are resized they must be uint8 of three
    channels.
    """
    windows, margins = _checked(images.shape, ids, crops)
    inner = np.array(crops.size) - margins[:, :2] - margins[:, 2:]
    rows = _places(inner[:, 0], margins[:, 0], crops.vertical_flips, crops.size[0], crops.padding_mode)
    columns = _places(inner[:, 1], margins[:, 1], crops.flips, crops.size[1], crops.padding_mode)
    if not crops.resized:
        rows = np.where(rows < 0, -1, windows[:, :1] + rows)
        columns = np.where(columns < 0, -1, windows[:, 1:2] + columns)
    elif "nearest" in crops.interpolations:  # then it is the filter of all
        vertical, horizontal, _ = placed((images.shape[1], images.shape[2]), crops, inner)
        rows, columns = nearest(rows, vertical, inner[:, 0]), nearest(columns, horizontal, inner[:, 1])
    else:
        return resize_tensor(images, ids, crops, rows, columns)
    places = np.concatenate([ids[:, None], rows, columns], 1)
    sent = to_device(places, images.device)  # in one piece
    last = 1 + crops.size[0]
    image, y, x = sent[:, :1, None], sent[:, 1:last, None], sent[:, None, last:]
    if places.min() >= 0:
        return images[image, y, x]
    return images[image, y.clamp(0), x.clamp(0)].masked_fill_(((y < 0) | (x < 0))[..., None], 0)


def _checked(
    shape: tuple[int, ...], ids: Int64[np.ndarray, " b"], crops: CropPlan
) -> tuple[Int64[np.ndarray, "b 4"], Int64[np.ndarray, "b 4"]]:
    """Windows and margins in whole pixels, after checking that they are inside of images that there are."""
    windows = np.rint(crops.windows).astype(np.int64)
    margins = np.zeros_like(windows) if crops.margins is None else crops.margins
    if len(ids) and not 0 <= ids.min() <= ids.max() < shape[0]:
        raise ValueError(f"ids must be of 0 to {shape[0] - 1}, got {ids.min()} to {ids.max()}")
    if (crops.windows < 0).any() or (crops.windows[:, :2] + crops.windows[:, 2:] > np.array(shape[1:3]) + 1e-6).any():
        raise ValueError(f"windows must be inside of images of {shape[1]} x {shape[2]} pixels")
    return windows, margins


def _places(
    inner: Int64[np.ndarray, " b"],
    margin: Int64[np.ndarray, " b"],
    flips: Bool[np.ndarray, " b"],
    side: int,
    mode: str | None,
) -> Int64[np.ndarray, "b side"]:
    """The pixel between the margins that each of ``side`` pixels of an output shows; -1 for black."""
    at, last = np.arange(side) - margin[:, None], inner[:, None] - 1
    if mode == "edge":
        places = np.clip(at, 0, last)
    elif mode == "reflect":
        at = np.abs(at)
        places = np.where(at > last, 2 * last - at, at)
    else:
        places = np.where((at < 0) | (at > last), -1, at)
    return np.where(flips[:, None], places[:, ::-1], places)


@njit()
def _cut_rows(start, stop, images, ids, windows, margins, turns, mode, out):  # type: ignore[no-untyped-def]
    """The rows from ``start`` to ``stop``."""
    for i in range(start, stop):
        top, left, height, width = windows[i]
        inner = images[ids[i], top : top + height, left : left + width]
        fill_row(inner, margins[i, 0], margins[i, 1], mode, turns[i, 0], turns[i, 1], out[i])
