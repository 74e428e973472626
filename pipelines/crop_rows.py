"""Executes plans on decoded images, on the CPU: cut, resize, fill margins, flip, augment; the rows of a batch in threads.

DALI's own CPU resize takes more time than its decoder does; the kernel of ``resize.py`` takes a fraction of that, and its
pixels are Pillow's. Margins are filled from the resized pixels, as torchvision's ``RandomCrop`` pads an image. A few rows at
a time are resized and then augmented by the same thread, while they are in its cache.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from mixops.augment.crop_plan import CropPlan
from mixops.augment.plan import AugmentPlan
from mixops.kernels.augment.cpu import augmenter
from mixops.runtime.buffers import empty
from mixops.runtime.jit import INNER, njit
from mixops.runtime.threads import run_sliced

from .resize import resize_rows, resizer

_NEAR = 4  # rows of 224 x 224 pixels that lie in a cache of 1 MB
MODES = ("constant", "edge", "reflect")  # of margins; ``fill_row`` has their numbers


def crop_rows(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], crops: CropPlan, augment: AugmentPlan | None = None, first_row: int = 0
) -> UInt8[np.ndarray, "b oh ow 3"]:
    """The outputs that ``crops``, and then ``augment`` from its row ``first_row`` on, make of decoded ``images``."""
    out = empty((len(images), *crops.size, 3), torch.uint8).numpy()
    cut_rows(_cutter(images, crops, out), out, augment, first_row)
    return out


def cut_rows(
    cut: Callable[[int, int], None], out: UInt8[np.ndarray, "b oh ow 3"], augment: AugmentPlan | None, first_row: int = 0
) -> None:
    """Has ``cut`` write the rows from one number to another to ``out``, and augments them; in threads."""
    if augment is None:
        run_sliced(cut, len(out))
        return
    begin = augmenter(out, augment, first_row)

    def work(start: int, stop: int) -> None:
        augment_rows = begin()
        for first in range(start, stop, _NEAR):
            last = min(first + _NEAR, stop)
            cut(first, last)
            augment_rows(first, last)

    run_sliced(work, len(out))


def _cutter(
    images: Sequence[UInt8[np.ndarray, "h w 3"]], crops: CropPlan, out: UInt8[np.ndarray, "b oh ow 3"]
) -> Callable[[int, int], None]:
    """A function that writes the cut, resized and flipped rows from one number to another to ``out``."""
    if crops.margins is None:
        return resizer(
            images, crops.windows, crops.flips, out,
            spill=crops.spill, filter=crops.interpolations, vertical_flips=crops.vertical_flips,
        )  # fmt: skip
    mode = MODES.index(crops.padding_mode or "constant")

    def fill(start: int, stop: int) -> None:
        for i in range(start, stop):
            inner = _inner(images[i], crops, i)
            top, left = crops.margins[i, :2].tolist()  # type: ignore[index]  # there are some
            fill_row(inner, top, left, mode, crops.flips[i], crops.vertical_flips[i], out[i])

    return fill


def already_cut(crops: CropPlan) -> CropPlan:
    """What is left of ``crops`` to do for images that are the windows themselves."""
    windows = np.concatenate([np.zeros_like(crops.windows[:, :2]), crops.windows[:, 2:]], 1)
    return replace(crops, windows=windows)


def _inner(image: UInt8[np.ndarray, "h w 3"], crops: CropPlan, row: int) -> UInt8[np.ndarray, "ih iw 3"]:
    """What of an image lies between the margins of its output; the image's own memory where nothing is resized."""
    window, margins = crops.windows[row], crops.margins[row]  # type: ignore[index]
    size = crops.size[0] - int(margins[0] + margins[2]), crops.size[1] - int(margins[1] + margins[3])
    top, left = window[:2].astype(np.int64).tolist()
    if not crops.spill and tuple(window[2:].astype(np.int64).tolist()) == size:
        return image[top : top + size[0], left : left + size[1]]
    unturned = np.zeros(1, np.bool_)
    filters = crops.interpolations[row : row + 1]
    resized: UInt8[np.ndarray, "1 ih iw 3"] = resize_rows(
        [image], window[None], unturned, size, spill=crops.spill, filter=filters
    )
    return resized[0]


@njit(**INNER)
def _place(i: int, side: int, mode: int) -> int:
    """The pixel of a side that is shown at position i, which may lie outside of it; -1 for black."""
    if 0 <= i < side:
        return i
    if mode == 0:
        return -1
    if mode == 1:
        return 0 if i < 0 else side - 1
    return -i if i < 0 else 2 * (side - 1) - i


@njit()
def fill_row(inner, top, left, mode, mirrored, upside_down, out):  # type: ignore[no-untyped-def]
    """Writes ``inner`` (h, w, c) to ``out`` below ``top`` and right of ``left`` pixels of margin, then flipped."""
    height, width = inner.shape[:2]
    oh, ow, channels = out.shape
    columns = np.empty(ow, np.int64)
    for x in range(ow):
        columns[ow - 1 - x if mirrored else x] = _place(x - left, width, mode)
    for y in range(oh):
        row = _place(y - top, height, mode)
        target = out[oh - 1 - y if upside_down else y]
        if row < 0:
            target[:] = 0
            continue
        source = inner[row]
        for x in range(ow):
            column = columns[x]
            if column < 0:
                target[x, :] = 0
            elif channels == 3:  # without a loop
                target[x, 0], target[x, 1], target[x, 2] = source[column, 0], source[column, 1], source[column, 2]
            else:
                for c in range(channels):
                    target[x, c] = source[column, c]
