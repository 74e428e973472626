"""The fused CUDA kernels: blend, normalise, cast and lay out in one pass, all k outputs from one read of two images.

    out = M * (own - partner) * scale[c] + partner * scale[c] + bias[c]

A GPU moves three bytes in the time that it has for some twenty instructions, so little may be computed an element.
``chunks`` keeps the layout: a thread takes chunks of a row, of as many elements as make a 16-byte store; it divides once a
chunk, evaluates M once a pixel, and hands both out to the elements by constants. ``planes`` makes NCHW of uint8 RGB: a
thread reads four pixels as three words and stores four of each plane. ``strides`` takes whatever is left, one pixel a
thread.

M is computed in registers from the nine floats, of which a plan needs only some: ``MASK`` says which. Programs that run
at the same time take the same part of different images (``group`` tiles of each), so that an image is in the L2 cache when
it is read a second time, as a partner.

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
_SIZES = ("batch", "group", "count", "in_row", "magic", "shift", "height", "width")
_SMALL = ("params", "partner", "dense", "scale", "bias")


@triton.jit
def _mask(p, dense, y, x, at, ok, MASK: tl.constexpr):
    """M at columns ``x`` of rows ``y``, float32, from the nine floats at ``p`` or the masks at ``dense + at``."""
    if MASK == _DENSE:
        m = tl.load(dense + at, mask=ok).to(tl.float32)
    elif MASK == _FLAT:
        m = tl.load(p)
    else:
        low, peak = tl.load(p), tl.load(p + 1)
        rows = (y >= tl.load(p + 2)) & (y < tl.load(p + 3))
        columns = (x >= tl.load(p + 4)) & (x < tl.load(p + 5))
        if MASK == _BOX:
            m = tl.where(columns, tl.where(rows, low + peak, low), low)
        else:
            sharp = tl.load(p + 8) * -1.4426950408889634  # exp(-a t) = 2^(sharp t)
            dy, dx = y - tl.load(p + 6), x - tl.load(p + 7)
            peak = tl.where(rows, peak * tl.exp2(sharp * (dy * dy)), 0.0)
            m = tl.where(columns, peak * tl.exp2(sharp * (dx * dx)), 0.0) + low
    return m


@triton.jit
def _divide(n, magic, shift):
    """``n // d`` for 0 <= n < 2**31 by the numbers that ``launch.magic`` has for d; an integer division costs twenty."""
    return (tl.umulhi(2 * n.to(tl.uint32), magic.to(tl.uint32)) >> shift).to(tl.int32)


@triton.jit
def _cast(value, out, BYTES: tl.constexpr):
    if BYTES:  # adding 2**23 leaves the integer, rounded half to even, in the low bits
        value = ((value + 8388608.0).to(tl.int32, bitcast=True) & 255).to(tl.uint8)
    return value.to(out.dtype.element_ty)


