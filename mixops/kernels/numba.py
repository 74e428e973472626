"""The fused CPU kernel: blend, normalise, cast and lay out in one pass over the pixels, all k outputs from one read.

    out = (M * own + (1 - M) * partner) * scale[c] + bias[c]

Images are rows of interleaved elements: NHWC is one plane of w * c elements a row, NCHW c planes of w. Where both sides
have the same layout that is all there is; between NHWC and NCHW a row is computed in the source's layout into a buffer that
stays in the L1 cache and then dealt out. uint8 results are rounded half to even, as torch and NumPy do.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numba import float32, int32, types, uint32
from numba.extending import intrinsic, overload
from torch import Tensor

from ..masks import CX, CY, DV, V0, X0, X1, Y0, Y1, A
from ..plan import MixPlan
from .jit import njit
from .threads import run_sliced

_FAST = {"contract", "nsz", "arcp"}  # no reassociation: M in {0, 1} must give the pixel itself


@intrinsic
def _bits(_: Any, value: Any) -> Any:
    """The bits of a float32 as int32."""
    from llvmlite import ir

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.bitcast(args[0], ir.IntType(32))

    return types.int32(types.float32), generate


def _cast(value, like):
    """``value``, float32, as an element of the array ``like``; int16 holds the bits of float16, uint16 those of bfloat16."""
    raise NotImplementedError


@overload(_cast, inline="always")
def _cast_for(value, like):
    if like.dtype == types.uint8:
        # adding 2**23 leaves the integer, rounded half to even, in the low bits
        return lambda value, like: np.uint8(_bits(value + float32(8388608.0)) & int32(255))
    if like.dtype == types.uint16:
        return lambda value, like: _to_bfloat16(value)
    if like.dtype == types.int16:
        return lambda value, like: _to_float16(value)
    return lambda value, like: value


@njit(inline="always")
def _to_bfloat16(value):
    """Round to nearest even; NaN keeps its payload's top bit."""
    u = uint32(_bits(value))
    rounded = (u + uint32(0x7FFF) + ((u >> uint32(16)) & uint32(1))) >> uint32(16)
    return np.uint16(rounded if value == value else uint32(0x7FC0))


@njit(inline="always")
def _to_float16(value):
    """Round to nearest even, subnormals and overflow included, in integer arithmetic that vectorises."""
    u = uint32(_bits(value))
    a = uint32(u & uint32(0x7FFFFFFF))
    odd = uint32(uint32(a >> uint32(13)) & uint32(1))
    normal = uint32(uint32(uint32(a - uint32(0x38000000)) + uint32(0xFFF)) + odd) >> uint32(13)
    # below 2**-14: adding 0.5 aligns the subnormal's last bit with float32's, and the addition rounds
    small = uint32(uint32(_bits(abs(value) + float32(0.5))) - uint32(0x3F000000))
    h = small if a < uint32(0x38800000) else normal
    h = uint32(0x7C00) if a >= uint32(0x477FF000) else h
    h = uint32(0x7E00) if a > uint32(0x7F800000) else h
    return np.int16(np.uint16(h | (uint32(u >> uint32(16)) & uint32(0x8000))))


