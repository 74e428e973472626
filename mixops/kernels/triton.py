"""The fused CUDA kernels: blend, normalise, cast and lay out in one pass, all k outputs from one read of two images.

    out = M * (own - partner) * scale[c] + partner * scale[c] + bias[c],    M = v0 + wy(y) * wx(x)

A GPU moves three bytes in the time that it has for some twenty instructions, so little may be computed an element. A thread
takes the same columns of ``ROWS`` rows, each a strip of the image below the last: where it is, which channels these are and
wx are then computed once. ``chunks`` keeps the layout and takes as many elements as make a 16-byte store; ``planes`` makes
NCHW of uint8 RGB, reads four pixels as three words and stores four of each plane. ``strides`` takes whatever is left, one
pixel a thread.

M is computed in registers from the nine floats, of which a plan needs only some: ``MASK`` says which. Programs that run
at the same time take the same part of different images, so that an image is in the L2 cache when it is read a second time,
as a partner.

Offsets within an image are 32 bit, image offsets 64 bit: a batch may exceed 2**31 elements. The compiler may fuse products
with sums, so results are those of the eager blend up to float32 rounding, and not its bits: uint8 results are rounded half
to even, too, but a value within 1e-4 of a half may go the other way.
"""

from __future__ import annotations

import triton
import triton.language as tl

FLAT, BOX, BELL, DENSE = range(4)  # what a plan needs: v0; the box as well; all nine floats; none, but the dense masks
_FLAT, _BOX, _DENSE = tl.constexpr(FLAT), tl.constexpr(BOX), tl.constexpr(DENSE)
# one compilation serves every size, the last batch of an epoch among them
_SIZES = ("strip", "count", "in_row", "magic", "shift", "height", "width")
_SMALL = ("floats", "partner", "dense", "scale", "bias")


@triton.jit
def _along(t, low, high, centre, sharp, peak, MASK: tl.constexpr):
    """[low <= t < high] * peak * 2^(sharp * (t - centre)^2), the Gaussian only where there is one."""
    found = peak
    if MASK != _BOX:
        found = peak * tl.exp2(sharp * ((t - centre) * (t - centre)))
    return tl.where((t >= low) & (t < high), found, 0.0)


@triton.jit
def _wy(p, y, MASK: tl.constexpr):
    """What rows ``y`` have of M - v0, dv included, from the nine floats at ``p``."""
    found = 0.0
    if MASK != _FLAT and MASK != _DENSE:
        sharp = tl.load(p + 8) * -1.4426950408889634  # exp(-a t) = 2^(sharp t)
        found = _along(y, tl.load(p + 2), tl.load(p + 3), tl.load(p + 6), sharp, tl.load(p + 1), MASK)
    return found


@triton.jit
def _wx(p, x, MASK: tl.constexpr):
    """What columns ``x`` have of it."""
    found = 0.0
    if MASK != _FLAT and MASK != _DENSE:
        sharp = tl.load(p + 8) * -1.4426950408889634
        found = _along(x, tl.load(p + 4), tl.load(p + 5), tl.load(p + 7), sharp, 1.0, MASK)
    return found


@triton.jit
def _divide(n, magic, shift):
    """``n // d`` for 0 <= n < 2**31 by the numbers of ``launch.divisor``; an integer division costs twenty instructions."""
    return (tl.umulhi(2 * n.to(tl.uint32), magic.to(tl.uint32)) >> shift).to(tl.int32)


@triton.jit
def _cast(value, out, BYTES: tl.constexpr):
    if BYTES:  # adding 2**23 leaves the integer, rounded half to even, in the low bits
        value = ((value + 8388608.0).to(tl.int32, bitcast=True) & 255).to(tl.uint8)
    return value.to(out.dtype.element_ty)


@triton.jit
def _tile():
    """The tile of this program; its image is ``tl.program_id(0)``."""
    return tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)


