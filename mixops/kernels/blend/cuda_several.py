"""The fused CUDA kernel for rows of several sources: all outputs of a row from one read of each of its sources.

    out = (M_1 * x_1 + M_2 * x_2 + ...) * scale[c] + bias[c]

A thread takes one pixel and goes through its channels; strides say how images and result lie in memory. The masks are
numbers or read, a value a pixel. What has no share takes no part: 0 * NaN would be NaN. Every load of a channel is on its
way before anything is added. The compiler may fuse products with sums, so results are those of the eager blend up to
float32 rounding.
"""

from __future__ import annotations

import triton
import triton.language as tl

from .cuda import _cast

# pointers into one upload, whose alignment changes from plan to plan, and counts that change from batch to batch
_SMALL = ("rows", "shares", "scale", "bias")


@triton.jit(do_not_specialize=("batch",), do_not_specialize_on_alignment=_SMALL)
def gather(
    images, out, rows, shares, masks, scale, bias, batch, size, area, pixel_in, channel_in, pixel_out, channel_out,
    K: tl.constexpr, S: tl.constexpr, C: tl.constexpr, DENSE: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr,
    BLOCK: tl.constexpr,
):  # fmt: skip
    """A tile of ``BLOCK`` pixels of the K outputs of one row; an image has ``area`` pixels and ``size`` elements."""
    b = tl.minimum(tl.program_id(2) * tl.num_programs(1) + tl.program_id(1), batch - 1).to(tl.int64)
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    ok = pixel < area
    for c in range(C):
        found = ()
        for s in tl.static_range(S):
            row = tl.load(rows + b * S + s).to(tl.int64)
            found += (tl.load(images + row * size + pixel * pixel_in + c * channel_in, mask=ok, other=0).to(tl.float32),)
        for k in tl.static_range(K):
            output = b * K + k
            value = tl.zeros((BLOCK,), tl.float32)
            for s in tl.static_range(S):
                if DENSE:
                    m = tl.load(masks + (output * S + s) * area + pixel, mask=ok, other=0.0)
                else:
                    m = tl.load(shares + output * S + s)
                value += tl.where(m == 0.0, 0.0, m * found[s])
            if AFFINE:
                value = value * tl.load(scale + c) + tl.load(bias + c)
            tl.store(out + output * size + pixel * pixel_out + c * channel_out, _cast(value, out, BYTES), mask=ok)
