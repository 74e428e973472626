"""The blend in plain torch: what the fused kernels do, to read; differentiable, for any device and dtype.

Zero times infinity, and times what is not a number, is not a number. So where a mask is 0 or 1 the other image is left out,
not multiplied by 0: a bad image reaches no row that does not show it.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from ...masks import dense_masks
from ...plan import MixPlan
from ...runtime.devices import to_device


def blend(
    images: Float[Tensor, b * shape],
    plan: MixPlan,
    scale: Float[Tensor, c] | None,
    bias: Float[Tensor, c] | None,
    dtype: torch.dtype,
) -> Float[Tensor, n * shape]:
    """Mixed, scaled and cast images (b * k, ...), computed in float32, or float64 where the images or ``dtype`` are."""
    mix = shares if images.is_floating_point() and hides(plan) else _sum
    compute = torch.float64 if torch.float64 in (images.dtype, dtype) else torch.float32
    own = images.to(compute)
    other = own[to_device(plan.partner, images.device)]
    outputs = []
    for k in range(plan.interpolations):
        mask = _mask(plan, k, images.ndim, images.device, compute)
        a, b = own, other
        if plan.moves is not None:
            from ...apply.moves import move_blocks

            moves = to_device(plan.moves[:, k], images.device)  # (b, 2, blocks)
            a, b = move_blocks(own, moves[:, 0]), move_blocks(other, moves[:, 1])
        outputs.append(mix(mask, a, b))
    mixed = torch.stack(outputs, 1).flatten(0, 1)  # (b, k, ...) -> (b * k, ...)
    if scale is not None and bias is not None:
        channels = (-1, *[1] * (mixed.ndim - 2))
        mixed = mixed * scale.to(compute).view(channels) + bias.to(compute).view(channels)
    return mixed.round_().clamp_(0, 255).to(dtype) if dtype == torch.uint8 else mixed.to(dtype)


def shares(mask: Tensor, own: Tensor, other: Tensor) -> Tensor:
    """``mask * own + (1 - mask) * other``, of which what has no share takes no part."""
    return torch.where(mask == 1, own, torch.where(mask == 0, other, _sum(mask, own, other)))


def hides(plan: MixPlan) -> bool:
    """Whether some mask may be 0 or 1 somewhere."""
    return not plan.constant or bool(((plan.params[..., 0] == 0) | (plan.params[..., 0] == 1)).any())


def _sum(mask: Tensor, own: Tensor, other: Tensor) -> Tensor:
    return mask * own + (1 - mask) * other


def _mask(plan: MixPlan, k: int, ndim: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """The mask of output k, shaped to broadcast over images of ``ndim`` axes."""
    if plan.constant:
        value = to_device(plan.params[:, k, 0], device).to(dtype)
        return value.view(-1, *[1] * (ndim - 1))
    if plan.dense is not None:
        mask = to_device(plan.dense[:, k], device).to(dtype)
    else:
        mask = to_device(dense_masks(plan.params[:, k], plan.height, plan.width), device).to(dtype)
    if ndim == 3:
        return mask  # (b, 1, w): the height of a signal is one
    return mask.view(len(mask), *[1] * (ndim - 3), *mask.shape[1:])  # (b, h, w) -> (b, 1, ..., h, w)