@njit(fastmath=_FAST)
def _columns(p, c, weights):
    """wx of every element of a row that interleaves c channels."""
    for x in range(weights.size // c):
        w = float32(0.0)
        if p[X0] <= x < p[X1]:
            d = float32(x) - p[CX]
            w = np.exp(-p[A] * d * d)
        for i in range(c):
            weights[x * c + i] = w


@njit(fastmath=_FAST)
def _blend_row(own, other, v0, g, weights, scale, bias, out):
    for i in range(out.size):
        m = v0 + g * weights[i]
        value = m * float32(own[i]) + (float32(1.0) - m) * float32(other[i])
        out[i] = _cast(value * scale[i] + bias[i], out)


@njit(fastmath=_FAST)
def _blend_row_flat(own, other, m, scale, bias, out):
    n = float32(1.0) - m
    for i in range(out.size):
        out[i] = _cast((m * float32(own[i]) + n * float32(other[i])) * scale[i] + bias[i], out)


@njit(fastmath=_FAST)
def _blend_rows(b, plane, y, images, partner, params, dense, c, weights, scale, bias, out, at):
    """Row y of one plane for all k outputs j, into ``out[at[0], j, at[1], at[2]]``; ``weights`` (k, n) holds their wx."""
    own, other = images[b, plane, y], images[partner[b], plane, y]
    for j in range(len(weights)):
        row = out[at[0], j, at[1], at[2]]
        if dense.size:
            for x in range(dense.shape[3]):
                for i in range(c):
                    weights[j, x * c + i] = dense[b, j, y, x]
            _blend_row(own, other, float32(0.0), float32(1.0), weights[j], scale[plane], bias[plane], row)
            continue
        p = params[b, j]
        if p[DV] != 0 and p[Y0] <= y < p[Y1]:
            d = float32(y) - p[CY]
            g = p[DV] * np.exp(-p[A] * d * d)
            _blend_row(own, other, p[V0], g, weights[j], scale[plane], bias[plane], row)
        else:
            _blend_row_flat(own, other, p[V0], scale[plane], bias[plane], row)


@njit(fastmath=_FAST)
def _prepare(b, params, dense, c, weights):
    if dense.size == 0:
        for j in range(len(weights)):
            if params[b, j, DV] != 0:
                _columns(params[b, j], c, weights[j])


# The three drivers below mix rows ``start`` to ``stop`` of the batch. ``images`` is (b, planes, h, n), n elements a row that
# interleave c channels, ``scale`` and ``bias`` (planes, n), ``params`` (b, k, 9) or, where ``dense`` is not empty, masks
# (b, k, h, w).


@njit(fastmath=_FAST)
def mix_same(start, stop, images, partner, params, dense, c, scale, bias, out):
    """Into ``out`` (b, k, planes, h, n), the layout of the source."""
    weights = np.empty((out.shape[1], out.shape[4]), np.float32)
    for b in range(start, stop):
        _prepare(b, params, dense, c, weights)
        for plane in range(out.shape[2]):
            for y in range(out.shape[3]):
                _blend_rows(
                    b, plane, y, images, partner, params, dense, c, weights, scale, bias, out, (b, plane, y)
                )  # fmt: skip


@njit(fastmath=_FAST)
def mix_to_planes(start, stop, images, partner, params, dense, c, scale, bias, out):
    """From NHWC into ``out`` (b, k, c, h, w)."""
    k, w = out.shape[1], out.shape[4]
    weights = np.empty((k, w * c), np.float32)
    buffer = np.empty((1, k, 1, 1, w * c), out.dtype)
    for b in range(start, stop):
        _prepare(b, params, dense, c, weights)
        for y in range(out.shape[3]):
            _blend_rows(b, 0, y, images, partner, params, dense, c, weights, scale, bias, buffer, (0, 0, 0))
            for j in range(k):
                row = buffer[0, j, 0, 0]
                if c == 3:  # a constant stride, so that the compiler can shuffle vectors
                    for i in range(3):
                        plane = out[b, j, i, y]
                        for x in range(w):
                            plane[x] = row[x * 3 + i]
                else:
                    for i in range(c):
                        plane = out[b, j, i, y]
                        for x in range(w):
                            plane[x] = row[x * c + i]


@njit(fastmath=_FAST)
def mix_to_pixels(start, stop, images, partner, params, dense, c, scale, bias, out):
    """From NCHW into ``out`` (b, k, h, w, planes); ``c`` is 1, for a plane interleaves nothing."""
    k, h, w, planes = out.shape[1:]
    weights = np.empty((k, w), np.float32)
    buffer = np.empty((1, k, 1, 1, w), out.dtype)
    for b in range(start, stop):
        _prepare(b, params, dense, c, weights)
        for y in range(h):
            for plane in range(planes):
                _blend_rows(b, plane, y, images, partner, params, dense, c, weights, scale, bias, buffer, (0, 0, 0))
                for j in range(k):
                    for x in range(w):
                        out[b, j, y, x, plane] = buffer[0, j, 0, 0, x]


def run(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the fused kernel: ``images`` (b, c, ...) uint8 or float32 and ``out`` (b * k, c, ...) dense in memory, on CPU.

    Each is NCHW-contiguous or channels-last; a batch that is not of four axes is (b, 1, 1, n) to a constant mask.
    """
    b, k = plan.weight.shape
    if images.ndim == 4:
        c, h, w = images.shape[1:]
    else:
        c, h, w = images.shape[1], 1, images[0, 0].numel()
    pixels_in, pixels_out = not images.is_contiguous(), not out.is_contiguous()
    source, result = _array(images), _array(out)
    if c == 1 or h * w == 1 or pixels_in == pixels_out:
        kernel = mix_same
    else:
        kernel = mix_to_pixels if pixels_out else mix_to_planes
    if kernel is mix_to_planes or (kernel is mix_same and pixels_in):
        source, interleaved = source.reshape(b, 1, h, w * c), c
    else:
        source, interleaved = source.reshape(b, c, h, w), 1
    if kernel is mix_to_planes:
        result = result.reshape(b, k, c, h, w)
    elif kernel is mix_to_pixels:
        result = result.reshape(b, k, h, w, c)
    else:
        result = result.reshape(b, k, *source.shape[1:])
    planes, n = source.shape[1], source.shape[3]
    ones = np.ones(c) if scale is None else scale.numpy()
    zeros = np.zeros(c) if bias is None else bias.numpy()
    rows = [
        np.tile(v.astype(np.float32).reshape(planes, -1), n if planes == c and interleaved == 1 else w)
        for v in (ones, zeros)
    ]
    dense = np.empty((0, 0, 0, 0), np.float32) if plan.dense is None else np.ascontiguousarray(plan.dense)
    run_sliced(
        kernel, b, source, np.ascontiguousarray(plan.partner), np.ascontiguousarray(plan.params), dense, interleaved,
        rows[0], rows[1], result,
    )  # fmt: skip


def _array(x: Tensor) -> Any:
    """The memory of a dense tensor as a flat array; float16 as int16 and bfloat16 as uint16 bits."""
    flat = x.as_strided((x.numel(),), (1,))
    if x.dtype in (torch.float16, torch.bfloat16):
        bits = flat.view(torch.int16).numpy()
        return bits if x.dtype == torch.float16 else bits.view(np.uint16)
    return flat.numpy()
