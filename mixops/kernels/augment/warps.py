"""Warps in Pillow's arithmetic: output pixel (x, y) shows the input at (a x + b y + c, d x + e y + f).

Coordinates are those of pixel centres, (x + 1/2, y + 1/2). To the nearest pixel they have 16 fractional bits; bilinear and
bicubic interpolation is in float64, every operation rounded, and cut off at whole levels. Pixels outside show a fill.

Coordinates run along a row in one direction, also as rounded, so that the pixels of a row that need no fill, and of these
the ones that need no care at the border, are neighbours: their ends are found first and the loops between them do not ask.
Shears interpolate along one axis only: the other has fraction 0, and a + (b - a) * 0 is a.
"""

from __future__ import annotations

import math

from numba import int32, int64, uint8, uint64

from ...runtime.jit import INNER, njit
from .pixels import blend_line, blend_square, cubic_line, cubic_square

ALONG, DOWN, BOTH = range(3)  # the axes that are interpolated


@njit(forceinline=True, **INNER)
def _fix(v):
    """16 fractional bits, halves up."""
    return int64(math.floor(v * 65536.0 + 0.5))


@njit(**INNER)
def _pad(out, at, start, stop, fill):
    """Pixels ``start`` to ``stop`` of the row that begins at byte ``at``."""
    k = uint64(at + 3 * start)
    for _ in range(start, stop):
        out[k] = fill[0]
        out[k + uint64(1)] = fill[1]
        out[k + uint64(2)] = fill[2]
        k += uint64(3)


@njit(**INNER)
def shift(source, out, h, w, dx, dy, fill):
    """Moves the image by whole pixels, dx to the right and dy down."""
    low, high = min(max(dx, 0), w), max(min(w + dx, w), 0)
    for y in range(h):
        at = y * w * 3
        if not (0 <= y - dy < h) or low >= high:
            _pad(out, at, 0, w, fill)
            continue
        _pad(out, at, 0, low, fill)
        back = (y - dy) * w * 3 - 3 * dx
        for k in range(uint64(3 * low), uint64(3 * high)):
            out[uint64(at) + k] = source[uint64(back) + k]
        _pad(out, at, high, w, fill)


