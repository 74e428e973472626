"""Launches the CUDA kernel for rows of several sources, with the plan sent ahead by one copy."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import triton
from jaxtyping import Float32, Int32
from torch import Tensor

from ...plan import MixPlan
from ...runtime.devices import current_device, to_device
from .cuda_several import gather

_BLOCK, _WARPS = 256, 4
_MOST = 65535  # programs along the second axis of a grid


@dataclass(frozen=True, eq=False)
class Uploaded:
    """A plan on the device, with the scale and the bias of the result; a field that is not read holds any tensor."""

    rows: Int32[Tensor, " b*s"]
    shares: Float32[Tensor, " b*k*s"]
    masks: Tensor
    scale: Float32[Tensor, " c"]
    bias: Float32[Tensor, " c"]
    sizes: tuple[int, int, int]  # b, s, k
    dense: bool
    affine: bool


def mix(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the kernel on the current stream; ``images`` (b, c, ...) and ``out`` (b * k, c, ...) are dense in memory."""
    launch(images, upload(plan, scale, bias, images.device), out)


def upload(plan: MixPlan, scale: Tensor | None, bias: Tensor | None, device: torch.device) -> Uploaded:
    """Sends a plan to a device: one copy, and another for dense masks."""
    assert plan.more is not None
    (b, s), k = plan.more.rows.shape, plan.interpolations
    shares = plan.more.masks.size if plan.more.constant else 0
    channels = 0 if scale is None else len(scale)
    packed = torch.empty(b * s + shares + 2 * channels, dtype=torch.float32, pin_memory=device.type == "cuda")
    host = packed.numpy()
    host[: b * s].view(np.int32)[:] = plan.more.rows.reshape(-1)
    if shares:
        host[b * s : b * s + shares] = plan.more.masks.reshape(-1)
    if scale is not None and bias is not None:
        host[b * s + shares :] = np.concatenate([scale.numpy(), bias.numpy()])
    there = packed.to(device, non_blocking=True)
    affine = there[b * s + shares :]
    return Uploaded(
        rows=there[: b * s].view(torch.int32),
        shares=there[b * s :] if shares else there,
        masks=there if plan.more.constant else to_device(np.ascontiguousarray(plan.more.masks), device),
        scale=affine if channels else there,
        bias=affine[channels:] if channels else there,
        sizes=(b, s, k),
        dense=not plan.more.constant,
        affine=scale is not None,
    )


def launch(images: Tensor, plan: Uploaded, out: Tensor) -> None:
    """Runs the kernel for a plan that is on the device."""
    (b, s, k), c = plan.sizes, images.shape[1]
    area = images[0, 0].numel()
    size = c * area
    if size >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 elements each, got {size}")
    steps = [(1, area) if x.is_contiguous() else (c, 1) for x in (images, out)]  # of pixels and channels, in and out
    grid = (triton.cdiv(area, _BLOCK), min(b, _MOST), triton.cdiv(b, _MOST))
    with current_device(out.device):
        gather[grid](
            images, out, plan.rows, plan.shares, plan.masks, plan.scale, plan.bias, b, size, area, *steps[0], *steps[1],
            K=k, S=s, C=c, DENSE=plan.dense, AFFINE=plan.affine, BYTES=out.dtype == torch.uint8, BLOCK=_BLOCK,
            num_warps=_WARPS,
        )  # fmt: skip
