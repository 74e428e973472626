"""Targets of mixed images: ``y~ = w * y_i + (1 - w) * y_j``, or a sum over more sources, dense or sparse.

Labels of one class *add*: a pair of two cats is a cat with weight 1. Sparse targets are (index, weight) pairs, because
n x classes float32 is 20 MB at n = 256 and 21,000 classes and nearly all of it is zero.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Float, Float32, Int64
from torch import Tensor

from ..plan import MixPlan
from ..runtime.checks import (
    check_array,
    check_count,
    check_number,
    check_tensor,
    check_type,
    shown,
)
from ..runtime.devices import to_device
from ..runtime.uncompiled import uncompiled

SparseTargets: TypeAlias = tuple[Int64[Tensor, "n a"], Float[Tensor, "n a"]]


@uncompiled
def mix_targets(
    labels: Any, plan: MixPlan, *, num_classes: int | None = None, smoothing: float = 0.0, history: Any = None
) -> Any:
    """Dense targets of the mixed images, float32 (b * k, classes), torch or NumPy as ``labels`` are.

    ``labels`` are int (b,), then ``num_classes`` is required, or soft or multi-label (b, classes). ``smoothing`` in [0, 1)
    gives every class smoothing / classes (timm's and torch's convention). ``history`` holds the targets (b, classes) or more
    of the batch that was mixed before, for rows whose partner is there; they are smoothed already. Raises ``ValueError`` or
    ``TypeError`` naming the argument.
    """
    history = None if history is None else check_array("history", history)
    if isinstance(labels, np.ndarray):
        tensor = check_array("labels", labels)
        return mix_targets(tensor, plan, num_classes=num_classes, smoothing=smoothing, history=history).numpy()
    labels = check_array("labels", labels)
    smoothing = check_smoothing(smoothing)
    _check_rows(labels, check_type("plan", plan, MixPlan, "a MixPlan"))
    if plan.recalls:
        alone = MixPlan.identity(plan.batch_size)
        return _mix_past(mix_targets(labels, alone, num_classes=num_classes, smoothing=smoothing), plan, history)
    if labels.ndim == 2:
        if labels.is_complex() or not labels.shape[1]:
            raise ValueError(f"labels must be real weights of at least one class, got {shown(labels)}")
        if num_classes is not None and check_count("num_classes", num_classes) != labels.shape[1]:
            raise ValueError(f"num_classes must be that of labels, {labels.shape[1]}, got {num_classes}")
        return _mix_soft(labels.float(), plan, smoothing)
    if num_classes is None:
        raise ValueError("num_classes must be given for labels of shape (b,), got None")
    classes = check_labels(labels, num_classes)
    if labels.device.type == "cpu":
        return torch.from_numpy(_one_hot(labels.long().numpy(), plan, classes, smoothing))
    return _scatter(labels, plan, classes, smoothing)


def _one_hot(
    labels: Int64[np.ndarray, " b"], plan: MixPlan, classes: int, smoothing: float
) -> Float32[np.ndarray, "n classes"]:
    """Dense targets of class numbers. By NumPy: torch would wake its OpenMP threads for 64 x 1000 values, and these then
    spin for a while on processors that a loader's decoder needs (12 % of FFCV's images/s on two cores).
    """
    weight = plan.weight.astype(np.float32)
    targets = np.full((*weight.shape, classes), smoothing / classes, np.float32)  # (b, k, classes)
    rows, outputs = np.ogrid[: len(labels), : plan.interpolations]
    if plan.more is not None:
        for source, share in zip(plan.more.rows.T, plan.more.weight.astype(np.float32).transpose(2, 0, 1), strict=True):
            targets[rows, outputs, labels[source][:, None]] += share * (1 - smoothing)
        return targets.reshape(-1, classes)
    targets[rows, outputs, labels[:, None]] += weight * (1 - smoothing)
    targets[rows, outputs, labels[plan.partner][:, None]] += (1 - weight) * (1 - smoothing)
    return targets.reshape(-1, classes)


def _scatter(labels: Int64[Tensor, " b"], plan: MixPlan, classes: int, smoothing: float) -> Float[Tensor, "n classes"]:
    """The same on any device."""
    b, k = plan.weight.shape
    own = labels.long()
    if plan.more is not None:
        sources, weights = _to_several(plan, labels.device)
        parts = [(own[source], share) for source, share in zip(sources, weights, strict=True)]
    else:
        weight, partner = _to(plan, labels.device)
        parts = [(own, weight), (own[partner], 1 - weight)]
    targets = parts[0][1].new_full((b * k, classes), smoothing / classes)
    for label, share in parts:
        index = label[:, None].expand(b, k).reshape(-1, 1)
        targets.scatter_add_(1, index, (share * (1 - smoothing)).view(-1, 1))
    return targets


def _mix_soft(labels: Float[Tensor, "b classes"], plan: MixPlan, smoothing: float) -> Float[Tensor, "n classes"]:
    from ..kernels.blend.eager import shares, sum_of_shares

    if plan.more is not None:
        sources, weights = _to_several(plan, labels.device)
        targets = sum_of_shares(weights, [labels[source][:, None] for source in sources])
    else:
        weight, partner = _to(plan, labels.device)
        targets = shares(weight, labels[:, None], labels[partner][:, None])  # (b, k, classes)
    targets = targets * (1 - smoothing) + smoothing / labels.shape[1] if smoothing else targets
    return targets.flatten(0, 1)


def _mix_past(own: Float[Tensor, "b classes"], plan: MixPlan, history: Tensor | None) -> Float[Tensor, "n classes"]:
    """Targets of rows whose partner may be in the batch mixed before."""
    from ..kernels.blend.eager import sum_of_shares

    if history is None:
        raise ValueError("history must be the targets of the batch that was mixed before for this plan, got None")
    same = history.ndim == 2 and (history.shape[1], history.device) == (own.shape[1], own.device)
    if not same or len(history) < len(own) or not history.is_floating_point():
        raise ValueError(f"history must be floating targets of {tuple(own.shape)} at least, got {shown(history)}")
    assert plan.past is not None
    sources, weights = _to_several(plan, own.device)
    values = [own[source] for source in sources]
    values[1] = torch.where(to_device(plan.past, own.device)[:, None], history[sources[1]].to(own.dtype), values[1])
    return sum_of_shares(weights, [value[:, None] for value in values]).flatten(0, 1)


def _to(plan: MixPlan, device: torch.device) -> tuple[Float[Tensor, "b k 1"], Int64[Tensor, " b"]]:
    """Weights and partners of a plan on a device, by one copy."""
    b, k = plan.weight.shape
    packed = np.empty(2 * b + b * k, np.float32)
    packed[: 2 * b].view(np.int64)[:] = plan.partner
    packed[2 * b :] = plan.weight.reshape(-1)
    there = to_device(packed, device)
    return there[2 * b :].view(b, k, 1), there[: 2 * b].view(torch.int64)


def _to_several(plan: MixPlan, device: torch.device) -> tuple[Int64[Tensor, "s b"], Float[Tensor, "s b k 1"]]:
    """Sources and their weights on a device, by one copy."""
    sources, weights = plan.sources.T, plan.weights.transpose(2, 0, 1)
    packed = np.empty(2 * sources.size + weights.size, np.float32)
    packed[: 2 * sources.size].view(np.int64)[:] = sources.reshape(-1)
    packed[2 * sources.size :] = weights.reshape(-1)
    there = to_device(packed, device)
    rows = there[: 2 * sources.size].view(torch.int64).view(sources.shape)
    return rows, there[2 * sources.size :].view(*weights.shape, 1)


@uncompiled
def sparse_targets(labels: Int64[Tensor, " b"], plan: MixPlan) -> SparseTargets:
    """Targets as classes (b * k, s) int64 and their weights (b * k, s) float32, one of each of the plan's s sources.

    Of two sources the own is first and the partner second. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    labels = check_tensor("labels", labels)
    _check_rows(labels, check_type("plan", plan, MixPlan, "a MixPlan"))
    check_labels(labels, None)
    if plan.recalls:
        raise ValueError(
            "plan must have its partners in the batch, got some that were mixed before: their targets are dense"
        )
    if plan.more is not None:
        sources, weights = _to_several(plan, labels.device)  # (s, b), (s, b, k, 1)
        index = labels.long()[sources].T[:, None].expand(-1, plan.interpolations, -1)
        return index.flatten(0, 1), weights.permute(1, 2, 0, 3).flatten(2).flatten(0, 1)
    weight, partner = _to(plan, labels.device)
    index = torch.stack([labels.long(), labels.long()[partner]], -1)  # (b, 2)
    index = index[:, None].expand(-1, plan.interpolations, 2).flatten(0, 1)  # (b * k, 2)
    return index, torch.cat([weight, 1 - weight], -1).flatten(0, 1)


