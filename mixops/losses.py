"""The loss of mixed targets: cross-entropy that takes dense targets and sparse (index, weight) pairs alike.

    loss = sum_c y_c (log sum_d exp(l_d) - l_c) = (sum_c y_c) log sum_d exp(l_d) - sum_c y_c l_c

The second form needs no row of probabilities. Targets of several labels need not sum to 1.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from .apply.targets import SparseTargets, check_classes, check_smoothing
from .runtime.checks import check_choice, check_sequence, check_tensor, shown

_REDUCTIONS = ("mean", "sum", "none")


def soft_cross_entropy(
    logits: Float[Tensor, "n classes"],
    targets: Float[Tensor, "n classes"] | SparseTargets,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of logits against dense targets (n, classes) or sparse (index, weight) pairs, each (n, a).

    For sparse targets nothing of the size n x classes is formed but the log-softmax itself; ``label_smoothing`` then is
    torch's. ``reduction`` is "mean", "sum" or "none". Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    label_smoothing = check_smoothing(label_smoothing, "label_smoothing")
    check_choice("reduction", reduction, _REDUCTIONS)
    if not check_tensor("logits", logits).is_floating_point():
        raise TypeError(f"logits must be a floating tensor (n, classes), got {shown(logits)}")
    if logits.ndim != 2 or not logits.shape[1]:
        raise ValueError(f"logits must have shape (n, classes), got {tuple(logits.shape)}")
    log_total = logits.logsumexp(-1)
    if isinstance(targets, (tuple, list)):
        index, weight = _check_sparse(targets, logits)
        mass = weight.sum(-1)
        right = (logits.gather(-1, index) * weight.to(logits.dtype)).sum(-1)
    else:
        if not isinstance(targets, Tensor) or targets.is_complex() or targets.layout != torch.strided:
            raise TypeError(f"targets must be a dense tensor (n, classes) or a pair (index, weight), got {shown(targets)}")
        if targets.shape != logits.shape:
            raise ValueError(f"targets must have the shape of logits {tuple(logits.shape)}, got {tuple(targets.shape)}")
        if targets.device != logits.device:
            raise ValueError(f"targets must be on the device of logits, {logits.device}, got {shown(targets)}")
        mass = targets.sum(-1)
        right = (logits * targets.to(logits.dtype)).sum(-1)
    if label_smoothing:
        right = (1 - label_smoothing) * right + label_smoothing * mass * logits.mean(-1)
    loss = mass * log_total - right  # -sum_c y_c (l_c - log_total)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def _check_sparse(targets: Any, logits: Tensor) -> SparseTargets:
    index, weight = check_sequence("targets", targets, "a pair of index and weight", 2)
    for part in (index, weight):
        if check_tensor("targets", part, "index and weight tensors").device != logits.device:
            raise ValueError(f"targets must be on the device of logits, {logits.device}, got {shown(part)}")
    if index.dtype != torch.int64 or not weight.is_floating_point():
        raise TypeError(f"targets must be int64 index and floating weight, got {index.dtype} and {weight.dtype}")
    if index.shape != weight.shape or index.ndim != 2 or len(index) != len(logits):
        raise ValueError(
            f"targets must be index and weight of one shape ({len(logits)}, a), "
            f"got {tuple(index.shape)} and {tuple(weight.shape)}"
        )
    check_classes(index, logits.shape[1], "targets")
    return index, weight
