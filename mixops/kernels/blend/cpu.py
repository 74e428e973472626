"""The fused CPU kernel: blend, normalise, cast and lay out in one pass over the pixels, all k outputs from one read.

    out = (M * own + (1 - M) * partner) * scale[c] + bias[c]

in float32, every operation rounded, in the order of the eager blend: constant, box and dense masks give its very bits, the
Gaussian ones what a float32 exponential is off. uint8 results are rounded half to even, as torch and NumPy do. Where the
mask of floating images is 0 or 1, the one that is not shown is left out: 0 * NaN would be NaN. A partner that is shown whole
in a box is read there pixel by pixel, where it stands in the whole.

A row of the image, all its channels, goes through buffers that stay in the L1 cache: convert it and lay it out as the
result is laid out; blend; cast; copy. The dtypes meet only in the first and the third step and are chosen by a number, not
by a type, so there is one kernel to compile and not one for each of two dozen combinations. A large result bypasses the
caches, which saves reading the lines that are about to be overwritten. Floating results in rows of whole vectors are
blended, cast and stored at once: of 32 pixels a row the steps between would take longer than the work.
"""

from __future__ import annotations

import platform
from typing import Any

import llvmlite.binding
import numba
import numpy as np
import torch
from llvmlite import ir
from numba import float32, int32, int64, types, uint32
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from ...masks import CX, CY, DV, V0, X0, X1, Y0, Y1, A
from ...plan import MixPlan
from ...runtime.jit import njit
from ...runtime.threads import run_sliced

_FLOAT32, _FLOAT16, _BFLOAT16, _UINT8 = range(4)
_KINDS = {torch.float32: _FLOAT32, torch.float16: _FLOAT16, torch.bfloat16: _BFLOAT16, torch.uint8: _UINT8}
_STREAMED = 16 << 20  # bytes: who reads a result this large will not find it in a cache anyhow
_VECTOR = 32  # bytes of a store that bypasses the caches
_LANES = 8
# without an instruction for float16, LLVM calls a routine that numba does not link
_CONVERTS = numba.config.CPU_NAME is None and (
    platform.machine() != "x86_64" or llvmlite.binding.get_host_cpu_features().get("f16c", False)
)


@intrinsic
def _half(_: Any, value: Any) -> Any:
    """The bits of a float32 rounded to float16."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(builder.fptrunc(args[0], ir.HalfType()), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def _address(_: Any, array: Any) -> Any:
    """Where the memory of an array begins."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.intp(array), generate


