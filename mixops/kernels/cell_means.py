"""Means of the cells of uint8 images on the CPU: column sums of a cell's rows, which vectorise, then sums of columns."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from ..runtime.jit import INNER, njit
from ..runtime.threads import run_sliced

MOST_ROWS = 257  # of a cell: 257 * 255 == 2**16 - 1, the most that a column sum can hold


@njit(**INNER)
def _mean(total, count):
    # a correctly rounded quotient of such integers has the integer part of the exact one
    return np.uint8((2.0 * total + count) / (2.0 * count))


@njit()
def _cell_means(start, stop, images, c, height, width, out):
    """Images ``start`` to ``stop``, (b, planes, h, n) with rows that interleave c channels, into (b, planes * c, gh, gw)."""
    _, planes, h, n = images.shape
    w = n // c
    _, _, grid_h, grid_w = out.shape
    sums = np.empty(n, np.uint16)
    for b in range(start, stop):
        for plane in range(planes):
            for gy in range(grid_h):
                top, bottom = gy * height, min((gy + 1) * height, h)
                sums[:] = images[b, plane, top]
                for y in range(top + 1, bottom):
                    row = images[b, plane, y]
                    for i in range(n):
                        sums[i] += row[i]
                for gx in range(grid_w):
                    left, right = gx * width, min((gx + 1) * width, w)
                    count = (bottom - top) * (right - left)
                    if c == 3:  # one pass over the columns, with a constant stride
                        red, green, blue = np.uint32(0), np.uint32(0), np.uint32(0)
                        for x in range(left, right):
                            red += sums[3 * x]
                            green += sums[3 * x + 1]
                            blue += sums[3 * x + 2]
                        out[b, 3 * plane, gy, gx] = _mean(red, count)
                        out[b, 3 * plane + 1, gy, gx] = _mean(green, count)
                        out[b, 3 * plane + 2, gy, gx] = _mean(blue, count)
                    else:
                        for i in range(c):
                            total = np.uint32(0)
                            for x in range(left, right):
                                total += sums[x * c + i]
                            out[b, plane * c + i, gy, gx] = _mean(total, count)


def cell_means(images: UInt8[Tensor, "b c h w"], height: int, width: int) -> UInt8[Tensor, "b c gh gw"]:
    """Means of cells of ``height`` x ``width`` pixels, smaller at the lower and right border, rounded half up.

    ``height`` is at most ``MOST_ROWS``.
    """
    b, c, h, w = images.shape
    out = torch.empty((b, c, ceil(h / height), ceil(w / width)), dtype=torch.uint8)
    pixels: Any = images.permute(0, 2, 3, 1)
    if pixels.is_contiguous() and not images.is_contiguous():
        source, interleaved = pixels.reshape(b, 1, h, w * c), c
    else:
        source, interleaved = images.contiguous(), 1
    run_sliced(_cell_means, b, source.numpy(), interleaved, height, width, out.numpy())
    return out
