"""Launches the CUDA kernel for rows of several sources, with the plan sent ahead by one copy."""

from __future__ import annotations

import numpy as np
import torch
import triton
from torch import Tensor

from ...plan import MixPlan
from ...runtime.devices import current_device, to_device
from .cuda_several import gather

_BLOCK, _WARPS = 256, 4
_MOST = 65535  # programs along the second axis of a grid


def mix(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    """Runs the kernel on the current stream; ``images`` (b, c, ...) and ``out`` (b * k, c, ...) are dense in memory."""
    assert plan.more is not None
    (b, s), k, c = plan.more.rows.shape, plan.interpolations, images.shape[1]
    area = images[0, 0].numel()
    size = c * area
    if size >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 elements each, got {size}")
    shares = plan.more.masks.size if plan.more.constant else 0
    channels = 0 if scale is None else c
    packed = torch.empty(b * s + shares + 2 * channels, dtype=torch.float32, pin_memory=images.is_cuda)
    host = packed.numpy()
    host[: b * s].view(np.int32)[:] = plan.more.rows.reshape(-1)
    if shares:
        host[b * s : b * s + shares] = plan.more.masks.reshape(-1)
    if scale is not None and bias is not None:
        host[b * s + shares :] = np.concatenate([scale.numpy(), bias.numpy()])
    there = packed.to(images.device, non_blocking=True)
    rows, affine = there[: b * s].view(torch.int32), there[b * s + shares :]
    masks = there if plan.more.constant else to_device(np.ascontiguousarray(plan.more.masks), images.device)
    steps = [(1, area) if x.is_contiguous() else (c, 1) for x in (images, out)]  # of pixels and channels, in and out
    grid = (triton.cdiv(area, _BLOCK), min(b, _MOST), triton.cdiv(b, _MOST))
    with current_device(out.device):
        gather[grid](
            images, out, rows, there[b * s :] if shares else there, masks, affine if channels else there,
            affine[channels:] if channels else there, b, size, area, *steps[0], *steps[1],
            K=k, S=s, C=c, DENSE=not plan.more.constant, AFFINE=scale is not None, BYTES=out.dtype == torch.uint8,
            BLOCK=_BLOCK, num_warps=_WARPS,
        )  # fmt: skip
