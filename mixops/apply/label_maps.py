"""Label maps under the mask of their images: segmentation with mixed samples.

    y~(y, x) = M(y, x) * y_i(y, x) + (1 - M(y, x)) * y_j(y, x)

Class numbers cannot be averaged, so a blend is either soft, one weight a class and pixel, or a hard choice: the class of the
image that has the larger share of the pixel, the row's own where both have half. Where M is 0 or 1, as CutMix's is, the
two agree. For constant masks (mixup) the hard choice is one of the two maps whole, so prefer soft maps there.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

from ..masks import dense_masks, spread
from ..plan import MixPlan
from ..runtime.checks import check_array, check_count, check_type
from ..runtime.devices import to_device
from ..runtime.uncompiled import uncompiled
from .insets import show_insets

_UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)


@uncompiled
def mix_label_maps(maps: Any, plan: MixPlan, *, num_classes: int | None = None, ignore_index: int | None = None) -> Any:
    """Mixes pixel-wise labels as ``mix_images`` mixes the images, torch or NumPy as ``maps`` are.

    Integer ``maps`` (b, h, w) become the hard choice (b * k, h, w) of the same dtype; with ``num_classes`` soft maps float32
    (b * k, classes, h, w). Floating ``maps`` (b, classes, h, w) become soft maps. ``ignore_index`` marks pixels without a
    label: hard maps keep it, soft maps give its share to no class. Row b * K + k is output k of pair b. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """
    if isinstance(maps, np.ndarray):
        tensor = check_array("maps", maps)
        return mix_label_maps(tensor, plan, num_classes=num_classes, ignore_index=ignore_index).numpy()
    maps = check_array("maps", maps)
    _check(maps, check_type("plan", plan, MixPlan, "a MixPlan"))
    if plan.recalls:
        raise ValueError(
            "plan must have its partners in the batch, got some that were mixed before, whose maps are not here"
        )
    if maps.dtype in _UNSIGNED:  # torch can store them and little else
        mixed = mix_label_maps(maps.long(), plan, num_classes=num_classes, ignore_index=ignore_index)
        return mixed.to(maps.dtype) if num_classes is None else mixed
    if num_classes is not None:
        num_classes = check_count("num_classes", num_classes)
    if ignore_index is not None:
        ignore_index = check_count("ignore_index", ignore_index, -(2**63), 2**63 - 1)
    if maps.is_floating_point():
        if num_classes not in (None, maps.shape[1]):
            raise ValueError(f"num_classes must be that of maps, {maps.shape[1]}, got {num_classes}")
        if ignore_index is not None:
            raise ValueError(f"ignore_index must be None for soft maps, got {ignore_index}")
    if plan.more is not None:
        return _mix_several(maps, plan, num_classes, ignore_index)
    from ..kernels.blend.eager import shares

    own, other = _sources(maps, plan)
    mask = _masks(plan, maps)
    if maps.is_floating_point():
        share = mask[:, :, None]  # (b, k, h, w) -> (b, k, 1, h, w)
        return shares(share, own.float(), other.float()).flatten(0, 1)
    if num_classes is None:
        return torch.where(mask >= 0.5, own, other).flatten(0, 1)
    _check_classes(maps, num_classes, ignore_index)
    return _soft(own.flatten(0, 1), other.flatten(0, 1), mask.flatten(0, 1), num_classes, ignore_index)


def _mix_several(maps: Tensor, plan: MixPlan, classes: int | None, ignore: int | None) -> Tensor:
    """The same for rows of several sources; of equal shares the hard choice takes the first."""
    from ..kernels.blend.eager import sum_of_shares

    assert plan.more is not None
    shape = (-1, plan.interpolations, *[-1] * (maps.ndim - 1))
    rows = to_device(np.ascontiguousarray(plan.more.rows.T), maps.device)
    sources = [maps[row][:, None].expand(shape) for row in rows]
    if plan.moves is not None or plan.inset is not None:
        sources[:2] = _sources(maps, plan)
    masks = to_device(np.ascontiguousarray(plan.more.dense(*maps.shape[-2:])), maps.device)  # (b, k, s, h, w)
    if maps.is_floating_point():
        return sum_of_shares(masks[:, :, :, None].unbind(2), [source.float() for source in sources]).flatten(0, 1)
    if classes is None:
        first = masks.argmax(2)  # (b, k, h, w)
        return torch.stack(sources, 2).gather(2, first[:, :, None])[:, :, 0].flatten(0, 1)
    _check_classes(maps, classes, ignore)
    soft = masks.new_zeros((plan.batch_size * plan.interpolations, classes, *maps.shape[-2:]))
    for j, source in enumerate(sources):
        _add_share(soft, source.flatten(0, 1), masks[:, :, j].flatten(0, 1), ignore)
    return soft


def _soft(
    own: Int[Tensor, "n h w"], other: Int[Tensor, "n h w"], mask: Float[Tensor, "n h w"], classes: int, ignore: int | None
) -> Float[Tensor, "n classes h w"]:
    """Shares of the classes; those of one class add."""
    soft = mask.new_zeros((len(own), classes, *own.shape[1:]))
    _add_share(soft, own, mask, ignore)
    _add_share(soft, other, 1 - mask, ignore)
    return soft


def _add_share(soft: Tensor, labels: Tensor, share: Tensor, ignore: int | None) -> None:
    labels = labels.long()
    if ignore is not None:
        share = share * (labels != ignore)
        labels = labels.where(labels != ignore, 0)
    soft.scatter_add_(1, labels[:, None], share[:, None])


def _sources(maps: Shaped[Tensor, "b ..."], plan: MixPlan) -> tuple[Tensor, Tensor]:
    """The maps of the row and of its partner for each output, (b, k, ...), moved and shown whole as the plan says."""
    first, second = (to_device(np.ascontiguousarray(plan.sources[:, j]), maps.device) for j in (0, 1))
    shape = (-1, plan.interpolations, *[-1] * (maps.ndim - 1))
    own, other = maps[first][:, None].expand(shape), maps[second][:, None].expand(shape)
    if plan.moves is not None:
        from .moves import move_blocks

        moves = to_device(plan.moves, maps.device)  # (b, k, 2, blocks)
        own, other = (
            torch.stack([move_blocks(source[:, k], moves[:, k, side]) for k in range(plan.interpolations)], 1)
            for side, source in enumerate((own, other))
        )
    if plan.inset is not None:
        other = torch.stack([show_insets(other[:, k], plan, k) for k in range(plan.interpolations)], 1)
    return own, other


def _masks(plan: MixPlan, maps: Tensor) -> Float[Tensor, "b k h w"]:
    height, width = maps.shape[-2:]
    # a constant mask fits maps of any size
    masks = plan.dense if plan.dense is not None else dense_masks(plan.params, height, width)
    return spread(to_device(masks, maps.device).to(torch.float32), height, width)  # type: ignore[no-any-return]


def _check(maps: Tensor, plan: MixPlan) -> None:
    if maps.dtype == torch.bool or maps.is_complex():
        raise TypeError(f"maps must be integers or floating, got {maps.dtype}")
    axes = 4 if maps.is_floating_point() else 3
    if maps.ndim != axes or len(maps) != plan.batch_size:
        expected = "(b, classes, h, w) floating" if axes == 4 else "(b, h, w) integers"
        raise ValueError(f"maps must be {expected} with the plan's {plan.batch_size} rows, got shape {tuple(maps.shape)}")
    if not plan.constant and tuple(maps.shape[-2:]) != (plan.height, plan.width):
        raise ValueError(f"maps must be {plan.height}x{plan.width} pixels as the plan is, got shape {tuple(maps.shape)}")


def _check_classes(maps: Int[Tensor, "b h w"], num_classes: int, ignore_index: int | None) -> None:
    if maps.device.type != "cpu" or not maps.numel():  # a look at the values would make a CUDA device wait
        return
    labelled = maps if ignore_index is None else maps[maps != ignore_index]
    if labelled.numel() and not 0 <= int(labelled.min()) <= int(labelled.max()) < num_classes:
        raise ValueError(
            f"maps must be in [0, num_classes = {num_classes}), got {int(labelled.min())} to {int(labelled.max())}"
        )
