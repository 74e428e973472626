"""The fused CPU kernel: blend, normalise, cast and lay out in one pass over the pixels, all k outputs from one read.

    out = (M * own + (1 - M) * partner) * scale[c] + bias[c]

in float32, every operation rounded, in the order of the eager blend: constant, box and dense masks give its very bits, the
Gaussian ones what a float32 exponential is off. uint8 results are rounded half to even, as torch and NumPy do. Where the
mask of floating images is 0 or 1, the one that is not shown is left out: 0 * NaN would be NaN. A partner that is shown whole
in a box is read there pixel by pixel, where it stands in the whole.

A row of the image, all its channels, is laid out as the result is, in a buffer that stays in the L1 cache, if it is not so
already; then it is blended, scaled, cast and stored at once, in vectors. The dtypes are chosen by a number, not by a type,
so there is one kernel to compile and not one for each of two dozen combinations. A large result bypasses the caches, which
saves reading the lines that are about to be overwritten; rows that are no whole vectors are copied past them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import float32, int32, int64, types
from numba.extending import intrinsic
from torch import Tensor

from ...masks import CX, CY, DV, V0, X0, X1, Y0, Y1, A
from ...plan import MixPlan
from ...runtime.jit import njit
from ...runtime.threads import run_sliced
from .vectors import (
    BYTE,
    CONVERTS,
    FLOAT,
    FLOAT32,
    KINDS,
    LANES,
    UINT8,
    VECTOR,
    address,
    constant,
    copy,
    fence,
    pointer,
    put,
    read,
    splat,
)

_STREAMED = 16 << 20  # bytes: who reads a result this large will not find it in a cache anyhow
_ROW = 1024  # elements of a row whose buffers stay in the L1 cache


@intrinsic
def _blend(
    _: Any, own: Any, other: Any, octets: Any, v0: Any, g: Any, weights: Any, scale: Any, bias: Any, count: Any, kind: Any,
    past: Any, out: Any,
) -> Any:  # fmt: skip
    """Blends, scales, casts and stores ``count`` elements; all but v0 and g are addresses and numbers.

    The images at ``own`` and ``other`` are bytes if they are ``octets``, else floats, as are ``weights``, ``scale`` and
    ``bias``. ``past`` the caches is as ``vectors.put`` takes it.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        own, other, octets, v0, g, weights, scale, bias, count, kind, past, out = args
        weights, scale, bias = (pointer(builder, x) for x in (weights, scale, bias))
        for element, asked in ((BYTE, octets), (FLOAT, builder.not_(octets))):
            first, second = pointer(builder, own, element), pointer(builder, other, element)

            def blend(i: Any, lanes: int, first: Any = first, second: Any = second) -> Any:
                one = constant(1.0, lanes)
                m = builder.fmul(splat(builder, g, lanes), read(builder, weights, i, lanes))
                m = builder.fadd(splat(builder, v0, lanes), m)
                shown, beside = read(builder, first, i, lanes), read(builder, second, i, lanes)
                mixed = builder.fadd(builder.fmul(m, shown), builder.fmul(builder.fsub(one, m), beside))
                if first.type.pointee == FLOAT:  # of floats what is not shown takes no part: it may be no number
                    mixed = builder.select(builder.fcmp_ordered("==", m, one), shown, mixed)
                    mixed = builder.select(builder.fcmp_ordered("==", m, constant(0.0, lanes)), beside, mixed)
                return builder.fadd(builder.fmul(mixed, read(builder, scale, i, lanes)), read(builder, bias, i, lanes))

            with builder.if_then(asked):
                put(builder, blend, count, kind, past, out)
        return context.get_dummy_value()

    i, f, flag = types.intp, types.float32, types.boolean
    return types.void(i, i, flag, f, f, i, i, i, i, i, flag, i), generate


# No function below slices an array within the loop over rows: numba counts references by locked instructions, and these
# wait until every store past the caches is done.


@njit()
def _load(rows, b, y, h, pixels_in, pixels_out, c, out, side):
    """Row y of image b as float32 into ``out[side]``, (1, w * c) or (c, w) as the result is laid out."""
    w = out.shape[1] * out.shape[2] // c
    if pixels_in == pixels_out:
        for i in range(out.shape[1]):
            at = (b * out.shape[1] + i) * h + y
            for x in range(out.shape[2]):
                out[side, i, x] = float32(rows[at, x])
    elif pixels_in and c == 3:  # constant strides, so that the compiler can shuffle vectors
        at = b * h + y
        for x in range(w):
            out[side, 0, x] = float32(rows[at, 3 * x])
            out[side, 1, x] = float32(rows[at, 3 * x + 1])
            out[side, 2, x] = float32(rows[at, 3 * x + 2])
    elif pixels_in:
        at = b * h + y
        for i in range(c):
            for x in range(w):
                out[side, i, x] = float32(rows[at, x * c + i])
    else:
        for i in range(c):
            at = (b * c + i) * h + y
            for x in range(w):
                out[side, 0, x * c + i] = float32(rows[at, x])


