"""Operations on neighbourhoods in Pillow's arithmetic: sharpening and Gaussian blur.

An image is a flat array of bytes, three a pixel, in rows of ``w3`` bytes.
"""

from __future__ import annotations

import math

from numba import float32, int32, int64, uint8, uint16, uint32, uint64

from ...runtime.jit import INNER, njit
from .points import blend


@njit(**INNER)
def sharpen(source, out, h, w3, factor, sums):
    """``factor`` of the image and 1 - ``factor`` of the image smoothed by a kernel of 3 x 3: centre 5, others 1, of 13.

    The border stays. ``sums`` is memory for a row of uint16.
    """
    last = (h - 1) * w3
    for k in range(uint64(w3)):
        out[k], out[uint64(last) + k] = source[k], source[uint64(last) + k]
    for y in range(1, h - 1):
        at = uint64(y * w3)
        for x in range(uint64(w3)):  # columns first
            sums[x] = uint16(source[at + x - uint64(w3)]) + uint16(source[at + x]) + uint16(source[at + x + uint64(w3)])
        for x in range(uint64(3), uint64(w3 - 3)):
            v = source[at + x]
            s = uint16(sums[x - uint64(3)] + sums[x] + sums[x + uint64(3)] + uint16(4) * uint16(v) + uint16(6))
            smooth = (uint32(s) * uint32(5042)) >> uint32(
                16
            )  # s // 13 for s < 13 * 256: Pillow's sums of thirteenths, rounded
            out[at + x] = blend(int32(smooth), v, factor)
        for x in range(3):
            left, right = at + uint64(x), at + uint64(w3 - 3 + x)
            out[left], out[right] = source[left], source[right]


@njit(**INNER)
def box_radius(sigma):
    """The half length of each of three boxes that make a Gaussian (Gwosdek et al. 2011, eq. 7, 11, 14), in float32."""
    sigma2 = float32(sigma * sigma) / float32(3)
    length = float32(math.sqrt(12.0 * sigma2 + 1.0))
    whole = float32(math.floor((length - 1.0) / 2.0))
    one = float32(1)
    part = (float32(2) * whole + one) * (whole * (whole + one) - float32(3) * sigma2)
    return whole + part / (float32(6) * (sigma2 - (whole + one) * (whole + one)))


@njit(**INNER)
def box_shares(sigma):
    """Each box of a blur: its radius, and of 2**24 the shares of a pixel within and of the two at its ends."""
    half = box_radius(float32(sigma))
    radius = int64(half)
    whole = uint32(float32(1 << 24) / (half * float32(2) + float32(1)))
    return radius, whole, uint32((uint32(1 << 24) - uint32(2 * radius + 1) * whole) // uint32(2))


@njit(**INNER)
def _box(source, out, rows, size, radius, whole, edge, sums):
    """A box with fractional ends down ``rows`` rows of ``size`` bytes: 24 fractional bits, rounded, the border repeated."""
    last = rows - 1
    for k in range(uint64(size)):
        sums[k] = uint32(0)
    for y in range(-radius - 1, radius):
        at = uint64(min(max(y, 0), last) * size)
        for k in range(uint64(size)):
            sums[k] += uint32(source[at + k])
    for y in range(rows):
        enter, leave = uint64(min(y + radius, last) * size), uint64(max(y - radius - 1, 0) * size)
        far, to = uint64(min(y + radius + 1, last) * size), uint64(y * size)
        for k in range(uint64(size)):
            gone = uint32(source[leave + k])
            total = uint32(sums[k] + uint32(source[enter + k]) - gone)
            sums[k] = total
            value = uint32(total * whole + (gone + uint32(source[far + k])) * edge + uint32(1 << 23))
            out[to + k] = uint8(value >> uint32(24))


@njit(**INNER)
def _transpose(source, out, h, w):
    """Rows become columns."""
    for y in range(h):
        k = uint64(3 * y * w)
        to = uint64(3 * y)
        for _ in range(w):
            out[to] = source[k]
            out[to + uint64(1)] = source[k + uint64(1)]
            out[to + uint64(2)] = source[k + uint64(2)]
            k += uint64(3)
            to += uint64(3 * h)


@njit(**INNER)
def blur(image, other, h, w, sigma, sums):
    """Three boxes along the rows, three down the columns, in place.

    Sums that run along a row wait for one another and sums that run down all columns do not, so rows are made columns first.
    ``other`` is memory of the image's size, ``sums`` for the longer side's bytes as uint32.
    """
    radius, whole, edge = box_shares(sigma)
    _transpose(image, other, h, w)
    _box(other, image, w, 3 * h, radius, whole, edge, sums)
    _box(image, other, w, 3 * h, radius, whole, edge, sums)
    _box(other, image, w, 3 * h, radius, whole, edge, sums)
    _transpose(image, other, w, h)
    _box(other, image, h, 3 * w, radius, whole, edge, sums)
    _box(image, other, h, 3 * w, radius, whole, edge, sums)
    _box(other, image, h, 3 * w, radius, whole, edge, sums)
