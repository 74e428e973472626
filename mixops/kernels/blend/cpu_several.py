"""The fused CPU kernel for rows of several sources: gathered, added, normalised, cast and laid out in one pass.

    out = (M_1 * x_1 + M_2 * x_2 + ...) * scale[c] + bias[c]

in float32, every operation rounded, the sources in their order: the eager blend's very bits. What has no share takes no
part: 0 * NaN would be NaN.

A row of the image stays in the L1 cache: the sources are added as they lie in memory, four at a time, so that a sum is read
and written once for four; then it is laid out as the result is, scaled, cast and copied. A layout changes once a row that
way, not once a source. Steps are those of ``cpu.py``, which blends two.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import float32
from torch import Tensor

from ...plan import MixPlan
from ...runtime.jit import njit
from ...runtime.threads import run_sliced
from .cpu import (
    _BFLOAT16,
    _CONVERTS,
    _FLOAT16,
    _FLOAT32,
    _KINDS,
    _STREAMED,
    _UINT8,
    _address,
    _copy,
    _fence,
    _memory,
    _to_bfloat16,
    _to_float16,
    _to_uint8,
)


@njit()
def _add(source, first, shares, begin, end, total, at, count):
    """Adds ``shares[j]`` times the ``count`` elements of ``source`` from ``first[j]`` on, for j from begin to end."""
    j = begin
    while j + 4 <= end:
        a, b, c, d = first[j], first[j + 1], first[j + 2], first[j + 3]
        p, q, r, s = shares[j], shares[j + 1], shares[j + 2], shares[j + 3]
        for i in range(count):
            found = total[at + i] + p * float32(source[a + i])
            found = found + q * float32(source[b + i])
            found = found + r * float32(source[c + i])
            total[at + i] = found + s * float32(source[d + i])
        j += 4
    while j < end:
        a, p = first[j], shares[j]
        for i in range(count):
            total[at + i] = total[at + i] + p * float32(source[a + i])
        j += 1


@njit()
def _add_masked(source, first, masks, b, k, j, y, channels, total, at, count):
    """Adds a source under its mask, of which ``channels`` elements of a row share a value."""
    for x in range(count // channels):
        m = masks[b, k, j, y, x]
        for i in range(x * channels, (x + 1) * channels):
            part = m * float32(source[first + i])
            total[at + i] = total[at + i] + (part if m != float32(0.0) else float32(0.0))


@njit()
def _lay_out(total, c, pixels_in, affine, out):
    """A row of pixels as planes, or of planes as pixels, or as it is; scaled."""
    w = total.size // c
    if pixels_in == 1:  # pixels become planes
        for i in range(c):
            scale, bias = affine[0, i], affine[1, i]
            for x in range(w):
                out[i * w + x] = total[x * c + i] * scale + bias
    else:
        for i in range(c):
            scale, bias = affine[0, i], affine[1, i]
            for x in range(w):
                out[x * c + i] = total[i * w + x] * scale + bias


@njit()
def _scale(total, affine_row, out):
    for i in range(total.size):
        out[i] = total[i] * affine_row[0, i] + affine_row[1, i]


@njit()
def _mix(
    start, stop, bytes_in, floats_in, sources, shares, masks, shape, pixels_in, pixels_out, affine, kind, streamed, out,
):  # fmt: skip
    """Mixes rows ``start`` to ``stop`` of the batch into the memory of ``out``.

    The source is ``bytes_in`` or ``floats_in``, whichever is not empty, as it lies in memory; ``masks`` are used unless they
    are empty, else ``shares``. ``affine`` holds scale and bias; ``kind`` is the dtype of the result.
    """
    k, c, h, w = shape
    n, s = c * w, sources.shape[1]
    in_planes, out_planes = 1 if pixels_in else c, 1 if pixels_out else c
    length, out_length = n // in_planes, n // out_planes
    count = out_length * (4 if kind == _FLOAT32 else 1 if kind == _UINT8 else 2)
    total, mixed = np.empty(n, np.float32), np.empty(n, np.float32)
    halves, octets, affine_row = np.empty(n, np.uint16), np.empty(n, np.uint8), np.empty((2, n), np.float32)
    first, share = np.empty(s, np.int64), np.empty(s, np.float32)
    for i in range(n):
        channel = i % c if pixels_out else i // w
        affine_row[0, i], affine_row[1, i] = affine[0, channel], affine[1, channel]
    for b in range(start, stop):
        for y in range(h):
            for j in range(k):
                total[:] = 0
                for i in range(in_planes):
                    here = 0
                    for t in range(s):
                        at = ((sources[b, t] * in_planes + i) * h + y) * length
                        if masks.size:
                            if bytes_in.size:
                                _add_masked(bytes_in, at, masks, b, j, t, y, n // in_planes // w, total, i * length, length)
                            else:
                                _add_masked(floats_in, at, masks, b, j, t, y, n // in_planes // w, total, i * length, length)
                        elif shares[b, j, t] != 0:
                            first[here], share[here] = at, shares[b, j, t]
                            here += 1
                    if bytes_in.size:
                        _add(bytes_in, first, share, 0, here, total, i * length, length)
                    else:
                        _add(floats_in, first, share, 0, here, total, i * length, length)
                if pixels_in == pixels_out:
                    _scale(total, affine_row, mixed)
                else:
                    _lay_out(total, c, pixels_in, affine, mixed)
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
    """Runs the kernel; images and result as ``cpu.run`` takes them."""
    if out.dtype == torch.float16 and not _CONVERTS:
        floats = torch.empty_like(out, dtype=torch.float32)
        run(images, plan, scale, bias, floats)
        out.copy_(floats)
        return
    assert plan.more is not None
    b, k = plan.weight.shape
    c, w = (images.shape[1], images.shape[-1]) if images.ndim > 2 else (1, images.shape[1])
    if images.ndim == 2 and scale is not None:
        c, w = w, 1
    h = images[0].numel() // (c * w)
    affine = np.empty((2, c), np.float32)
    affine[0], affine[1] = (1, 0) if scale is None or bias is None else (scale.numpy(), bias.numpy())
    source = _memory(images).numpy()
    bytes_in, floats_in = (
        (source, source[:0].view(np.float32)) if source.dtype == np.uint8 else (np.empty(0, np.uint8), source)
    )
    absent = np.empty((0, 0, 0), np.float32), np.empty((0, 0, 0, 0, 0), np.float32)
    shares, masks = (plan.more.masks, absent[1]) if plan.more.constant else (absent[0], plan.more.masks)
    arrays = ((plan.more.rows, np.int64), (shares, np.float32), (masks, np.float32))
    drawn = [np.require(array, dtype, ["C", "W"]) for array, dtype in arrays]
    result = _memory(out).view(torch.uint8).numpy()
    run_sliced(
        _mix, b, bytes_in, floats_in, *drawn, (k, c, h, w), not images.is_contiguous(), not out.is_contiguous(), affine,
        _KINDS[out.dtype], result.nbytes >= _STREAMED, result,
    )  # fmt: skip
