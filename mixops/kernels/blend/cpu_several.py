"""The fused CPU kernel for rows of several sources: gathered, added, normalised, cast and laid out in one pass.

    out = (M_1 * x_1 + M_2 * x_2 + ...) * scale[c] + bias[c]

in float32, every operation rounded, the sources in their order: the eager blend's very bits. What has no share takes no
part: 0 * NaN would be NaN.

The sources are added as they lie in memory, 32 elements at a time, whose sums stay in registers: a source costs a load that
widens, a conversion, a product and a sum for every eight. A row of sums stays in the L1 cache. It is laid out as the result
is, so that a layout changes once a row and not once a source, and then scaled, cast and stored at once. Shares know no
place, so short rows go together; masks do.
"""

from __future__ import annotations

from functools import lru_cache, partial
from typing import Any

import numpy as np
import torch
from llvmlite import ir
from numba import float32, types
from numba.core import cgutils
from numba.extending import intrinsic
from torch import Tensor

from ...plan import MixPlan
from ...runtime.address import address
from ...runtime.jit import njit
from ...runtime.threads import run_sliced
from .cpu import ROW, by_channel, of_type, past_caches, show, sides, turn
from .vectors import (
    CONVERTS,
    FLOAT,
    FLOAT32,
    KINDS,
    LANES,
    UINT8,
    constant,
    each,
    fence,
    number,
    pointer,
    read,
    splat,
    write,
)

_INT64, _FLOAT32 = np.dtype(np.int64), np.dtype(np.float32)
_BLOCK = 4 * LANES  # elements whose sums stay in registers