@triton.jit
def _place(batch, group):
    """The image and the tile of this program."""
    program = tl.program_id(0)
    b = (program // group) % batch
    return b.to(tl.int64), (program // (group * batch)) * group + program % group


@triton.jit
def _rotated(values, first, j, ok, C: tl.constexpr):
    """``values[(first + j) % C]`` for columns j (1, v) after ``first`` (n, 1) < C; ``values`` are repeated for v more."""
    if C > 4:
        found = tl.load(values + first + j, mask=ok)
    else:
        found = tl.load(values + first, mask=ok)
        for i in tl.static_range(1, C):
            found = tl.where(j % C == i, tl.load(values + first + i, mask=ok), found)
    return found


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_SMALL)
def chunks(
    images, out, params, partner, dense, scale, bias, batch, group, count, in_row, magic, shift, height, width,
    K: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile of one image, layout kept: ``BLOCK`` of its ``count`` chunks, ``in_row`` of which make a row in memory.

    A row has C * width elements of pixels, or width of a plane.
    """
    b, tile = _place(batch, group)
    n = tile * BLOCK + tl.arange(0, BLOCK)
    j = tl.arange(0, VECTOR)[None, :]
    ok = (n < count)[:, None]
    e = n[:, None] * VECTOR + j
    a = tl.load(images + b * count * VECTOR + e, mask=ok).to(tl.float32)
    other = tl.load(partner + b).to(tl.int64)
    d = tl.load(images + other * count * VECTOR + e, mask=ok).to(tl.float32)
    difference = a - d
    row = _divide(n, magic, shift)
    first = ((n - row * in_row) * VECTOR)[:, None]
    row = row[:, None]
    if PIXELS:
        y, x, c = row, first // C, first % C
        later = c + j % C >= C  # whether an element belongs to the pixel after x + j // C
    else:
        c = row // height
        y, x = row - c * height, first + j
    if AFFINE:
        if PIXELS:
            s, t = _rotated(scale, c, j, ok, C), _rotated(bias, c, j, ok, C)
        else:
            s, t = tl.load(scale + c, mask=ok), tl.load(bias + c, mask=ok)
        difference *= s
        d = d * s + t
    at = y * width + x
    y, x = y.to(tl.float32), x.to(tl.float32)
    for k in tl.static_range(K):
        output = b * K + k
        p, masks = params + output * 9, dense + output * height * width
        if MASK == _FLAT or not PIXELS:
            m = _mask(p, masks, y, x, at, ok, MASK)
        else:
            m, next = 0.0, 0.0
            for i in tl.static_range((VECTOR + C - 2) // C + 1):  # the pixels that a chunk may have
                found = _mask(p, masks, y, x + i, at + i, ok & (at + i < height * width), MASK)
                m = tl.where(j // C == i, found, m)
                next = tl.where(j // C + 1 == i, found, next)
            m = tl.where(later, next, m)
        tl.store(out + output * count * VECTOR + e, _cast(m * difference + d, out, BYTES), mask=ok)


@triton.jit
def _four(first, second, third, fourth):
    """(n, 4) from four (n,)."""
    return tl.join(tl.join(first, third), tl.join(second, fourth)).reshape(first.shape[0], 4)


@triton.jit
def _channels(words, g, ok):
    """Red, green and blue of each quad's pixels, float32 (n, 4): byte 3 p + c of three words is channel c of pixel p."""
    first = tl.load(words + 3 * g, mask=ok)
    second = tl.load(words + 3 * g + 1, mask=ok)
    third = tl.load(words + 3 * g + 2, mask=ok)
    shift = tl.arange(0, 4)[None, :] * 24
    red = (_four(first, first, second, third) >> (shift & 31)) & 255
    green = (_four(first, second, second, third) >> ((shift + 8) & 31)) & 255
    blue = (_four(first, second, third, third) >> ((shift + 16) & 31)) & 255
    return red.to(tl.float32), green.to(tl.float32), blue.to(tl.float32)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_SMALL)
def planes(
    words, out, params, partner, dense, scale, bias, batch, group, count, in_row, magic, shift, height, width,
    K: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile of one uint8 RGB image, given as int32 words, into planes: ``BLOCK`` of its ``count`` quads of pixels."""
    b, tile = _place(batch, group)
    g = tile * BLOCK + tl.arange(0, BLOCK)
    ok = g < count
    red, green, blue = _channels(words + b * count * 3, g, ok)
    other = tl.load(partner + b).to(tl.int64)
    red_d, green_d, blue_d = _channels(words + other * count * 3, g, ok)
    red, green, blue = red - red_d, green - green_d, blue - blue_d
    if AFFINE:
        red, red_d = red * tl.load(scale), red_d * tl.load(scale) + tl.load(bias)
        green, green_d = green * tl.load(scale + 1), green_d * tl.load(scale + 1) + tl.load(bias + 1)
        blue, blue_d = blue * tl.load(scale + 2), blue_d * tl.load(scale + 2) + tl.load(bias + 2)
    row = _divide(g, magic, shift)
    p = tl.arange(0, 4)[None, :]
    ok, pixel = ok[:, None], 4 * g[:, None] + p
    y = row[:, None].to(tl.float32)
    x = (4 * (g - row * in_row))[:, None].to(tl.float32) + p.to(tl.float32)
    for k in tl.static_range(K):
        output = b * K + k
        m = _mask(params + output * 9, dense + output * height * width, y, x, pixel, ok, MASK)
        to = out + output * count * 12 + pixel
        tl.store(to, _cast(m * red + red_d, out, BYTES), mask=ok)
        tl.store(to + count * 4, _cast(m * green + green_d, out, BYTES), mask=ok)
        tl.store(to + count * 8, _cast(m * blue + blue_d, out, BYTES), mask=ok)


@triton.jit(do_not_specialize=("batch", "group"), do_not_specialize_on_alignment=_SMALL)
def strides(
    images, out, params, partner, dense, scale, bias, batch, group, size, height, width, pixel_in, channel_in, pixel_out,
    channel_out, K: tl.constexpr, C: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile of one image of ``size`` elements, ``BLOCK`` pixels, with the strides of pixels and channels given."""
    b, tile = _place(batch, group)
    pixel = tile * BLOCK + tl.arange(0, BLOCK)
    ok = pixel < height * width
    y, x = (pixel // width).to(tl.float32), (pixel % width).to(tl.float32)
    own = images + b * size
    other = images + tl.load(partner + b).to(tl.int64) * size
    for k in tl.static_range(K):
        output = b * K + k
        m = _mask(params + output * 9, dense + output * height * width, y, x, pixel, ok, MASK)
        for c in range(C):
            a = tl.load(own + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
            d = tl.load(other + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
            value = m * (a - d) + d
            if AFFINE:
                value = value * tl.load(scale + c) + tl.load(bias + c)
            tl.store(out + output * size + pixel * pixel_out + c * channel_out, _cast(value, out, BYTES), mask=ok)
