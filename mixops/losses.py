"""The loss of mixed targets: cross-entropy that takes dense targets and sparse (index, weight) pairs alike.

    loss = sum_c y_c (log sum_d exp(l_d) - l_c) = (sum_c y_c) log sum_d exp(l_d) - sum_c y_c l_c

The second form needs no row of probabilities. Targets of several labels need not sum to 1.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from .apply.targets import SparseTargets, check_smoothing


def soft_cross_entropy(
    logits: Float[Tensor, "n classes"],
    targets: Float[Tensor, "n classes"] | SparseTargets,
    *,
    label_smoothing: float = 0.0,
    reduction: str = "mean",
) -> Tensor:
    """Cross-entropy of logits against dense targets (n, classes) or sparse (index, weight) pairs, each (n, a).

    For sparse targets nothing of the size n x classes is formed but the log-softmax itself; ``label_smoothing`` then is
    torch's. ``reduction`` is "mean", "sum" or "none".
    """
    check_smoothing(label_smoothing)
    if reduction not in ("mean", "sum", "none"):
        raise ValueError(f"reduction must be 'mean', 'sum' or 'none', got {reduction!r}")
    log_total = logits.logsumexp(-1)
    if isinstance(targets, tuple):
        index, weight = targets
        if index.shape != weight.shape or index.ndim != 2 or len(index) != len(logits):
            raise ValueError(
                f"targets must be index and weight of one shape ({len(logits)}, a), "
                f"got {tuple(index.shape)} and {tuple(weight.shape)}"
            )
        mass = weight.sum(-1)
        right = (logits.gather(-1, index) * weight.to(logits.dtype)).sum(-1)
    else:
        if targets.shape != logits.shape:
            raise ValueError(f"targets must have the shape of logits {tuple(logits.shape)}, got {tuple(targets.shape)}")
        mass = targets.sum(-1)
        right = (logits * targets.to(logits.dtype)).sum(-1)
    if label_smoothing:
        right = (1 - label_smoothing) * right + label_smoothing * mass * logits.mean(-1)
    loss = mass * log_total - right  # -sum_c y_c (l_c - log_total)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()
