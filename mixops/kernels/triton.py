"""The fused CUDA kernel: blend, normalise, cast and lay out in one pass, all k outputs from one read of two images.

    out = (M * own + (1 - M) * partner) * scale[c] + bias[c]

A program takes a tile of one image, element by element in the source's memory order, so loads are as wide as the hardware
has them and, where the layout is kept, stores too. From NHWC to NCHW a program takes a tile of pixels and goes over the
channels: stores stay wide, the loads of the other channels hit the L1 cache. M is computed in registers from the nine
floats.
Offsets within an image are 32 bit, image offsets 64 bit: a batch may exceed 2**31 elements.

The compiler may fuse products with sums, so results are those of the eager blend up to float32 rounding, and not its bits:
uint8 results are rounded half to even, too, but a value within 1e-4 of a half may go the other way.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..masks import FLOATS
from ..plan import MixPlan

# (elements a program, warps) by compute capability; 16 elements a thread are one 16-byte load of uint8.
# Chosen for wide loads from the compiled code, not yet by measurement on these devices.
TILES = {80: (2048, 4), 90: (2048, 4)}
_DEFAULT_TILE = (2048, 4)


@triton.jit
def _mask(p, dense, y, x, pixel, hw, row, ok, FLAT: tl.constexpr, DENSE: tl.constexpr):
    """M at some pixels of output ``row``."""
    if DENSE:
        return tl.load(dense + row * hw + pixel, mask=ok, other=0.0)
    m = tl.load(p) + tl.zeros_like(y)
    if not FLAT:
        inside = (y >= tl.load(p + 2)) & (y < tl.load(p + 3)) & (x >= tl.load(p + 4)) & (x < tl.load(p + 5))
        dy = y - tl.load(p + 6)
        dx = x - tl.load(p + 7)
        m += tl.load(p + 1) * tl.where(inside, tl.exp(-(dy * dy + dx * dx) * tl.load(p + 8)), 0.0)
    return m


@triton.jit
def _cast(value, out, BYTES: tl.constexpr):
    if BYTES:  # adding 2**23 leaves the integer, rounded half to even, in the low bits
        return ((value + 8388608.0).to(tl.int32, bitcast=True) & 255).to(tl.uint8)
    return value.to(out.dtype.element_ty)


@triton.jit
def mix_kernel(
    images, out, params, partner, dense, scale, bias, size, hw, width, tiles,
    K: tl.constexpr, C: tl.constexpr, PIXELS_IN: tl.constexpr, PIXELS_OUT: tl.constexpr, FLAT: tl.constexpr,
    DENSE: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """One tile of one image. ``size`` is the number of elements of an image, ``hw`` of its pixels."""
    program = tl.program_id(0)
    b = (program // tiles).to(tl.int64)
    e = (program % tiles) * BLOCK + tl.arange(0, BLOCK)
    own = images + b * size
    other = images + tl.load(partner + b).to(tl.int64) * size
    out += b * K * size
    if PIXELS_IN and not PIXELS_OUT:  # e counts pixels
        ok = e < hw
        y = (e // width).to(tl.float32)
        x = (e % width).to(tl.float32)
        for k in tl.static_range(K):
            m = _mask(params + (b * K + k) * 9, dense, y, x, e, hw, b * K + k, ok, FLAT, DENSE)
            for c in tl.static_range(C):
                a = tl.load(own + e * C + c, mask=ok, other=0).to(tl.float32)
                d = tl.load(other + e * C + c, mask=ok, other=0).to(tl.float32)
                value = m * a + (1.0 - m) * d
                if AFFINE:
                    value = value * tl.load(scale + c) + tl.load(bias + c)
                tl.store(out + c * hw + e, _cast(value, out, BYTES), mask=ok)
            out += size  # not k * size, whose 32 bits k outputs may exceed
    else:  # e counts elements in the source's order
        ok = e < size
        if PIXELS_IN:
            pixel = e // C
            c = e % C
        else:
            pixel = e % hw
            c = e // hw
        y = (pixel // width).to(tl.float32)
        x = (pixel % width).to(tl.float32)
        a = tl.load(own + e, mask=ok, other=0).to(tl.float32)
        d = tl.load(other + e, mask=ok, other=0).to(tl.float32)
        if AFFINE:
            s = tl.load(scale + c, mask=ok, other=0.0)
            t = tl.load(bias + c, mask=ok, other=0.0)
        to = e
        if PIXELS_OUT and not PIXELS_IN:
            to = pixel * C + c
        for k in tl.static_range(K):
            m = _mask(params + (b * K + k) * 9, dense, y, x, pixel, hw, b * K + k, ok, FLAT, DENSE)
            value = m * a + (1.0 - m) * d
            if AFFINE:
                value = value * s + t
            tl.store(out + to, _cast(value, out, BYTES), mask=ok)
            out += size


def mix(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the fused kernel on the current stream; ``images`` (b, c, ...) and ``out`` (b * k, c, ...) are dense in memory.

    Each is contiguous or channels-last. The plan goes to the device in one copy that nothing waits for.
    """
    b, k = plan.weight.shape
    c = images.shape[1]
    h, w = tuple(images.shape[2:]) if images.ndim == 4 else (1, images[0, 0].numel())
    size = c * h * w
    if size >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 elements each, got {size}")
    pixels_in, pixels_out = not images.is_contiguous(), not out.is_contiguous()
    if c == 1 or h * w == 1:
        pixels_in = pixels_out = False
    params, partner, affine = upload(plan, scale, bias, images.device)
    dense = params if plan.dense is None else torch.from_numpy(plan.dense).to(images.device, non_blocking=True)
    block, warps = tile(images.device)
    count = h * w if pixels_in and not pixels_out else size
    tiles = triton.cdiv(count, block)
    mix_kernel[(tiles * b,)](
        images, out, params, partner, dense, affine[:c], affine[c:], size, h * w, w, tiles,
        K=k, C=c, PIXELS_IN=pixels_in, PIXELS_OUT=pixels_out, FLAT=plan.constant, DENSE=plan.dense is not None,
        AFFINE=scale is not None, BYTES=out.dtype == torch.uint8, BLOCK=block, num_warps=warps,
    )  # fmt: skip


def upload(plan: MixPlan, scale: Tensor | None, bias: Tensor | None, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Masks (b * k * 9) float32, partners (b) int32, and scale and bias (2 c) float32 on the device, by one copy."""
    b, k = plan.weight.shape
    masks = b * k * FLOATS
    affine = 0 if scale is None else 2 * len(scale)
    packed = torch.empty(masks + b + max(affine, 2), dtype=torch.float32, pin_memory=device.type == "cuda")
    packed[:masks] = torch.from_numpy(plan.params).reshape(-1)
    packed[masks : masks + b].view(torch.int32).copy_(torch.from_numpy(plan.partner))
    if scale is not None and bias is not None:
        packed[masks + b :] = torch.cat([scale, bias])
    there = packed.to(device, non_blocking=True)
    return there[:masks], there[masks : masks + b].view(torch.int32), there[masks + b :]


def tile(device: torch.device) -> tuple[int, int]:
    """Elements a program and its warps; large tiles for the interpreter, whose programs are slow."""
    if device.type != "cuda":
        return 65536, 4
    major, minor = torch.cuda.get_device_capability(device)
    return TILES.get(10 * major + minor, _DEFAULT_TILE)