def check_labels(labels: Tensor, num_classes: int | None) -> int:
    """The number of classes, after checking integer labels (b,); without ``num_classes`` only their type."""
    if labels.ndim != 1:
        raise ValueError(f"labels must be (b,) integers or (b, classes) weights, got shape {tuple(labels.shape)}")
    if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
        raise TypeError(f"labels of shape (b,) must be integers, got {labels.dtype}")
    if num_classes is None:
        return 0
    classes = check_count("num_classes", num_classes)
    check_classes(labels, classes, "labels")
    return classes


def check_classes(numbers: Tensor, classes: int, name: str) -> None:
    # a look at the values would make a CUDA device wait and break a compiled graph; there scatter and gather check bounds
    if numbers.device.type != "cpu" or not numbers.numel() or torch.compiler.is_compiling():
        return
    least, most = (int(x) for x in torch.aminmax(numbers.long()))  # torch compares no uint16; what uint64 overflows is < 0
    if not 0 <= least <= most < classes:
        raise ValueError(f"{name} must be in [0, num_classes = {classes}), got {least} to {most}")


def check_smoothing(smoothing: float, name: str = "smoothing") -> float:
    """``smoothing``, in [0, 1)."""
    return check_number(name, smoothing, 0, 1, below=True)


def _check_rows(labels: Tensor, plan: MixPlan) -> None:
    if labels.ndim < 1 or len(labels) != plan.batch_size:
        raise ValueError(f"labels must have the plan's {plan.batch_size} rows, got shape {tuple(labels.shape)}")
    if labels.ndim > 2:
        raise ValueError(f"labels must be (b,) integers or (b, classes) weights, got shape {tuple(labels.shape)}")
