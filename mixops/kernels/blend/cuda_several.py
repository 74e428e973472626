"""The fused CUDA kernels for rows of several sources: all outputs of a row from one read of each of its sources.

    out = (M_1 * x_1 + M_2 * x_2 + ...) * scale[c] + bias[c]

An image is read by as many rows as show it, so its bytes cross the L2 cache S times, and as for two sources they must come
in wide loads and cost few instructions. ``gather_chunks`` keeps the layout and takes as many elements as make a 16-byte
store; ``gather_planes`` makes NCHW of uint8 RGB, four pixels a thread; ``gather_pixels`` takes whatever is left, one pixel a
thread. Programs that run at the same time take the same tile of all images, whose sources are then in the L2 cache.

The masks are numbers or read, a value a pixel. What has no share takes no part: 0 * NaN would be NaN; bytes are always
numbers. Every load of an image is on its way before anything is added. The compiler may fuse products with sums, so results
are those of the eager blend up to float32 rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .cuda import _INTERPRETED, _cast, _channel, _raised, _rotated, _words

# pointers into one upload, whose alignment changes from plan to plan, and counts that change from batch to batch
_SMALL = ("rows", "shares", "scale", "bias")


@triton.jit
def _tile():
    """The tile of this program; its image is the first axis of the grid."""
    return tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)


@triton.jit
def _number(values, VECTOR: tl.constexpr):
    """``values`` as float32."""
    if values.dtype == tl.uint8 and VECTOR % 4 == 0 and not _INTERPRETED:
        found = _raised(values) - 8388608.0
    else:
        found = values.to(tl.float32)
    return found


@triton.jit
def _sum(found, shares, masks, output, pixel, area, ok, S: tl.constexpr, DENSE: tl.constexpr, NUMBERS: tl.constexpr):
    """M_1 x_1 + M_2 x_2 + ... of one output; what has no share is left out, but where all x are ``NUMBERS``."""
    value = tl.zeros(found[0].shape, tl.float32)
    for s in tl.static_range(S):
        if DENSE:
            m = tl.load(masks + (output * S + s) * area + pixel, mask=ok, other=0.0)
        else:
            m = tl.load(shares + output * S + s)
        if NUMBERS:
            value += m * found[s]
        else:
            value += tl.where(m == 0.0, 0.0, m * found[s])
    return value


@triton.jit(do_not_specialize=("count", "area"), do_not_specialize_on_alignment=_SMALL)
def gather_chunks(
    images, out, rows, shares, masks, scale, bias, count, area,
    K: tl.constexpr, S: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, DENSE: tl.constexpr, AFFINE: tl.constexpr,
    BYTES: tl.constexpr, VECTOR: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``BLOCK`` chunks of ``VECTOR`` elements of the K outputs of one row, layout kept; an image has ``count`` chunks."""
    HAS_BYTES: tl.constexpr = images.dtype.element_ty == tl.uint8
    b = tl.program_id(0).to(tl.int64)
    q = (_tile() * BLOCK + tl.arange(0, BLOCK))[:, None]
    j = tl.arange(0, VECTOR)[None, :]
    ok, element = q < count, q * VECTOR + j
    loaded = ()
    for s in tl.static_range(S):
        row = tl.load(rows + b * S + s).to(tl.int64)
        loaded += (tl.load(images + row * count * VECTOR + element, mask=ok),)
    pixel, factor, offset = element, 0.0, 0.0
    if PIXELS:
        pixel = element // C
        if AFFINE:
            first = q * VECTOR % C
            factor, offset = _rotated(scale, first, j, ok, C), _rotated(bias, first, j, ok, C)
    else:
        plane = q * VECTOR // area
        pixel = element - plane * area
        if AFFINE:
            factor, offset = tl.load(scale + plane, mask=ok), tl.load(bias + plane, mask=ok)
    tl.debug_barrier()
    found = ()
    for s in tl.static_range(S):
        found += (_number(loaded[s], VECTOR),)
    for k in tl.static_range(K):
        output = b * K + k
        value = _sum(found, shares, masks, output, pixel, area, ok, S, DENSE, HAS_BYTES)
        if AFFINE:
            value = value * factor + offset
        tl.store(out + output * count * VECTOR + element, _cast(value, out, BYTES), mask=ok)


@triton.jit(do_not_specialize=("count",), do_not_specialize_on_alignment=_SMALL)
def gather_planes(
    words, out, rows, shares, masks, scale, bias, count,
    K: tl.constexpr, S: tl.constexpr, DENSE: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """``BLOCK`` quads of pixels of uint8 RGB images, as int32 words, into planes of the K outputs of one row."""
    b = tl.program_id(0).to(tl.int64)
    q = _tile() * BLOCK + tl.arange(0, BLOCK)
    loaded = ()
    for s in tl.static_range(S):
        row = tl.load(rows + b * S + s).to(tl.int64)
        loaded += (_words(words + row * count * 3, q, q < count),)
    ok, pixel = (q < count)[:, None], 4 * q[:, None] + tl.arange(0, 4)[None, :]
    tl.debug_barrier()
    for c in tl.static_range(3):
        found = ()
        for s in tl.static_range(S):
            found += (_channel(loaded[s], c),)
        for k in tl.static_range(K):
            output = b * K + k
            value = _sum(found, shares, masks, output, pixel, count * 4, ok, S, DENSE, True)
            if AFFINE:
                value = value * tl.load(scale + c) + tl.load(bias + c)
            tl.store(out + (output * 3 + c) * count * 4 + pixel, _cast(value, out, BYTES), mask=ok)


@triton.jit(do_not_specialize_on_alignment=_SMALL)
def gather_pixels(
    images, out, rows, shares, masks, scale, bias, size, area, pixel_in, channel_in, pixel_out, channel_out,
    K: tl.constexpr, S: tl.constexpr, C: tl.constexpr, DENSE: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """``BLOCK`` pixels of the K outputs of one row by strides; an image has ``area`` pixels and ``size`` elements."""
    HAS_BYTES: tl.constexpr = images.dtype.element_ty == tl.uint8
    b = tl.program_id(0).to(tl.int64)
    pixel = _tile() * BLOCK + tl.arange(0, BLOCK)
    ok = pixel < area
    for c in range(C):
        found = ()
        for s in tl.static_range(S):
            row = tl.load(rows + b * S + s).to(tl.int64)
            found += (tl.load(images + row * size + pixel * pixel_in + c * channel_in, mask=ok, other=0).to(tl.float32),)
        for k in tl.static_range(K):
            output = b * K + k
            value = _sum(found, shares, masks, output, pixel, area, ok, S, DENSE, HAS_BYTES)
            if AFFINE:
                value = value * tl.load(scale + c) + tl.load(bias + c)
            tl.store(out + output * size + pixel * pixel_out + c * channel_out, _cast(value, out, BYTES), mask=ok)
