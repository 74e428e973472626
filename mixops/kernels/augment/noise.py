"""The noise in erased boxes: which byte is where, the same on every backend.

    byte = values[channel, h(h(place) ^ seed) >> 20],    place = (y * width + x) * 3 + channel

with h a hash of 32 bits. Integers alone decide, so that no order of execution and no rounding can show, and any pixel can be
had without the others. The inner hash keeps two seeds from showing one another's noise rearranged.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import UInt8, UInt32
from scipy.special import ndtri

LEVELS = 4096  # equally likely bytes of a channel


@lru_cache(maxsize=8)
def values(mean: tuple[float, float, float], std: tuple[float, float, float]) -> UInt8[np.ndarray, "3 levels"]:
    """The bytes that a channel chooses from: normal around ``mean``, on the scale [0, 1], cut off at black and white."""
    z = ndtri((np.arange(LEVELS) + 0.5) / LEVELS)
    return np.clip(np.rint(255 * (np.asarray(mean)[:, None] + np.asarray(std)[:, None] * z)), 0, 255).astype(np.uint8)


def scramble(x: UInt32[np.ndarray, " n"]) -> UInt32[np.ndarray, " n"]:
    """h: two multiplications and three shifts, a permutation of the 32-bit integers."""
    x = (x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D)
    x = (x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B)
    return x ^ (x >> np.uint32(16))


def noise(seed: int, table: UInt8[np.ndarray, "3 levels"], height: int, width: int) -> UInt8[np.ndarray, "h w 3"]:
    """An image of noise; a box shows its part of it."""
    place = np.arange(height * width * 3, dtype=np.uint32)
    which = scramble(scramble(place) ^ np.uint32(seed)) >> np.uint32(20)
    return table[place % 3, which].reshape(height, width, 3)