@intrinsic
def _copy(_: Any, to: Any, source: Any, count: Any, streamed: Any) -> Any:
    """Copies ``count`` bytes from one address to another, past the caches if ``streamed``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, source, count, streamed = args
        byte = ir.IntType(8).as_pointer()
        vector = ir.VectorType(ir.IntType(32), _VECTOR // 4).as_pointer()

        def number(value: int) -> Any:
            return ir.Constant(ir.IntType(64), value)

        def at(offset: Any, pointer: Any) -> Any:
            return [builder.inttoptr(builder.add(address, offset), pointer) for address in (to, source)]

        def move(offset: Any, length: Any) -> None:
            cgutils.raw_memcpy(builder, *at(offset, byte), length, 1)

        with builder.if_else(streamed) as (past, through):
            with past:
                head = builder.and_(builder.neg(to), number(_VECTOR - 1))  # bytes before an aligned address
                head = builder.select(builder.icmp_unsigned("<", head, count), head, count)
                vectors = builder.udiv(builder.sub(count, head), number(_VECTOR))
                done = builder.add(head, builder.mul(vectors, number(_VECTOR)))
                out, read = at(head, vector)
                with builder.if_then(builder.icmp_unsigned("!=", head, number(0))):
                    move(number(0), head)
                with cgutils.for_range(builder, vectors) as loop:
                    value = builder.load(builder.gep(read, [loop.index]), align=1)
                    store = builder.store(value, builder.gep(out, [loop.index]), align=_VECTOR)
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
                with builder.if_then(builder.icmp_unsigned("!=", done, count)):
                    move(done, builder.sub(count, done))
            with through:
                move(number(0), count)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp, types.boolean), generate


@intrinsic
def _blend_at_once(
    _: Any,
    source: Any,
    own: Any,
    other: Any,
    v0: Any,
    g: Any,
    weights: Any,
    j: Any,
    affine: Any,
    at: Any,
    count: Any,
    kind: Any,
    streamed: Any,
    out: Any,
) -> Any:
    """``_blend`` of ``count`` elements, eight at a time, from elements ``own`` and ``other`` of ``source``.

    ``weights`` and ``affine`` are read from column ``at``; ``out`` is an aligned address of elements of a floating ``kind``,
    which are stored past the caches if ``streamed``. Written in vectors because LLVM does not make vectors of such stores.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        _, own, other, v0, g, _, j, _, at, count, kind, streamed, out = args
        floats, words = ir.VectorType(ir.FloatType(), _LANES), ir.VectorType(ir.IntType(16), _LANES)

        def array(i: int) -> Any:
            return context.make_array(signature.args[i])(context, builder, args[i])

        def pointer(i: int, offset: Any) -> Any:
            return builder.gep(array(i).data, [offset])

        def row(i: int, number: Any) -> Any:
            width = builder.extract_value(array(i).shape, 1)
            return pointer(i, builder.add(builder.mul(number, width), at))

        def read(start: Any, i: Any) -> Any:
            first = builder.gep(start, [i])
            kind = ir.VectorType(first.type.pointee, _LANES)
            value = builder.load(builder.bitcast(first, kind.as_pointer()), align=1)
            if kind.element == ir.IntType(8):
                value = builder.uitofp(builder.zext(value, ir.VectorType(ir.IntType(32), _LANES)), floats)
            return value

        def splat(value: Any) -> Any:
            one = builder.insert_element(ir.Constant(floats, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
            return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), _LANES), [0] * _LANES))

        def number(value: int) -> Any:
            return ir.Constant(ir.IntType(64), value)

        def narrow(value: Any) -> Any:
            if not _CONVERTS:  # never asked for: LLVM would call a routine
                return ir.Constant(words, ir.Undefined)
            return builder.bitcast(builder.fptrunc(value, ir.VectorType(ir.HalfType(), _LANES)), words)

        def brain(value: Any) -> Any:
            """As ``_to_bfloat16``."""
            integers = ir.VectorType(ir.IntType(32), _LANES)
            one, half, high, nan = (ir.Constant(integers, [n] * _LANES) for n in (1, 0x7FFF, 16, 0x7FC0))
            u = builder.bitcast(value, integers)
            rounded = builder.lshr(builder.add(builder.add(u, half), builder.and_(builder.lshr(u, high), one)), high)
            rounded = builder.select(builder.fcmp_ordered("==", value, value), rounded, nan)
            return builder.trunc(rounded, words)

        first, second, weight = pointer(0, own), pointer(0, other), row(5, j)
        scale, bias = row(7, number(0)), row(7, number(1))
        v0, g, one, nothing = splat(v0), splat(g), ir.Constant(floats, [1.0] * _LANES), ir.Constant(floats, [0.0] * _LANES)
        vectors = builder.udiv(count, number(_LANES))

        def blend(cast: Any, past: bool) -> None:
            with cgutils.for_range(builder, vectors) as loop:
                i = builder.mul(loop.index, number(_LANES))
                m = builder.fadd(v0, builder.fmul(g, read(weight, i)))
                shown, beside = read(first, i), read(second, i)
                mixed = builder.fadd(builder.fmul(m, shown), builder.fmul(builder.fsub(one, m), beside))
                if first.type.pointee == ir.FloatType():  # of floats what is not shown takes no part: it may be no number
                    mixed = builder.select(builder.fcmp_ordered("==", m, one), shown, mixed)
                    mixed = builder.select(builder.fcmp_ordered("==", m, nothing), beside, mixed)
                value = cast(builder.fadd(builder.fmul(mixed, read(scale, i)), read(bias, i)))
                to = builder.gep(builder.inttoptr(out, value.type.as_pointer()), [loop.index])
                store = builder.store(value, to, align=_LANES * (2 if value.type == words else 4))
                if past:
                    store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))

        casts = {_FLOAT32: lambda value: value, _FLOAT16: narrow, _BFLOAT16: brain}
        for number_of, cast in casts.items():
            asked_for = builder.icmp_unsigned("==", kind, number(number_of))
            with builder.if_then(asked_for), builder.if_else(streamed) as (past, through):
                with past:
                    blend(cast, True)
                with through:
                    blend(cast, False)
        return context.get_dummy_value()

    integers = types.intp
    return types.void(
        source,
        integers,
        integers,
        types.float32,
        types.float32,
        weights,
        integers,
        affine,
        integers,
        integers,
        integers,
        types.boolean,
        integers,
    ), generate


