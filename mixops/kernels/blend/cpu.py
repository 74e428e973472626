"""The fused CPU kernel: blend, normalise, cast and lay out in one pass over the pixels, all k outputs from one read.

    out = (M * own + (1 - M) * partner) * scale[c] + bias[c]

in float32, every operation rounded, in the order of the eager blend: constant, box and dense masks give its very bits, the
Gaussian ones what a float32 exponential is off. uint8 results are rounded half to even, as torch and NumPy do. Where the
mask of floating images is 0 or 1, the one that is not shown is left out: 0 * NaN would be NaN. A partner that is shown whole
in a box is read there pixel by pixel, where it stands in the whole; blocks that are moved are fetched strip by strip.

A strip of rows, all its channels, some three kB of floats, is worked on at a time: of 32 pixels a row what a row costs by
itself would take longer than the work. It is laid out as the result is, in a buffer that stays in the L1 cache, unless it is
so already; then it is blended, scaled, cast and stored at once, in vectors. A mask that is 0 or 1 everywhere blends nothing:
the box is copied over a copy of the rest (CutMix), and this one image scaled. The dtypes are chosen by a number, not by a
type, and images are read by their addresses, so there is one kernel to compile and not one for each of two dozen
combinations. A large result bypasses the caches, which saves reading the lines that are about to be overwritten, unless its
strips are no whole vectors: lines that are written in parts would be slower that way.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numba import float32, int32, int64, types
from numba.extending import intrinsic
from torch import Tensor

from ...masks import CX, CY, DV, V0, X0, X1, Y0, Y1, A
from ...plan import MixPlan
from ...runtime.address import address
from ...runtime.jit import INNER, njit
from ...runtime.threads import run_sliced
from .vectors import (
    BYTE,
    CONVERTS,
    FLOAT,
    FLOAT32,
    KINDS,
    UINT8,
    VECTOR,
    constant,
    copy,
    deal,
    fence,
    move,
    pointer,
    put,
    read,
    splat,
    whole_of,
)

_STREAMED = 4 << 20  # bytes: a loader has four results of one size in turn, which together are in no cache any more
_DTYPES = tuple(
    np.dtype(of) for of in (np.int64, np.float32, np.float32, np.uint8, np.bool_, np.int32)
)  # of the arrays of a plan
ROW = 1024  # elements of a strip whose buffers stay in the L1 cache


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


@intrinsic
def show(
    _: Any, image: Any, octets: Any, scale: Any, bias: Any, count: Any, kind: Any, past: Any, out: Any
) -> Any:  # fmt: skip
    """Scales, casts and stores ``count`` elements of one image; the arguments are as those of ``_blend``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        image, octets, scale, bias, count, kind, past, out = args
        scale, bias = pointer(builder, scale), pointer(builder, bias)
        for element, asked in ((BYTE, octets), (FLOAT, builder.not_(octets))):
            first = pointer(builder, image, element)

            def scaled(i: Any, lanes: int, first: Any = first) -> Any:
                value = builder.fmul(read(builder, first, i, lanes), read(builder, scale, i, lanes))
                return builder.fadd(value, read(builder, bias, i, lanes))

            with builder.if_then(asked):
                put(builder, scaled, count, kind, past, out)
        return context.get_dummy_value()

    i, flag = types.intp, types.boolean
    return types.void(i, flag, i, i, i, i, flag, i), generate


# Numbers below that are not said to count something else are addresses and distances in bytes. Nothing slices an array
# within the loop over rows: numba counts references by locked instructions, and these wait until every store past the caches
# is done.


@njit(**INNER)
def turn(source, reach, to, to_reach, count, c, octets, to_planes):
    """Copies ``count`` pixels of c elements to planes ``to_reach`` apart; or planes ``reach`` apart to pixels."""
    if c == 3 and to_planes:
        deal(source, to, to_reach, count, octets, False)
        return
    if c == 3:
        deal(to, source, reach, count, octets, True)
        return
    item = 1 if octets else 4
    for i in range(c):
        for x in range(count):
            at = (x * c + i) * item
            if to_planes:
                move(to + i * to_reach + x * item, source + at, octets)
            else:
                move(to + at, source + i * reach + x * item, octets)


@njit(**INNER)
def _copy_strip(source, reach, to, length, planes):
    """Copies a strip of ``length`` in each plane to where planes follow one another."""
    for i in range(planes):
        copy(to + i * length, source + i * reach, length)