@njit()
def _load_inset(rows, params, b, j, partner, y, h, pixels_in, pixels_out, c, columns, out):
    """What row y of output j of pair b shows of its whole partner, as float32 into the place of the box in ``out[1]``."""
    y0, y1 = int64(params[b, j, Y0]), int64(params[b, j, Y1])
    if not y0 <= y < y1:
        return
    at = (y - y0) * h // (y1 - y0)
    for i in range(c):
        row = partner * h + at if pixels_in else (partner * c + i) * h + at
        for x in range(int64(params[b, j, X0]), int64(params[b, j, X1])):
            value = float32(rows[row, columns[j, x] * c + i if pixels_in else columns[j, x]])
            if pixels_out:
                out[1, 0, x * c + i] = value
            else:
                out[1, i, x] = value


@njit()
def _part(rows, b, y, h, out, side):
    """Row y of image b, pixels of three bytes, as three rows of ``out[side]``."""
    w, at = out.shape[1] // 3, b * h + y
    for x in range(w):
        out[side, x] = rows[at, 3 * x]
        out[side, w + x] = rows[at, 3 * x + 1]
        out[side, 2 * w + x] = rows[at, 3 * x + 2]


@njit()
def _bell(a, centre, lo, hi, out, j):
    """[lo <= t < hi] * exp(-a * (t - centre)**2) for t = 0, 1, ..; a polynomial that vectorises, relative error 2e-7."""
    for t in range(out.shape[1]):
        d = float32(t) - centre
        e = max(-a * d * d * float32(1.44269504), float32(-126.0))  # the result is 2**e
        shifted = e + float32(12582912.0)  # 1.5 * 2**23: leaves the nearest integer in the low bits
        f = e - (shifted - float32(12582912.0))
        p = float32(1.5353362e-4)
        p = p * f + float32(1.3398874e-3)
        p = p * f + float32(9.6184373e-3)
        p = p * f + float32(5.5503324e-2)
        p = p * f + float32(2.4022648e-1)
        p = p * f + float32(6.9314720e-1)
        p = p * f + float32(1.0)
        bits = np.float32(p).view(np.int32) + int32(np.float32(shifted).view(np.int32) << int32(23))
        value = np.int32(bits).view(np.float32)
        out[j, t] = value if lo <= float32(t) < hi else float32(0.0)


@njit()
def _spread(weights, pixels, j):
    """A row of weights to all channels of ``pixels[j]``, (w, c)."""
    w, c = pixels.shape[1:]
    if c == 3:
        for x in range(w):
            pixels[j, x, 0] = weights[j, x]
            pixels[j, x, 1] = weights[j, x]
            pixels[j, x, 2] = weights[j, x]
    else:
        for x in range(w):
            for i in range(c):
                pixels[j, x, i] = weights[j, x]