@njit(**INNER)
def _within(start, step, low, high, n):
    """First and last + 1 of the k in 0 .. n - 1 with low <= start + k * step < high, in integers."""
    if step == 0:
        return (0, n) if low <= start < high else (0, 0)
    if step < 0:  # high > start + k * step >= low
        start, step, low, high = -start, -step, 1 - high, 1 - low
    first = -((start - low) // step)
    last = -((start - high) // step)
    return min(max(first, 0), n), min(max(last, 0), n)


@njit(**INNER)
def nearest(source, out, h, w, m, fill):
    """The pixel in which the point lies."""
    a, b, d, e = _fix(m[0]), _fix(m[1]), _fix(m[3]), _fix(m[4])
    u0, v0 = _fix(m[2] + m[0] * 0.5 + m[1] * 0.5), _fix(m[5] + m[3] * 0.5 + m[4] * 0.5)
    for y in range(h):
        at = y * w * 3
        u, v = u0 + b * y, v0 + e * y
        first, last = _within(u, a, 0, w << 16, w)
        low, high = _within(v, d, 0, h << 16, w)
        first, last = max(first, low), min(last, high)
        if first >= last:
            _pad(out, at, 0, w, fill)
            continue
        _pad(out, at, 0, first, fill)
        u, v, k = u + a * first, v + d * first, uint64(at + 3 * first)
        for _ in range(first, last):
            i = uint64((v >> 16) * w * 3 + (u >> 16) * 3)
            out[k] = source[i]
            out[k + uint64(1)] = source[i + uint64(1)]
            out[k + uint64(2)] = source[i + uint64(2)]
            u, v, k = u + a, v + d, k + uint64(3)
        _pad(out, at, last, w, fill)


@njit(forceinline=True, **INNER)
def _point(a, x, b, c):
    """A coordinate in Pillow's order of operations."""
    return a * (x + 0.5) + b + c


@njit(**INNER)
def _between(a, b, c, low, high, n):
    """First and last + 1 of the x in 0 .. n - 1 with low <= _point(a, x, b, c) < high."""
    if a == 0.0:
        return (0, n) if low <= b + c < high else (0, 0)
    near, far = (low - c - b) / a - 0.5, (high - c - b) / a - 0.5
    if a < 0.0:
        near, far = far, near
    first = int64(min(max(near, 0.0), float(n)))
    last = int64(min(max(far, 0.0), float(n)))
    # the estimates may be off by what is rounded; on a falling line the ends change roles
    if a > 0.0:
        while first > 0 and _point(a, first - 1, b, c) >= low:
            first -= 1
        while first < n and _point(a, first, b, c) < low:
            first += 1
        while last > 0 and _point(a, last - 1, b, c) >= high:
            last -= 1
        while last < n and _point(a, last, b, c) < high:
            last += 1
    else:
        while first > 0 and _point(a, first - 1, b, c) < high:
            first -= 1
        while first < n and _point(a, first, b, c) >= high:
            first += 1
        while last > 0 and _point(a, last - 1, b, c) < low:
            last -= 1
        while last < n and _point(a, last, b, c) >= low:
            last += 1
    return first, last


@njit(forceinline=True, **INNER)
def _cubic(a, b, c, d, t):
    """Pillow's cubic through b and c, t of the way from b."""
    return b + t * ((-a + c) + t * ((2 * (a - b) + c - d) + t * (-a + b - c + d)))


@njit(**INNER)
def _careful(source, out, k, h, w, u, v, cubic, lines):
    """One pixel near the border, which is repeated."""
    u, v = u - 0.5, v - 0.5
    i, j = int64(math.floor(u)), int64(math.floor(v))
    p, q = u - i, v - j
    for n in range(3):
        for r in range(4):
            at = min(max(j - 1 + r, 0), h - 1) * 3 * w + n
            a = float(source[uint64(at + 3 * min(max(i - 1, 0), w - 1))])
            b = float(source[uint64(at + 3 * max(i, 0))])
            c = float(source[uint64(at + 3 * min(i + 1, w - 1))])
            d = float(source[uint64(at + 3 * min(i + 2, w - 1))])
            lines[r] = _cubic(a, b, c, d, p) if cubic else b + (c - b) * p
        if cubic:
            value = min(max(_cubic(lines[0], lines[1], lines[2], lines[3], q), 0.0), 255.0)
        else:
            value = lines[1] + (lines[2] - lines[1]) * q
        out[uint64(k + n)] = uint8(int32(value))


@njit(**INNER)
def interpolated(source, out, h, w, m, fill, cubic, axes, lines, places, across, down):
    """Bilinear or cubic; ``axes`` says which of the two interpolate.

    ``lines`` is memory for four float64, ``places``, ``across`` and ``down`` for a row of int32 and two of float64.
    """
    w3 = 3 * w
    reach = 2 if cubic else 1  # pixels that are read behind the point; one less before it
    for y in range(h):
        at = y * w3
        b, e = m[1] * (y + 0.5), m[4] * (y + 0.5)
        first, last = _between(m[0], b, m[2], 0.0, float(w), w)
        low, high = _between(m[3], e, m[5], 0.0, float(h), w)
        first, last = max(first, low), min(last, high)
        if first >= last:
            _pad(out, at, 0, w, fill)
            continue
        inner, outer = first, last
        if axes != DOWN:  # the first pixel of the image is not for the loops below
            low, high = _between(m[0], b, m[2], reach + 0.5, w - reach + 0.5, w)
            inner, outer = max(inner, low), min(outer, high)
        if axes != ALONG:
            low, high = _between(m[3], e, m[5], reach - 0.5, h - reach + 0.5, w)
            inner, outer = max(inner, low), min(outer, high)
        inner = min(max(inner, 1), last)
        outer = min(max(min(outer, w - 1), inner), last)  # nor is the last
        # pixels spill a byte to the right: those near the border come after them
        _find(m, b, e, inner, outer, w3, places, across, down)
        _inside(source, out, at, w3, inner, outer, places, across, down, cubic, axes)
        for k in range(first, last - (outer - inner)):
            x = k if k < inner else k + (outer - inner)
            u, v = _point(m[0], x, b, m[2]), _point(m[3], x, e, m[5])
            _careful(source, out, at + 3 * x, h, w, u, v, cubic, lines)
        _pad(out, at, 0, first, fill)
        _pad(out, at, last, w, fill)


@njit(**INNER)
def _find(m, b, e, first, last, w3, places, across, down):
    """Where pixels ``first`` to ``last`` of a row come from: the byte of a pixel, and how far behind it on both axes."""
    a, c, d, f = m[0], m[2], m[3], m[5]
    for k in range(uint64(first), uint64(last)):
        x = int32(k)
        u, v = _point(a, x, b, c) - 0.5, _point(d, x, e, f) - 0.5
        i, j = int32(u), int32(v)
        places[k] = int32(j * int32(w3)) + int32(int32(3) * i)
        across[k], down[k] = u - i, v - j


@njit(**INNER)
def _inside(source, out, at, w3, first, last, places, across, down, cubic, axes):
    """Pixels ``first`` to ``last`` of a row, all of whose neighbours lie inside the image."""
    if axes == BOTH:
        for x in range(uint64(first), uint64(last)):
            place, to = int64(places[x]), at + 3 * int64(x)
            if cubic:
                cubic_square(source, out, place - w3 - 3, w3, to, across[x], down[x])
            else:
                blend_square(source, out, place, w3, to, across[x], down[x])
    else:
        step = w3 if axes == DOWN else 3
        shares = down if axes == DOWN else across
        for x in range(uint64(first), uint64(last)):
            place, to = int64(places[x]), at + 3 * int64(x)
            if cubic:
                cubic_line(source, out, place - step, step, to, shares[x])
            else:
                blend_line(source, out, place, step, to, shares[x])
