"""The blend in plain torch: what the fused kernels do, to read; differentiable, for any device and dtype.

Zero times infinity, and times what is not a number, is not a number. So where a mask is 0 or 1 the other image is left out,
not multiplied by 0: a bad image reaches no row that does not show it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ...apply.insets import show_insets
from ...masks import dense_masks, spread
from ...plan import MixPlan
from ...runtime.devices import to_device


def blend(
    images: Float[Tensor, b * shape],
    plan: MixPlan,
    scale: Float[Tensor, c] | None,
    bias: Float[Tensor, c] | None,
    dtype: torch.dtype,
    history: Float[Tensor, m * shape] | None = None,
) -> Float[Tensor, n * shape]:
    """Mixed, scaled and cast images (b * k, ...), computed in float32, or float64 where the images or ``dtype`` are.

    ``history`` holds the partners of the past, where the plan has any.
    """
    compute = torch.float64 if torch.float64 in (images.dtype, dtype) else torch.float32
    own = images.to(compute)
    partner = _partners(own, None if history is None else history.to(compute), plan)
    mix = shares if images.is_floating_point() and hides(plan) else _sum
    outputs = _of_two(own, partner, plan, mix) if plan.more is None else _of_several(own, partner, plan)
    mixed = torch.stack(outputs, 1).flatten(0, 1)  # (b, k, ...) -> (b * k, ...)
    if scale is not None and bias is not None:
        channels = (-1, *[1] * (mixed.ndim - 2))
        mixed = mixed * scale.to(compute).view(channels) + bias.to(compute).view(channels)
    return mixed.round_().clamp_(0, 255).to(dtype) if dtype == torch.uint8 else mixed.to(dtype)


def _partners(own: Tensor, history: Tensor | None, plan: MixPlan) -> Tensor:
    """The second image of each row, of this batch or of the one that was mixed before."""
    rows = to_device(plan.partner, own.device)
    if history is None or plan.past is None:
        return own[rows]
    return torch.where(_shaped(to_device(plan.past, own.device), own.ndim), history[rows], own[rows])


def _of_two(own: Tensor, other: Tensor, plan: MixPlan, mix: Callable[[Tensor, Tensor, Tensor], Tensor]) -> list[Tensor]:
    """The outputs of a batch of images and their partners."""
    outputs = []
    for k in range(plan.interpolations):
        mask = _mask(plan, k, own.ndim, own.device, own.dtype)
        a, b = own, other
        if plan.moves is not None:
            from ...apply.moves import move_blocks

            moves = to_device(plan.moves[:, k], own.device)  # (b, 2, blocks)
            a, b = move_blocks(own, moves[:, 0]), move_blocks(other, moves[:, 1])
        b = show_insets(b, plan, k)
        outputs.append(mix(mask, a, b))
    return outputs


def _of_several(own: Tensor, other: Tensor, plan: MixPlan) -> list[Tensor]:
    """The outputs of rows of several sources, which are added in their order."""
    assert plan.more is not None
    rows = to_device(np.ascontiguousarray(plan.more.rows.T), own.device)
    masks = to_device(plan.more.masks, own.device).to(own.dtype)
    if not plan.more.constant:
        masks = spread(masks, plan.height, plan.width)  # (b, k, s, h, w)
    moves = None if plan.moves is None else to_device(plan.moves, own.device)
    outputs = []
    for k in range(plan.interpolations):
        images = [own[row] for row in rows]
        images[1] = other
        if moves is not None:
            from ...apply.moves import move_blocks

            images[:2] = [move_blocks(image, moves[:, k, side]) for side, image in enumerate(images[:2])]
        images[1] = show_insets(images[1], plan, k)
        outputs.append(sum_of_shares([_shaped(masks[:, k, j], own.ndim) for j in range(len(rows))], images))
    return outputs


def sum_of_shares(masks: Sequence[Tensor] | Tensor, images: Sequence[Tensor]) -> Tensor:
    """``masks[0] * images[0] + masks[1] * images[1] + ...``, of which what has no share takes no part."""
    parts = [torch.where(mask == 0, 0.0, mask * image) for mask, image in zip(masks, images, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total


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
        return _shaped(to_device(plan.params[:, k, 0], device).to(dtype), ndim)
    if plan.dense is not None:
        return _shaped(spread(to_device(plan.dense[:, k], device).to(dtype), plan.height, plan.width), ndim)
    return _shaped(to_device(dense_masks(plan.params[:, k], plan.height, plan.width), device).to(dtype), ndim)


def _shaped(mask: Tensor, ndim: int) -> Tensor:
    """A mask of one value (b,), or (b, h, w), shaped to broadcast over images of ``ndim`` axes."""
    if mask.ndim == 1:
        return mask.view(-1, *[1] * (ndim - 1))
    if ndim == 3:
        return mask  # (b, 1, w): the height of a signal is one
    return mask.view(len(mask), *[1] * (ndim - 3), *mask.shape[1:])  # (b, h, w) -> (b, 1, ..., h, w)