@intrinsic
def _fence(_: Any) -> Any:
    """Lets other threads see what was copied past the caches."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


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
def _blend(sources, v0, g, weights, j, affine, out):
    for i in range(out.size):
        m = v0 + g * weights[j, i]
        out[i] = (m * sources[0, i] + (float32(1.0) - m) * sources[1, i]) * affine[0, i] + affine[1, i]


@njit()
def _blend_shown(sources, v0, g, weights, j, affine, out):
    """``_blend`` of floats, of which what is not shown takes no part: it may be no number."""
    for i in range(out.size):
        m = v0 + g * weights[j, i]
        own, other = sources[0, i], sources[1, i]
        mixed = m * own + (float32(1.0) - m) * other
        mixed = own if m == float32(1.0) else mixed
        mixed = other if m == float32(0.0) else mixed
        out[i] = mixed * affine[0, i] + affine[1, i]


@njit()
def _blend_flat(sources, m, affine, out):
    if m == float32(1.0) or m == float32(0.0):
        shown = 0 if m == float32(1.0) else 1
        for i in range(out.size):
            out[i] = sources[shown, i] * affine[0, i] + affine[1, i]
        return
    n = float32(1.0) - m
    for i in range(out.size):
        out[i] = (m * sources[0, i] + n * sources[1, i]) * affine[0, i] + affine[1, i]


@njit()
def _to_float16(row, out):
    for i in range(row.size):
        out[i] = _half(row[i])


@njit()
def _to_bfloat16(row, out):
    """Round half to even."""
    for i in range(row.size):
        u = uint32(np.float32(row[i]).view(np.int32))
        rounded = (u + uint32(0x7FFF) + ((u >> uint32(16)) & uint32(1))) >> uint32(16)
        out[i] = np.uint16(rounded if row[i] == row[i] else uint32(0x7FC0))


@njit()
def _to_uint8(row, out):
    """Round half to even: adding 2**23 leaves the integer in the low bits."""
    for i in range(row.size):
        out[i] = np.uint8(np.float32(row[i] + float32(8388608.0)).view(np.int32) & int32(255))


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
def _spread(pixels, j, pixels_out, c, rows):
    """One value a pixel to all its channels in a row of the result."""
    w = pixels.shape[1]
    for i in range(c):
        for x in range(w):
            rows[j, x * c + i if pixels_out else i * w + x] = pixels[j, x]


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
    n = c * w
    out_planes = 1 if pixels_out else c
    length = n // out_planes
    count = length * (4 if kind == _FLOAT32 else 1 if kind == _UINT8 else 2)
    direct = kind != _UINT8 and length % _LANES == 0 and _address(out) % _VECTOR == 0
    # bytes that are used once, and where they stand, are converted where they are used
    once = direct and k == 1 and bytes_in.size > 0 and inset.size == 0
    unloaded, parted = once and pixels_in == pixels_out, once and pixels_in and not pixels_out and c == 3
    loaded = np.empty((2, out_planes, length), np.float32)
    sources = loaded.reshape(2, n)
    affine_row, weights = np.empty((2, n), np.float32), np.zeros((k, n), np.float32)
    wx, wy = np.empty((k, w), np.float32), np.empty((k, h), np.float32)
    columns = np.empty((k, w), np.int64)
    parts = np.empty((2, n), np.uint8)
    mixed, halves, octets = np.empty(n, np.float32), np.empty(n, np.uint16), np.empty(n, np.uint8)
    for i in range(n):
        affine_row[0, i] = affine[0, i % c if pixels_out else i // w]
        affine_row[1, i] = affine[1, i % c if pixels_out else i // w]
    for b in range(start, stop):
        for j in range(k):
            if params[b, j, DV] != 0 and dense.size + binary.size == 0:
                _bell(params[b, j, A], params[b, j, CX], params[b, j, X0], params[b, j, X1], wx, j)
                _bell(params[b, j, A], params[b, j, CY], params[b, j, Y0], params[b, j, Y1], wy, j)
                _spread(wx, j, pixels_out, c, weights)
            if inset.size and inset[b]:
                x0, x1 = int64(params[b, j, X0]), int64(params[b, j, X1])
                for x in range(x0, x1):
                    columns[j, x] = (x - x0) * w // (x1 - x0)
        for y in range(h):
            for side in range(0 if unloaded else 2):
                row = partner[b] if side else b
                if parted:
                    _part(bytes_in, row, y, h, parts, side)
                elif bytes_in.size:
                    _load(bytes_in, row, y, h, pixels_in, pixels_out, c, loaded, side)
                else:
                    _load(floats_in, row, y, h, pixels_in, pixels_out, c, loaded, side)
            for j in range(k):
                v0, g = params[b, j, V0], params[b, j, DV]
                if inset.size and inset[b] and bytes_in.size:
                    _load_inset(bytes_in, params, b, j, partner[b], y, h, pixels_in, pixels_out, c, columns, loaded)
                elif inset.size and inset[b]:
                    _load_inset(floats_in, params, b, j, partner[b], y, h, pixels_in, pixels_out, c, columns, loaded)
                if dense.size + binary.size:
                    v0, g = float32(0.0), float32(1.0)
                    for x in range(w):
                        wx[j, x] = dense[b, j, y, x] if dense.size else float32(binary[b, j, y, x])
                    _spread(wx, j, pixels_out, c, weights)
                elif g != 0:
                    g *= wy[j, y]
                if direct:
                    for i in range(out_planes):
                        at = i * length
                        to = _address(out) + (((b * k + j) * out_planes + i) * h + y) * count
                        if unloaded:
                            own = ((b * out_planes + i) * h + y) * length
                            other = ((partner[b] * out_planes + i) * h + y) * length
                            _blend_at_once(
                                bytes_in, own, other, v0, g, weights, j, affine_row, at, length, kind, streamed, to
                            )
                        elif parted:
                            _blend_at_once(parts, at, n + at, v0, g, weights, j, affine_row, at, length, kind, streamed, to)
                        else:
                            _blend_at_once(
                                sources, at, n + at, v0, g, weights, j, affine_row, at, length, kind, streamed, to
                            )
                    continue
                if g != 0 and bytes_in.size:
                    _blend(sources, v0, g, weights, j, affine_row, mixed)
                elif g != 0:
                    _blend_shown(sources, v0, g, weights, j, affine_row, mixed)
                else:
                    _blend_flat(sources, v0, affine_row, mixed)
                ready = _address(mixed)
                if kind == _FLOAT16 and _CONVERTS:
                    _to_float16(mixed, halves)
                    ready = _address(halves)
                elif kind == _BFLOAT16:
                    _to_bfloat16(mixed, halves)
                    ready = _address(halves)
                elif kind == _UINT8:
                    _to_uint8(mixed, octets)
                    ready = _address(octets)
                for i in range(out_planes):
                    to = (((b * k + j) * out_planes + i) * h + y) * count
                    _copy(_address(out) + to, ready + i * count, count, streamed)
    _fence()


def run(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the fused kernel: ``images`` (b, c, ...) uint8 or float32 and ``out`` (b * k, c, ...) dense in memory, on CPU.

    Each is NCHW-contiguous or channels-last. To a constant mask any axes between c and the last are rows, and a table
    (b, n) is one row of one channel, unless it has a scale for each column.
    """
    if out.dtype == torch.float16 and not _CONVERTS:
        floats = torch.empty_like(out, dtype=torch.float32)
        run(images, plan, scale, bias, floats)
        out.copy_(floats)
        return
    b, k = plan.weight.shape
    c, w = (images.shape[1], images.shape[-1]) if images.ndim > 2 else (1, images.shape[1])
    if images.ndim == 2 and scale is not None:
        c, w = w, 1
    h = images[0].numel() // (c * w)
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
        _mix, b, bytes_in, floats_in, *drawn, (k, c, h, w), pixels_in, pixels_out, affine, _KINDS[out.dtype],
        result.nbytes >= _STREAMED, result,
    )  # fmt: skip


def _memory(x: Tensor) -> Tensor:
    """The elements of a dense tensor in the order of memory."""
    return x.as_strided((x.numel(),), (1,))