@njit(**INNER)
def _fetch(image, reach, to, length, rows, y, moves, b, j, side, n, h, planes, line):
    """Copies such a strip of ``rows`` rows, from row y on, of an image whose n x n blocks are moved."""
    high, wide = h // n, line // n
    for row in range(rows):
        above, inside = (y + row) // high * n, (y + row) % high
        for place in range(n):
            block = moves[b, j, side, above + place]
            source = image + (block // n * high + inside) * line + block % n * wide
            for i in range(planes):
                copy(to + i * length + row * line + place * wide, source + i * reach, wide)


@njit(**INNER)
def _paste(image, reach, strip, length, box, y, planes, line, pixel):
    """Copies what lies in the box of a strip of an image, from row y on, over a strip as ``_copy_strip`` made it."""
    y0, y1, x0, x1 = box
    for i in range(planes):
        for row in range(y0 - y, y1 - y):
            at = row * line + x0 * pixel
            copy(strip + i * length + at, image + i * reach + at, (x1 - x0) * pixel)


@njit(**INNER)
def _paste_whole(image, reach, strip, length, box, rows, y, columns, j, planes, line, pixel, octets):
    """Shows an image whole in the box of such a strip, from row y on; ``rows`` and ``columns`` say which of its pixels."""
    y0, y1, x0, x1 = box
    item = 1 if octets else 4
    for row in range(y0, y1):
        for i in range(planes):
            to, source = strip + i * length + (row - y) * line, image + i * reach + rows[j, row] * line
            for x in range(x0, x1):
                for at in range(0, pixel, item):
                    move(to + x * pixel + at, source + columns[j, x] * pixel + at, octets)


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


@njit(**INNER)
def _inside(lo, hi, side):
    """The first and the end of the whole numbers t from 0 on below ``side`` with lo <= t < hi."""
    limit = float32(side)
    return (
        int64(math.ceil(min(max(lo, float32(0.0)), limit))),
        int64(math.ceil(min(max(hi, float32(0.0)), limit))),
    )


@njit(**INNER)
def _place(params, b, j, whole, boxes, lines, columns):
    """The pixels inside the box of an output, and, if they show a whole image, which of its pixels that are."""
    h, w = lines.shape[1], columns.shape[1]
    y0, y1 = _inside(params[b, j, Y0], params[b, j, Y1], h)
    x0, x1 = _inside(params[b, j, X0], params[b, j, X1], w)
    boxes[j, 0], boxes[j, 1], boxes[j, 2], boxes[j, 3] = y0, y1, x0, x1
    if whole:
        for y in range(y0, y1):
            lines[j, y] = (y - y0) * h // (y1 - y0)
        for x in range(x0, x1):
            columns[j, x] = (x - x0) * w // (x1 - x0)


@njit(**INNER)
def _shows_one(params, b, j):
    """Whether a mask is 0 or 1 everywhere."""
    v0, dv = params[b, j, V0], params[b, j, DV]
    inside = v0 + dv
    return (v0 == 0 or v0 == 1) and (dv == 0 or (params[b, j, A] == 0 and (inside == 0 or inside == 1)))


@njit(**INNER)
def _look_up(masks, b, j, y, h, w, weights, row):
    """Writes a row of a mask that has a value for each pixel, or for each block of pixels."""
    line, blocks = y // (h // masks.shape[2]), masks.shape[3]
    if blocks == w:
        for x in range(w):
            weights[j, row, x] = masks[b, j, line, x]
    else:
        wide = w // blocks
        for block in range(blocks):
            at = float32(masks[b, j, line, block])
            for x in range(block * wide, block * wide + wide):
                weights[j, row, x] = at


@njit()
def _mix(
    start, stop, images, octets, partner, params, dense, binary, inset, moves, shape, rows, pixels_in, pixels_out, affine,
    kind, past, out,
):  # fmt: skip
    """Mixes images ``start`` to ``stop`` of the batch at ``images``, bytes if ``octets``, else floats, into that at ``out``.

    ``shape`` is (k, c, h, w), and a strip has ``rows`` rows, the last one fewer. Masks ``dense`` or ``binary`` are used
    unless they are empty. ``inset`` is empty unless some rows' partners are shown whole in their boxes, ``moves`` unless
    blocks are moved. ``affine`` holds scale and bias; ``kind`` is the dtype of the result; ``past`` is as ``vectors.put``
    takes it.
    """
    k, c, h, w = shape
    n, masked, turned = rows * w * c, dense.size + binary.size > 0, pixels_in != pixels_out
    item, size = 1 if octets else 4, 4 if kind == FLOAT32 else 1 if kind == UINT8 else 2
    planes, out_planes = 1 if pixels_in else c, 1 if pixels_out else c
    pixel, line, width = c // planes * item, w * (c // planes) * item, w * (c // out_planes)
    reach = h * line
    pastes = turned or rows > 1  # of long rows that lie as the result does both images are read as fast as a box is copied
    pasted, laid, fetched = np.empty(4 * n, np.uint8), np.empty((2, 4 * n), np.uint8), np.empty((2, 4 * n), np.uint8)
    moving, blocks = moves.size > 0, int64(math.sqrt(moves.shape[3]))  # of a side
    affine_row, shown = np.empty((2, n), np.float32), np.empty(k, np.bool_)
    wx, wy, boxes = np.empty((k, w), np.float32), np.empty((k, h), np.float32), np.empty((k, 4), np.int64)
    columns, lines = np.empty((k, w), np.int64), np.empty((k, h), np.int64)
    weights, wide = np.zeros((k, rows, w), np.float32), np.zeros((k, n if pixels_out else 0), np.float32)
    for i in range(n):
        affine_row[0, i] = affine[0, i % c if pixels_out else i // (rows * w)]
        affine_row[1, i] = affine[1, i % c if pixels_out else i // (rows * w)]
    for b in range(start, stop):
        whole = inset.size > 0 and inset[b]
        for j in range(k):
            shown[j] = not masked and not whole and _shows_one(params, b, j)
            _place(params, b, j, whole, boxes, lines, columns)
            if params[b, j, DV] != 0 and not masked and not (shown[j] and pastes):
                _bell(params[b, j, A], params[b, j, CX], params[b, j, X0], params[b, j, X1], wx, j)
                _bell(params[b, j, A], params[b, j, CY], params[b, j, Y0], params[b, j, Y1], wy, j)
                if rows == 1:
                    for x in range(w):
                        weights[j, 0, x] = wx[j, x]
                    if pixels_out:
                        turn(address(wx) + 4 * j * w, 0, address(wide) + 4 * j * n, 0, w, c, False, False)
        own, other = images + b * planes * reach, images + partner[b] * planes * reach
        for y in range(0, h, rows):
            strip = min(rows, h - y)
            count, length, laid_reach, is_laid = strip * w, strip * line, strip * w * item, False
            for j in range(k):
                v0, g = params[b, j, V0], params[b, j, DV]
                box = max(boxes[j, 0], y), min(boxes[j, 1], y + strip), boxes[j, 2], boxes[j, 3]
                boxed = v0 + g != v0 and box[0] < box[1] and box[2] < box[3]
                alone = shown[j] and (pastes or not boxed)
                first, second, first_reach, second_reach = own + y * line, other + y * line, reach, reach
                if moving:
                    first, second, first_reach, second_reach = address(fetched), address(fetched) + 4 * n, length, length
                    _fetch(own, reach, first, length, strip, y, moves, b, j, 0, blocks, h, planes, line)
                    _fetch(other, reach, second, length, strip, y, moves, b, j, 1, blocks, h, planes, line)
                if alone:
                    if v0 == 0:
                        first, second = second, first
                    if boxed:
                        _copy_strip(first, first_reach, address(pasted), length, planes)
                        _paste(second, second_reach, address(pasted), length, box, y, planes, line, pixel)
                        first, first_reach = address(pasted), length
                elif whole:
                    _copy_strip(second, reach, address(pasted), length, planes)
                    _paste_whole(
                        other, reach, address(pasted), length, box, lines, y, columns, j, planes, line, pixel, octets
                    )
                    second, second_reach = address(pasted), length
                if turned:
                    to = address(laid)
                    if alone or moving or not is_laid:
                        turn(first, first_reach, to, laid_reach, count, c, octets, pixels_in)
                    if not alone and (whole or moving or not is_laid):
                        turn(second, second_reach, to + 4 * n, laid_reach, count, c, octets, pixels_in)
                    is_laid = not alone
                    first, second, first_reach, second_reach = to, to + 4 * n, laid_reach, laid_reach
                if masked:
                    v0, g = float32(0.0), float32(1.0)
                    for row in range(strip):
                        if dense.size:
                            _look_up(dense, b, j, y + row, h, w, weights, row)
                        else:
                            _look_up(binary, b, j, y + row, h, w, weights, row)
                elif not alone and g != 0 and rows == 1:
                    g *= wy[j, y]
                elif not alone and g != 0:
                    for row in range(strip):
                        at = g * wy[j, y + row]
                        for x in range(w):
                            weights[j, row, x] = at * wx[j, x]
                    g = float32(1.0)
                if pixels_out and (masked or (not alone and g != 0 and rows > 1)):
                    turn(address(weights) + 4 * j * rows * w, 0, address(wide) + 4 * j * n, 0, count, c, False, False)
                weight = address(wide) + 4 * j * n if pixels_out else address(weights) + 4 * j * rows * w
                for i in range(out_planes):
                    to = out + (((b * k + j) * out_planes + i) * h + y) * width * size
                    scale = address(affine_row) + 4 * i * rows * w
                    if alone:
                        show(first + i * first_reach, octets, scale, scale + 4 * n, strip * width, kind, past, to)
                    else:
                        _blend(
                            first + i * first_reach, second + i * second_reach, octets, v0, g, weight, scale, scale + 4 * n,
                            strip * width, kind, past, to,
                        )  # fmt: skip
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
    c, h, w = sides(images, scale)
    dots = h * w == 1  # either layout, of which pixels are the longer rows
    pixels_in, pixels_out = dots or not images.is_contiguous(), dots or not out.is_contiguous()
    affine = by_channel(scale, bias, c)
    absent = np.empty((0, 0, 0, 0), np.uint8)
    masks = absent if plan.dense is None else plan.dense
    dense, binary = (absent, masks) if masks.dtype == np.uint8 else (masks, absent)
    inset = np.empty(0, np.bool_) if plan.inset is None else plan.inset
    moves = np.empty((0, 0, 0, 0), np.int32) if plan.moves is None else plan.moves
    arrays = plan.partner, plan.params, dense, binary, inset, moves
    drawn = [of_type(array, dtype) for array, dtype in zip(arrays, _DTYPES, strict=True)]
    rows, width = rows_of_strip(h, w * c), w * c if pixels_out else w
    run_sliced(
        _mix, b, images.data_ptr(), images.dtype == torch.uint8, *drawn, (k, c, h, w), rows, pixels_in, pixels_out, affine,
        KINDS[out.dtype], past_caches(out, rows * width, h * width), out.data_ptr(),
    )  # fmt: skip


def sides(images: Tensor, scale: Tensor | None) -> tuple[int, int, int]:
    """Channels, rows and columns of each image, as ``run`` takes them."""
    c, w = (images.shape[1], images.shape[-1]) if images.ndim > 2 else (1, images.shape[1])
    if images.ndim == 2 and scale is not None:
        c, w = w, 1
    return c, images[0].numel() // (c * w), w


def by_channel(scale: Tensor | None, bias: Tensor | None, channels: int) -> np.ndarray:
    """Scale and bias of each channel, float32 (2, channels); 1 and 0 where there are none."""
    affine = np.empty((2, channels), np.float32)
    affine[0], affine[1] = (1, 0) if scale is None or bias is None else (scale.numpy(), bias.numpy())
    return affine


def past_caches(out: Tensor, *lengths: int) -> bool:
    """Whether a result is large enough to bypass the caches and pieces of such ``lengths`` one after another can."""
    whole = whole_of(KINDS[out.dtype])
    return out.nbytes >= _STREAMED and out.data_ptr() % VECTOR == 0 and not any(length % whole for length in lengths)


@lru_cache(maxsize=64)
def rows_of_strip(h: int, elements: int) -> int:
    """How many of ``h`` rows are worked on at a time, in strips of nearly the same height."""
    strips = -(-h // max(ROW // elements, 1))
    return -(-h // strips)


def of_type(array: np.ndarray, dtype: np.dtype[Any]) -> np.ndarray:
    """The array as the kernel is compiled for: it would be again for a read-only one, too."""
    flags = array.flags
    if array.dtype == dtype and flags.c_contiguous and flags.writeable:
        return array
    return np.require(array, dtype, ["C", "W"])