@intrinsic
def _add(
    _: Any, source: Any, first: Any, j: Any, sources: Any, weights: Any, step: Any, at: Any, count: Any, out: Any
) -> Any:  # fmt: skip
    """Writes ``count`` sums to the address ``out``: of elements of ``source`` from ``first[j, t] + at`` on, times a weight.

    t goes over the number of ``sources``. Weights are floats from the address ``weights`` on: one for each t, or, if there
    is a ``step``, one for each element, and those of the next t a ``step`` of floats on. Of floats, what is weighed by 0
    takes no part.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data, firsts = (context.make_array(signature.args[i])(context, builder, args[i]) for i in (0, 1))
        _, _, j, sources, weights, step, at, count, out = args
        row = builder.gep(firsts.data, [builder.mul(j, builder.extract_value(firsts.shape, 1))])
        weights = pointer(builder, weights)

        def add(i: Any, elements: int, masked: bool) -> None:
            lanes = min(elements, LANES)
            sums = [cgutils.alloca_once(builder, ir.VectorType(FLOAT, lanes)) for _ in range(elements // lanes)]
            for total in sums:
                builder.store(constant(0.0, lanes), total)
            with cgutils.for_range(builder, sources) as loop:
                place = builder.add(builder.load(builder.gep(row, [loop.index])), builder.add(at, i))
                begin = builder.add(builder.mul(loop.index, step), i) if masked else loop.index
                share = None if masked else splat(builder, builder.load(builder.gep(weights, [begin])), lanes)
                for v, total in enumerate(sums):
                    value = read(builder, data.data, builder.add(place, number(v * lanes)), lanes)
                    weight = read(builder, weights, builder.add(begin, number(v * lanes)), lanes) if masked else share
                    part = builder.fmul(weight, value)
                    if masked and data.data.type.pointee == FLOAT:
                        nothing = constant(0.0, lanes)
                        part = builder.select(builder.fcmp_unordered("!=", weight, nothing), part, nothing)
                    builder.store(builder.fadd(builder.load(total), part), total)
            for v, total in enumerate(sums):
                to = builder.add(out, builder.mul(builder.add(i, number(v * lanes)), number(4)))
                write(builder, builder.load(total), to)

        for masked in (False, True):
            with builder.if_then(builder.icmp_unsigned("!=" if masked else "==", step, number(0))):
                each(builder, count, (_BLOCK, LANES, 1), partial(add, masked=masked))
        return context.get_dummy_value()

    return types.void(source, first, *[types.intp] * 7), generate


# No function below slices an array within the loop over rows, as in ``cpu.py``.


@njit()
def _mix(
    start, stop, bytes_in, floats_in, sources, shares, masks, shape, pixels_in, pixels_out, affine, kind, past, out,
):  # fmt: skip
    """Mixes rows ``start`` to ``stop`` of the batch into the memory of ``out``.

    The source is ``bytes_in`` or ``floats_in``, whichever is not empty, as it lies in memory; ``masks`` (rows of the masks,
    w) are used unless they are empty, else ``shares``. ``affine`` holds scale and bias; ``kind`` is the dtype of the
    result; ``past`` is as ``vectors.put`` takes it.
    """
    k, c, h, w = shape
    n, s = c * w, sources.shape[1]
    in_planes, out_planes = 1 if pixels_in else c, 1 if pixels_out else c
    length, out_length = n // in_planes, n // out_planes
    size = 4 if kind == FLOAT32 else 1 if kind == UINT8 else 2
    sums, turned = np.empty(n, np.float32), np.empty(n, np.float32)
    affine_row, weights = np.empty((2, n), np.float32), np.empty((s if masks.size and pixels_in else 0, w, c), np.float32)
    first, share, count = np.empty((k, s), np.int64), np.empty((k, s), np.float32), np.empty(k, np.int64)
    for i in range(n):
        channel = i % c if pixels_out else i // w
        affine_row[0, i], affine_row[1, i] = affine[0, channel], affine[1, channel]
    for b in range(start, stop):
        for j in range(k):
            count[j] = 0
            for t in range(s):
                if masks.size or shares[b, j, t] != 0:
                    first[j, count[j]] = sources[b, t] * n * h
                    share[j, count[j]] = float32(0.0) if masks.size else shares[b, j, t]
                    count[j] += 1
        for y in range(h):
            for j in range(k):
                at, step = address(share) + 4 * j * s, 0
                if masks.size:
                    row = (b * k + j) * s * h + y
                    at, step = address(masks) + 4 * row * w, h * w
                    if pixels_in:
                        for t in range(s):
                            turn(
                                address(masks) + 4 * (row + t * h) * w,
                                0,
                                address(weights) + 4 * t * n,
                                0,
                                w,
                                c,
                                False,
                                False,
                            )
                        at, step = address(weights), n
                for i in range(in_planes):
                    place, to = (i * h + y) * length, address(sums) + 4 * i * length
                    if bytes_in.size:
                        _add(bytes_in, first, j, count[j], at, step, place, length, to)
                    else:
                        _add(floats_in, first, j, count[j], at, step, place, length, to)
                if pixels_in != pixels_out:
                    turn(address(sums), 4 * w, address(turned), 4 * w, w, c, False, pixels_in)
                for i in range(out_planes):
                    summed = (address(sums) if pixels_in == pixels_out else address(turned)) + 4 * i * out_length
                    to = address(out) + (((b * k + j) * out_planes + i) * h + y) * out_length * size
                    scale = address(affine_row) + 4 * i * out_length
                    show(summed, False, scale, scale + 4 * n, out_length, kind, past, to)
    fence()


def run(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the kernel; images and result as ``cpu.run`` takes them."""
    if out.dtype == torch.float16 and not CONVERTS:
        floats = torch.empty_like(out, dtype=torch.float32)
        run(images, plan, scale, bias, floats)
        out.copy_(floats)
        return
    assert plan.more is not None
    b, k = plan.weight.shape
    c, h, w = sides(images, scale)
    affine = by_channel(scale, bias, c)
    source = _memory(images).numpy()
    bytes_in, floats_in = (
        (source, source[:0].view(np.float32)) if source.dtype == np.uint8 else (np.empty(0, np.uint8), source)
    )
    if plan.more.constant:
        shares, masks = plan.more.masks, np.empty((0, 1), np.float32)
        h, w = _longer_rows(h, w, c)
    else:
        shares, masks = np.empty((0, 0, 0), np.float32), plan.more.dense(plan.height, plan.width).reshape(-1, w)
    arrays = ((plan.more.rows, _INT64), (shares, _FLOAT32), (masks, _FLOAT32))
    drawn = [of_type(array, dtype) for array, dtype in arrays]
    pixels_in, pixels_out = not images.is_contiguous(), not out.is_contiguous()
    run_sliced(
        _mix, b, bytes_in, floats_in, *drawn, (k, c, h, w), pixels_in, pixels_out, affine, KINDS[out.dtype],
        past_caches(out, w * c if pixels_out else w), _memory(out).view(torch.uint8).numpy(),
    )  # fmt: skip


@lru_cache(maxsize=64)
def _longer_rows(h: int, w: int, c: int) -> tuple[int, int]:
    """``h`` rows of ``w`` pixels as fewer and longer ones, for shares, which are the same everywhere."""
    together = next(n for n in range(max(min(h, ROW // (w * c)), 1), 0, -1) if h % n == 0)
    return h // together, w * together


def _memory(x: Tensor) -> Tensor:
    """The elements of a dense tensor in the order of memory."""
    return x.as_strided((x.numel(),), (1,))
