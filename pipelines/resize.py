"""Crop, antialiased bilinear resize and flip of one image, in Pillow's own arithmetic.

torchvision resizes PIL images with Pillow: a triangle filter that widens with the reduction, coefficients in fixed point
with 22 fractional bits, a horizontal pass rounded to 8 bits, then a vertical pass. The same integers here give the same
bytes, where OpenCV's area filter, which FFCV calls, is off by one to two grey levels on average. (Since version 13 Pillow
makes the vertical pass first where the height shrinks much more than the width; its result then differs by one level.)
Serial on purpose: the callers already spread the rows of a batch over threads.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float64, Int32, UInt8

from mixops.runtime.jit import njit

_BITS = 22  # Pillow's PRECISION_BITS for 8-bit images: 32 - 8 - 2
_HALF = np.int32(1 << (_BITS - 1))


def taps(side: int, size: int) -> int:
    """Largest number of source pixels that one of ``size`` output pixels reads from a side of ``side`` pixels."""
    return math.ceil(max(side / size, 1.0)) * 2 + 1


def workspace(height: int, width: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Scratch memory of ``resized_crop`` for images of up to ``height`` x ``width`` pixels and results of ``size``."""
    rows = np.empty((height, size[1] * 3), np.uint8)
    across = np.empty((size[1], taps(width, size[1]) + 2), np.int32)
    down = np.empty((size[0], taps(height, size[0]) + 2), np.int32)
    return rows, across, down


@njit()
def _coefficients(start: float, side: float, offset: int, limit: int, table: Int32[np.ndarray, "size columns"]) -> None:
    """Fills row i of ``table`` with the first source pixel of output pixel i, their number, and their weights.

    The outputs cover ``side`` pixels from ``start`` on; 0 .. limit can be read and lie at ``offset`` in the image.
    """
    size = table.shape[0]
    scale = side / size
    support = max(scale, 1.0)
    shrink = 1.0 / support
    for i in range(size):
        centre = start + (i + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        count = min(int(centre + support + 0.5), limit) - first
        total = 0.0
        for j in range(count):
            total += max(1.0 - abs((j + first - centre + 0.5) * shrink), 0.0)
        for j in range(count):
            weight = max(1.0 - abs((j + first - centre + 0.5) * shrink), 0.0) / total
            table[i, 2 + j] = int(0.5 + weight * (1 << _BITS))
        table[i, 0] = offset + first
        table[i, 1] = count


@njit()
def resized_crop(
    image: UInt8[np.ndarray, "h w 3"],
    window: Float64[np.ndarray, " sides"],
    spill: bool,
    flip: bool,
    out: UInt8[np.ndarray, "oh ow 3"],
    rows: UInt8[np.ndarray, "h columns"],
    across: Int32[np.ndarray, "ow taps_across"],
    down: Int32[np.ndarray, "oh taps_down"],
) -> None:
    """Writes ``image[window]`` resized to the shape of ``out``, mirrored left to right where ``flip``.

    ``window`` is (top, left, height, width) in pixels, inside the image. With ``spill`` it may have fractions and the
    filter reads beyond its edges, as a crop of a resized image does; without, it has whole pixels and is cut out first, as
    in torchvision's ``resized_crop``. ``rows``, ``across``, ``down`` are scratch memory as ``workspace`` makes it.
    """
    oh, ow = out.shape[0], out.shape[1]
    if spill:
        _coefficients(window[1], window[3], 0, image.shape[1], across)
        _coefficients(window[0], window[2], 0, image.shape[0], down)
    else:
        _coefficients(0.0, window[3], int(window[1]), int(window[3]), across)
        _coefficients(0.0, window[2], int(window[0]), int(window[2]), down)
    top = down[0, 0]
    for y in range(top, down[oh - 1, 0] + down[oh - 1, 1]):
        source = image[y]
        row = rows[y - top]
        for i in range(ow):
            first = across[i, 0]
            r = _HALF
            g = _HALF
            b = _HALF
            for j in range(across[i, 1]):
                c = across[i, 2 + j]
                r += c * np.int32(source[first + j, 0])
                g += c * np.int32(source[first + j, 1])
                b += c * np.int32(source[first + j, 2])
            x = 3 * (ow - 1 - i if flip else i)
            row[x] = np.uint8(r >> _BITS)
            row[x + 1] = np.uint8(g >> _BITS)
            row[x + 2] = np.uint8(b >> _BITS)
    sums = np.empty(3 * ow, np.int32)
    for i in range(oh):
        sums[:] = _HALF
        for j in range(down[i, 1]):
            c = down[i, 2 + j]
            row = rows[down[i, 0] - top + j]
            for x in range(3 * ow):
                sums[x] += c * np.int32(row[x])
        target = out[i].reshape(-1)
        for x in range(3 * ow):
            target[x] = np.uint8(sums[x] >> _BITS)