@njit()
def _mix(
    start, stop, bytes_in, floats_in, partner, params, dense, binary, inset, shape, pixels_in, pixels_out, affine, kind,
    streamed, out,
):  # fmt: skip
    """Mixes rows ``start`` to ``stop`` of the batch into the memory of ``out``.

    The source is ``bytes_in`` or ``floats_in``, whichever is not empty, as (rows of the images in memory, their length);
    so are masks ``dense`` or ``binary``. ``inset`` is empty unless some rows' partners are shown whole in their boxes.
    ``affine`` holds scale and bias; ``kind`` is the dtype of the result.
    """
    k, c, h, w = shape
    n, masked = c * w, dense.size + binary.size > 0
    out_planes = 1 if pixels_out else c
    length = n // out_planes
    size = 4 if kind == FLOAT32 else 1 if kind == UINT8 else 2
    past = streamed and kind != UINT8 and length % LANES == 0 and address(out) % VECTOR == 0
    direct = past or not streamed
    octets = bytes_in.size > 0
    # bytes that are used once, and where they stand, are converted where they are used
    once = (k == 1 or not octets) and inset.size == 0
    unloaded, parted = once and pixels_in == pixels_out, once and octets and pixels_in and not pixels_out and c == 3
    whole = octets and (unloaded or parted)
    item = 1 if octets else 4
    images = address(bytes_in) if octets else address(floats_in)
    loaded, parts = np.empty((2, out_planes, length), np.float32), np.empty((2, n), np.uint8)
    affine_row, ready = np.empty((2, n), np.float32), np.empty(4 * length, np.uint8)
    wx, wy, pixels = np.zeros((k, w), np.float32), np.empty((k, h), np.float32), np.zeros((k, w, c), np.float32)
    columns = np.empty((k, w), np.int64)
    for i in range(n):
        affine_row[0, i] = affine[0, i % c if pixels_out else i // w]
        affine_row[1, i] = affine[1, i % c if pixels_out else i // w]
    for b in range(start, stop):
        for j in range(k):
            if params[b, j, DV] != 0 and not masked:
                _bell(params[b, j, A], params[b, j, CX], params[b, j, X0], params[b, j, X1], wx, j)
                _bell(params[b, j, A], params[b, j, CY], params[b, j, Y0], params[b, j, Y1], wy, j)
                if pixels_out:
                    _spread(wx, pixels, j)
            if inset.size and inset[b]:
                x0, x1 = int64(params[b, j, X0]), int64(params[b, j, X1])
                for x in range(x0, x1):
                    columns[j, x] = (x - x0) * w // (x1 - x0)
        for y in range(h):
            for side in range(0 if unloaded else 2):
                row = partner[b] if side else b
                if parted:
                    _part(bytes_in, row, y, h, parts, side)
                elif octets:
                    _load(bytes_in, row, y, h, pixels_in, pixels_out, c, loaded, side)
                else:
                    _load(floats_in, row, y, h, pixels_in, pixels_out, c, loaded, side)
            if unloaded:
                reach, place = h * length * item, images + y * length * item
                own, other = place + b * out_planes * reach, place + partner[b] * out_planes * reach
            elif parted:
                own, other, reach = address(parts), address(parts) + n, length
            else:
                own, other, reach = address(loaded), address(loaded) + 4 * n, 4 * length
            for j in range(k):
                v0, g = params[b, j, V0], params[b, j, DV]
                if inset.size and inset[b] and octets:
                    _load_inset(bytes_in, params, b, j, partner[b], y, h, pixels_in, pixels_out, c, columns, loaded)
                elif inset.size and inset[b]:
                    _load_inset(floats_in, params, b, j, partner[b], y, h, pixels_in, pixels_out, c, columns, loaded)
                if masked:
                    v0, g = float32(0.0), float32(1.0)
                    for x in range(w):
                        wx[j, x] = dense[b, j, y, x] if dense.size else float32(binary[b, j, y, x])
                    if pixels_out:
                        _spread(wx, pixels, j)
                elif g != 0:
                    g *= wy[j, y]
                weights = address(pixels) + 4 * j * n if pixels_out else address(wx) + 4 * j * w
                for i in range(out_planes):
                    to = address(out) + (((b * k + j) * out_planes + i) * h + y) * length * size
                    scale = address(affine_row) + 4 * i * length
                    _blend(
                        own + i * reach, other + i * reach, whole, v0, g, weights, scale, scale + 4 * n, length, kind, past,
                        to if direct else address(ready),
                    )  # fmt: skip
                    if not direct:
                        copy(to, address(ready), length * size, True)
    fence()


def run(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the fused kernel: ``images`` (b, c, ...) uint8 or float32 and ``out`` (b * k, c, ...) dense in memory, on CPU.

    Each is NCHW-contiguous or channels-last. To a constant mask any axes between c and the last are rows, and a table
    (b, n) is one row of one channel, unless it has a scale for each column.
    """
    if out.dtype == torch.float16 and not CONVERTS:
        floats = torch.empty_like(out, dtype=torch.float32)
        run(images, plan, scale, bias, floats)
        out.copy_(floats)
        return
    b, k = plan.weight.shape
    c, w = (images.shape[1], images.shape[-1]) if images.ndim > 2 else (1, images.shape[1])
    if images.ndim == 2 and scale is not None:
        c, w = w, 1
    h = images[0].numel() // (c * w)
    if plan.constant:
        h, w = longer_rows(h, w, c)
    pixels_in, pixels_out = not images.is_contiguous(), not out.is_contiguous()
    affine = np.empty((2, c), np.float32)
    affine[0], affine[1] = (1, 0) if scale is None or bias is None else (scale.numpy(), bias.numpy())
    source = _memory(images).numpy().reshape(-1, w * c if pixels_in else w)
    nothing = np.empty((0, 1), np.uint8), np.empty((0, 1), np.float32)
    bytes_in, floats_in = (source, nothing[1]) if images.dtype == torch.uint8 else (nothing[0], source)
    absent = np.empty((0, 0, 0, 0), np.uint8)
    masks = absent if plan.dense is None else plan.dense
    dense, binary = (absent, masks) if masks.dtype == np.uint8 else (masks, absent)
    inset = np.empty(0, np.bool_) if plan.inset is None else plan.inset
    arrays = plan.partner, plan.params, dense, binary, inset
    dtypes = np.int64, np.float32, np.float32, np.uint8, np.bool_
    # other types, a read-only array's among them, would be compiled for
    drawn = [np.require(array, dtype, ["C", "W"]) for array, dtype in zip(arrays, dtypes, strict=True)]
    result = _memory(out).view(torch.uint8).numpy()
    run_sliced(
        _mix, b, bytes_in, floats_in, *drawn, (k, c, h, w), pixels_in, pixels_out, affine, KINDS[out.dtype],
        result.nbytes >= _STREAMED, result,
    )  # fmt: skip


@lru_cache(maxsize=64)
def longer_rows(h: int, w: int, c: int) -> tuple[int, int]:
    """``h`` rows of ``w`` pixels as fewer and longer ones, for masks that are the same everywhere: a row costs by itself."""
    together = next(n for n in range(max(min(h, _ROW // (w * c)), 1), 0, -1) if h % n == 0)
    return h // together, w * together


def _memory(x: Tensor) -> Tensor:
    """The elements of a dense tensor in the order of memory."""
    return x.as_strided((x.numel(),), (1,))
