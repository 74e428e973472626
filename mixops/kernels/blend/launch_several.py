"""Launches the CUDA kernels for rows of several sources: which of them, with the plan sent ahead by one copy."""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch
import triton
from jaxtyping import Float32, Int32
from torch import Tensor

from ...masks import spread
from ...plan import MixPlan
from ...runtime.devices import current_device, to_device
from .cuda_several import gather_chunks, gather_pixels, gather_planes

_KERNELS = {"chunks": gather_chunks, "planes": gather_planes, "pixels": gather_pixels}
_TILES = {"chunks": (128, 4), "planes": (128, 4), "pixels": (256, 4)}  # chunks, quads or pixels of a program, and its warps
_INTERPRETED = 512  # the interpreter takes long for a program, however large
_STORE = 16  # bytes
_MOST = 65535  # programs along the second axis of a grid


@dataclass(frozen=True, eq=False)
class Uploaded:
    """A plan on the device, with the scale and the bias of the result; a field that is not read holds any tensor."""

    rows: Int32[Tensor, " b*s"]
    shares: Float32[Tensor, " b*k*s"]
    masks: Tensor
    scale: Float32[Tensor, " c+16"]
    bias: Float32[Tensor, " c+16"]
    sizes: tuple[int, int, int]  # b, s, k
    dense: bool
    affine: bool


def mix(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs a kernel on the current stream; ``images`` (b, c, ...) and ``out`` (b * k, c, ...) are dense in memory."""
    launch(images, upload(plan, scale, bias, images.device), out)


def upload(plan: MixPlan, scale: Tensor | None, bias: Tensor | None, device: torch.device) -> Uploaded:
    """Sends a plan to a device: one copy, and another for dense masks.

    Scale and bias go on, repeated, beyond the channels, as far as a chunk may.
    """
    assert plan.more is not None
    (b, s), k = plan.more.rows.shape, plan.interpolations
    shares = plan.more.masks.size if plan.more.constant else 0
    channels = 0 if scale is None else len(scale) + _STORE
    packed = torch.empty(b * s + shares + 2 * channels, dtype=torch.float32, pin_memory=device.type == "cuda")
    host = packed.numpy()
    host[: b * s].view(np.int32)[:] = plan.more.rows.reshape(-1)
    if shares:
        host[b * s : b * s + shares] = plan.more.masks.reshape(-1)
    if scale is not None and bias is not None:
        c = np.arange(channels) % len(scale)
        host[b * s + shares :] = np.concatenate([scale.numpy()[c], bias.numpy()[c]])
    there = packed.to(device, non_blocking=True)
    affine = there[b * s + shares :]
    return Uploaded(
        rows=there[: b * s].view(torch.int32),
        shares=there[b * s :] if shares else there,
        masks=there
        if plan.more.constant
        else spread(to_device(np.ascontiguousarray(plan.more.masks), device), plan.height, plan.width),
        scale=affine if channels else there,
        bias=affine[channels:] if channels else there,
        sizes=(b, s, k),
        dense=not plan.more.constant,
        affine=scale is not None,
    )


def launch(images: Tensor, plan: Uploaded, out: Tensor) -> None:
    """Runs the kernel for two memory layouts and a plan that is on the device."""
    (b, s, k), c = plan.sizes, images.shape[1]
    area = images[0, 0].numel()
    size = c * area
    if size >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 elements each, got {size}")
    kernel, source, count, sizes, constants = _choose(images, out, c, area)
    block, warps = _TILES[kernel] if out.is_cuda else (_INTERPRETED, 4)
    tiles = triton.cdiv(count, block)
    with current_device(out.device):
        _KERNELS[kernel][b, min(tiles, _MOST), triton.cdiv(tiles, _MOST)](
            source, out, plan.rows, plan.shares, plan.masks, plan.scale, plan.bias, *sizes,
            K=k, S=s, **constants, DENSE=plan.dense, AFFINE=plan.affine, BYTES=out.dtype == torch.uint8, BLOCK=block,
            num_warps=warps,
        )  # fmt: skip


def _choose(
    images: Tensor, out: Tensor, c: int, area: int
) -> tuple[str, Tensor, int, tuple[int, ...], dict[str, Any]]:  # fmt: skip
    """The kernel, the source as it reads it, how many items an image has, and the sizes and constants that are its own."""
    pixels_in, pixels_out = (c > 1 and area > 1 and not x.is_contiguous() for x in (images, out))
    if pixels_in == pixels_out:
        vector = gcd(c * area if pixels_in else area, _STORE // out.element_size())
        count = c * area // vector
        return "chunks", images, count, (count, area), {"C": c, "PIXELS": pixels_in, "VECTOR": vector}
    if pixels_in and c == 3 and area % 4 == 0 and images.dtype == torch.uint8 and images.data_ptr() % 4 == 0:
        words = images.as_strided((images.numel(),), (1,)).view(torch.int32)
        return "planes", words, area // 4, (area // 4,), {}
    steps = [(c, 1) if pixels else (1, area) for pixels in (pixels_in, pixels_out)]  # of pixels and channels, in and out
    return "pixels", images, area, (c * area, area, *steps[0], *steps[1]), {"C": c}
