"""The fused CUDA kernel for partners that are shown whole in a box, or that were mixed at the step before.

    (y, x) in the box shows the partner's (floor((y - y0) h / (y1 - y0)), floor((x - x0) w / (x1 - x0)))

ResizeMix and RecursiveMix need it. A thread takes one pixel: of each output it finds the mask and the place that it shows of
the partner, and then goes through the channels, whose own image is read once for all outputs. Where a mask is 1 the partner
is not read, and outside the box it is read at its own place. Strides say how images and result lie in memory. What cannot
be in whole words, as these are gathered, is left to a kernel of its own, so that all other plans keep the wide accesses of
``chunks`` and ``planes``.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .cuda import _DENSE, _SMALL, _bits, _cast, _floats, _place, _shown, _wx, _wy

# what a partner's number says beside the row: it is shown whole in the box, it is a row of the batch mixed before
INSET, PAST = 1 << 29, 1 << 30
_INSET, _PAST, _ROW = tl.constexpr(INSET), tl.constexpr(PAST), tl.constexpr(INSET - 1)


@triton.jit
def _along(t, low, high, side, WIDE: tl.constexpr):
    """The row or column of a whole image that ``t`` of a box shows; anything where it is not inside."""
    t = t - low
    if WIDE:
        t = t.to(tl.int64)
    return (t * side // tl.maximum(high - low, 1)).to(tl.int32)


@triton.jit
def _channel(
    own, other, out, scale, bias, b, c, pixel, ok, masks, places, size, pixel_in, channel_in, pixel_out, channel_out,
    AFFINE: tl.constexpr, BYTES: tl.constexpr,
):  # fmt: skip
    """Channel ``c`` of all outputs of some pixels."""
    a = tl.load(own + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
    for k in tl.static_range(len(masks)):
        m = masks[k]
        d = tl.load(other + places[k] * pixel_in + c * channel_in, mask=ok & (m != 1.0), other=0).to(tl.float32)
        value = m * (a - d) + d
        if own.dtype.element_ty != tl.uint8:
            value = _shown(m, value, a, d)
        if AFFINE:
            value = value * tl.load(scale + c) + tl.load(bias + c)
        to = out + (b * len(masks) + k) * size + pixel * pixel_out + c * channel_out
        tl.store(to, _cast(value, out, BYTES), mask=ok)


@triton.jit(do_not_specialize=("batch",), do_not_specialize_on_alignment=_SMALL)
def insets(
    images, out, floats, pairs, dense, scale, bias, batch, history, size, height, width, pixel_in, channel_in, pixel_out,
    channel_out,
    K: tl.constexpr, C: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, WIDE: tl.constexpr,
    BLOCK: tl.constexpr, ROWS: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """A tile of one image of ``size`` elements, ``ROWS`` times ``BLOCK`` pixels, with strides of pixels and channels.

    ``WIDE`` says that the product of two sides may exceed 32 bits.
    """
    tile, b, number = _place(pairs, batch, ACROSS)
    pixel = tile * BLOCK * ROWS + tl.arange(0, BLOCK * ROWS)
    ok = pixel < height * width
    y = pixel // width
    x = pixel - y * width
    own = images + b * size
    other = tl.where((number & _PAST) != 0, history, images) + (number & _ROW) * size
    masks, places = (), ()
    for k in tl.static_range(K):
        output = b * K + k
        p = floats + output * 9
        if MASK < _DENSE:
            f = _floats(p, MASK)
            m = _wy(f, y.to(tl.float32), MASK) * _wx(f, x.to(tl.float32), MASK) + f[0]
        elif MASK == _DENSE:
            m = tl.load(dense + output * height * width + pixel, mask=ok)
        else:
            m = (_bits(dense, output, height * width, pixel, ok) & 1).to(tl.float32)
        y0, y1 = tl.load(p + 2).to(tl.int32), tl.load(p + 3).to(tl.int32)
        x0, x1 = tl.load(p + 4).to(tl.int32), tl.load(p + 5).to(tl.int32)
        inside = ((number & _INSET) != 0) & (y >= y0) & (y < y1) & (x >= x0) & (x < x1)
        whole = _along(y, y0, y1, height, WIDE) * width + _along(x, x0, x1, width, WIDE)
        masks += (tl.broadcast_to(m, (BLOCK * ROWS,)),)
        places += (tl.where(inside, whole, pixel),)
    if C <= 4:  # all loads are on their way at once
        for c in tl.static_range(C):
            _channel(own, other, out, scale, bias, b, c, pixel, ok, masks, places, size, pixel_in, channel_in, pixel_out,
                     channel_out, AFFINE, BYTES)  # fmt: skip
    else:
        for c in range(C):
            _channel(own, other, out, scale, bias, b, c, pixel, ok, masks, places, size, pixel_in, channel_in, pixel_out,
                     channel_out, AFFINE, BYTES)  # fmt: skip
