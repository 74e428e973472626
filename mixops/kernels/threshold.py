"""Cuts fields at the height that leaves a wanted number of pixels, for the CPU.

The height is a root of the count of pixels above it, found by false position (Illinois) in some eight counts; a field of
224 x 224 stays in the L2 cache, and its pixels are never sorted.
"""

from __future__ import annotations

import numpy as np
from numba import float32

from ..runtime.jit import INNER, njit

_CHUNK = 1 << 16  # float32 counts exactly up to 2**24
_PATIENCE = 24  # counts before false position gives way to bisection


@njit(fastmath={"reassoc", "nsz"})
def _count(x, height):  # type: ignore[no-untyped-def]
    """Number of pixels at or above a height, eight a cycle: numba would count integers in 64 bits."""
    total = 0
    for start in range(0, x.size, _CHUNK):
        part = float32(0)
        for i in range(start, min(start + _CHUNK, x.size)):
            part += float32(1) if x[i] >= height else float32(0)
        total += int(part)
    return total


@njit(fastmath={"nnan", "reassoc", "nsz"})
def _range(x):  # type: ignore[no-untyped-def]
    low, high = x[0], x[0]
    for i in range(x.size):
        low = x[i] if x[i] < low else low
        high = x[i] if x[i] > high else high
    return low, high


@njit(**INNER)
def _height(x, target):  # type: ignore[no-untyped-def]
    """A height with ``target`` pixels at or above it, and their number; the nearest number where pixels are equal."""
    low, high = _range(x)
    high = np.nextafter(high, float32(np.inf))
    above_low, above_high = x.size, 0
    excess, lack = float(x.size - target), float(target)
    side, steps = 0, 0
    while above_low != target and above_high != target:
        share = excess / (excess + lack) if steps < _PATIENCE else 0.5
        middle = float32(low + (high - low) * share)
        if not (low < middle < high):
            middle = float32(0.5) * low + float32(0.5) * high
            if not (low < middle < high):
                break
        steps += 1
        count = _count(x, middle)
        if count > target:
            low, above_low, excess = middle, count, float(count - target)
            if side > 0:
                lack *= 0.5
            side = 1
        else:
            high, above_high, lack = middle, count, float(target - count)
            if side < 0:
                excess *= 0.5
            side = -1
    if above_low - target < target - above_high:
        return low, above_low
    return high, above_high


@njit()
def cut(start, stop, fields, wanted, masks, counts):  # type: ignore[no-untyped-def]
    """Fields start .. stop: ``masks[r, k]`` is 1 at the ``wanted[r, k]`` highest pixels of ``fields[r]`` and 0 elsewhere.

    ``fields`` float32 (r, pixels), ``wanted`` int64 (r, k), ``masks`` uint8 (r, k, pixels), ``counts`` int64 (r, k) the
    pixels that are 1, other than wanted only where pixels are equal.
    """
    for r in range(start, stop):
        x = fields[r]
        for k in range(wanted.shape[1]):
            height, counts[r, k] = _height(x, wanted[r, k])
            mask = masks[r, k]
            for i in range(x.size):
                mask[i] = x[i] >= height
