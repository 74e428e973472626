"""Turns the hue as torchvision does on PIL images: Pillow's HSV bytes, the hue's turned by whole steps of 256, and back.

Pillow follows ``colorsys`` in a mixture of float32 and float64; each operation here has the precision that it has there.
There are choices and no branches, so that the compiler makes vectors of pixels.
"""

from __future__ import annotations

import math

from numba import float32, float64, int32, uint8

from ...runtime.jit import INNER, njit


@njit(forceinline=True, **INNER)
def _nearest(x):
    """C's ``round`` of a number that is not negative: halves up, without a sum that would round once more."""
    whole = math.floor(x)
    return float32(whole + (1.0 if x - whole >= 0.5 else 0.0))


@njit(forceinline=True, **INNER)
def _hue(r, g, b, most, spread):
    """0 .. 255; ``most`` is the largest channel, ``spread`` the largest less the smallest."""
    d = spread if spread > float32(0) else float32(1)  # of a grey the hue is not asked for
    rc, gc, bc = (most - r) / d, (most - g) / d, (most - b) / d
    green, blue = float32(2.0 + float64(rc) - float64(bc)), float32(4.0 + float64(gc) - float64(rc))
    h = bc - gc if r == most else green if g == most else blue
    turn = float64(h) / 6.0 + 1.0  # 5/6 to 11/6
    turn = turn - 1.0 if turn >= 1.0 else turn
    return int32(float64(float32(turn)) * 255.0)


@njit(**INNER)
def turn_hue(flat, turns):
    """In place."""
    steps = int32(float64(turns) * 255.0)
    for i in range(flat.size // 3):
        r, g, b = float32(flat[3 * i]), float32(flat[3 * i + 1]), float32(flat[3 * i + 2])
        most, least = r if r > g else g, r if r < g else g
        most, least = most if most > b else b, least if least < b else b
        place = float64((_hue(r, g, b, most, most - least) + steps) & int32(255)) * 6.0 / 255.0
        sixth = math.floor(place)  # 0 to 6, and 6 is 0
        f, sector = float32(place - sixth), int32(sixth)
        s = int32(float64((most - least) / (most if most > float32(0) else float32(1))) * 255.0)
        fs, v = float32(float64(s) / 255.0), float64(most)
        p = _nearest(v * (1.0 - float64(fs)))
        q = _nearest(v * (1.0 - float64(fs * f)))
        t = _nearest(v * (1.0 - float64(fs) * (1.0 - float64(f))))
        r = most if (sector == 0) | (sector >= 5) else q if sector == 1 else t if sector == 4 else p
        g = most if (sector == 1) | (sector == 2) else q if sector == 3 else t if (sector == 0) | (sector == 6) else p
        b = most if (sector == 3) | (sector == 4) else q if sector == 5 else t if sector == 2 else p
        r, g, b = most if s == 0 else r, most if s == 0 else g, most if s == 0 else b
        flat[3 * i], flat[3 * i + 1], flat[3 * i + 2] = uint8(int32(r)), uint8(int32(g)), uint8(int32(b))