@triton.jit
def _rotated(values, first, j, ok, C: tl.constexpr):
    """``values[(first + j) % C]`` for columns j (1, 1, v) after ``first`` < C; ``values`` are repeated for v more."""
    if C > 4:
        found = tl.load(values + first + j, mask=ok)
    else:
        found = tl.load(values + first, mask=ok)
        for i in tl.static_range(1, C):
            found = tl.where(j % C == i, tl.load(values + first + i, mask=ok), found)
    return found


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_SMALL)
def chunks(
    images, out, floats, partner, dense, scale, bias, strip, count, in_row, magic, shift, height, width,
    K: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A tile of one image, layout kept: ``BLOCK`` chunks of ``VECTOR`` elements in each of ``ROWS`` strips.

    A row in memory has ``in_row`` chunks, C * width elements of pixels or width of a plane; a strip has ``strip`` chunks,
    whole rows; the image has ``count``. Tensors are (rows, block, vector).
    """
    b = tl.program_id(0).to(tl.int64)
    q = _tile() * BLOCK + tl.arange(0, BLOCK)[None, :, None]
    below = tl.arange(0, ROWS)[:, None, None]
    j = tl.arange(0, VECTOR)[None, None, :]
    n = q + below * strip
    e = n * VECTOR + j
    ok = (q < strip) & (n < count)
    a = tl.load(images + b * count * VECTOR + e, mask=ok).to(tl.float32)
    other = tl.load(partner + b).to(tl.int64)
    d = tl.load(images + other * count * VECTOR + e, mask=ok).to(tl.float32)
    row = _divide(q, magic, shift)
    first = (q - row * in_row) * VECTOR
    row += below * _divide(strip, magic, shift)
    if PIXELS:
        y, x, c = row, first // C, first % C
        later = c + j % C >= C  # whether an element belongs to the pixel after x + j // C
    else:
        c = row // height
        y, x = row - c * height, first + j
    difference = a - d
    if AFFINE:
        if PIXELS:
            s, t = _rotated(scale, c, j, q < strip, C), _rotated(bias, c, j, q < strip, C)
        else:
            s, t = tl.load(scale + c, mask=ok), tl.load(bias + c, mask=ok)
        difference *= s
        d = d * s + t
    at = y * width + x
    y, x = y.to(tl.float32), x.to(tl.float32)
    for k in tl.static_range(K):
        p = floats + (b * K + k) * 9
        masks = dense + (b * K + k) * height * width
        m = 0.0
        if MASK != _DENSE:
            if PIXELS:
                wx, wx_later = 0.0, 0.0
                for i in tl.static_range((VECTOR + C - 2) // C + 1):  # the pixels that a chunk may have
                    found = _wx(p, x + i, MASK)
                    wx, wx_later = tl.where(j // C == i, found, wx), tl.where(j // C + 1 == i, found, wx_later)
                wx = tl.where(later, wx_later, wx)
            else:
                wx = _wx(p, x, MASK)
            m = _wy(p, y, MASK) * wx + tl.load(p)
        elif PIXELS:
            m_later = 0.0
            for i in tl.static_range((VECTOR + C - 2) // C + 1):
                found = tl.load(masks + at + i, mask=ok & (at + i < height * width)).to(tl.float32)
                m, m_later = tl.where(j // C == i, found, m), tl.where(j // C + 1 == i, found, m_later)
            m = tl.where(later, m_later, m)
        else:
            m = tl.load(masks + at, mask=ok).to(tl.float32)
        tl.store(out + (b * K + k) * count * VECTOR + e, _cast(m * difference + d, out, BYTES), mask=ok)


@triton.jit
def _four(first, second, third, fourth):
    """(rows, n, 4) from four (rows, n)."""
    four = tl.join(tl.join(first, third), tl.join(second, fourth))
    return four.reshape(first.shape[0], first.shape[1], 4)


@triton.jit
def _channels(words, g, ok):
    """Red, green and blue of the pixels of quads, float32 (rows, n, 4): byte 3 p + c of three words is channel c of p."""
    first = tl.load(words + 3 * g, mask=ok)
    second = tl.load(words + 3 * g + 1, mask=ok)
    third = tl.load(words + 3 * g + 2, mask=ok)
    shift = tl.arange(0, 4)[None, None, :] * 24
    red = (_four(first, first, second, third) >> (shift & 31)) & 255
    green = (_four(first, second, second, third) >> ((shift + 8) & 31)) & 255
    blue = (_four(first, second, third, third) >> ((shift + 16) & 31)) & 255
    return red.to(tl.float32), green.to(tl.float32), blue.to(tl.float32)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_SMALL)
def planes(
    words, out, floats, partner, dense, scale, bias, strip, count, in_row, magic, shift, height, width,
    K: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """A tile of one uint8 RGB image, as int32 words, into planes: ``BLOCK`` quads of pixels in each of ``ROWS`` strips.

    A row has ``in_row`` quads, a strip of whole rows ``strip``, the image ``count``.
    """
    b = tl.program_id(0).to(tl.int64)
    q = _tile() * BLOCK + tl.arange(0, BLOCK)[None, :]
    below = tl.arange(0, ROWS)[:, None]
    g = q + below * strip
    ok = (q < strip) & (g < count)
    red, green, blue = _channels(words + b * count * 3, g, ok)
    other = tl.load(partner + b).to(tl.int64)
    red_d, green_d, blue_d = _channels(words + other * count * 3, g, ok)
    red, green, blue = red - red_d, green - green_d, blue - blue_d
    if AFFINE:
        red, red_d = red * tl.load(scale), red_d * tl.load(scale) + tl.load(bias)
        green, green_d = green * tl.load(scale + 1), green_d * tl.load(scale + 1) + tl.load(bias + 1)
        blue, blue_d = blue * tl.load(scale + 2), blue_d * tl.load(scale + 2) + tl.load(bias + 2)
    row = _divide(q, magic, shift)
    four = tl.arange(0, 4)[None, None, :]
    ok, pixel = ok[:, :, None], 4 * g[:, :, None] + four
    y = (row + below * _divide(strip, magic, shift))[:, :, None].to(tl.float32)
    x = (4 * (q - row * in_row))[:, :, None].to(tl.float32) + four.to(tl.float32)
    for k in tl.static_range(K):
        p = floats + (b * K + k) * 9
        if MASK == _DENSE:
            m = tl.load(dense + (b * K + k) * height * width + pixel, mask=ok).to(tl.float32)
        else:
            m = _wy(p, y, MASK) * _wx(p, x, MASK) + tl.load(p)
        to = out + (b * K + k) * count * 12 + pixel
        tl.store(to, _cast(m * red + red_d, out, BYTES), mask=ok)
        tl.store(to + count * 4, _cast(m * green + green_d, out, BYTES), mask=ok)
        tl.store(to + count * 8, _cast(m * blue + blue_d, out, BYTES), mask=ok)


@triton.jit(do_not_specialize_on_alignment=_SMALL)
def strides(
    images, out, floats, partner, dense, scale, bias, size, height, width, pixel_in, channel_in, pixel_out, channel_out,
    K: tl.constexpr, C: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
):  # fmt: skip
    """A tile of one image of ``size`` elements, ``ROWS`` times ``BLOCK`` pixels, with strides of pixels and channels."""
    b = tl.program_id(0).to(tl.int64)
    pixel = _tile() * BLOCK * ROWS + tl.arange(0, BLOCK * ROWS)
    ok = pixel < height * width
    y, x = (pixel // width).to(tl.float32), (pixel % width).to(tl.float32)
    own = images + b * size
    other = images + tl.load(partner + b).to(tl.int64) * size
    for k in tl.static_range(K):
        output = b * K + k
        p = floats + output * 9
        if MASK == _DENSE:
            m = tl.load(dense + output * height * width + pixel, mask=ok).to(tl.float32)
        else:
            m = _wy(p, y, MASK) * _wx(p, x, MASK) + tl.load(p)
        for c in range(C):
            a = tl.load(own + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
            d = tl.load(other + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
            value = m * (a - d) + d
            if AFFINE:
                value = value * tl.load(scale + c) + tl.load(bias + c)
            tl.store(out + output * size + pixel * pixel_out + c * channel_out, _cast(value, out, BYTES), mask=ok)
