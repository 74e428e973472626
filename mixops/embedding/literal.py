"""MultiMix as the paper writes it (eq. 6 to 15): interpolate embeddings and targets, classify, take the cross-entropy.

    M^j = diag(a^j) Lambda^j,  s^j = 1^T M^j,  Z~^j = Z^j M^j / s^j,  Y~^j = Y M^j / s^j
    loss = mean_j sum_k s_k^j H(Y~_k^j, P~_k^j) / sum_k s_k^j

It holds r * n interpolated embeddings, logits and targets at once, for any classifier. Tuples are rows here, so that
Lambda is (r, n, m).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

LEAST_ATTENTION = 1e-15  # tuples of less attention count nothing; a position may be seen by no sample at all


class View(NamedTuple):
    """Embeddings (m, r, d), the classifier that takes interpolated ones (r, n, d) -> (r, n, c), and the attention (m,
    r)."""

    features: Float[Tensor, "m r d"]
    classify: Callable[[Tensor], Tensor]
    attention: Float[Tensor, "m r"] | None

    def interpolate(self, lam: Float[Tensor, "r n m"]) -> tuple[Tensor, Tensor, Tensor]:
        """Logits (r, n, c) of the interpolated embeddings, their weights (r, n, m), and s (r, n)."""
        weights = lam if self.attention is None else lam * self.attention.T[:, None]  # (m, r) -> (r, 1, m)
        s = weights.sum(-1)
        weights = weights / s.clamp_min(LEAST_ATTENTION)[..., None]
        return self.classify(weights @ self.features.transpose(0, 1)), weights, s


def literal_loss(
    student: View,
    targets: Callable[[int], Float[Tensor, "m c"]],
    lam: Float[Tensor, "r n m"],
    *,
    distill: float = 0.0,
    teacher: View | None = None,
) -> Tensor:
    """The loss of eq. 15, with the distillation of eq. 9 of which ``distill`` is 1 - gamma; ``targets`` takes c."""
    logits, weights, s = student.interpolate(lam.to(student.features.dtype))
    precise = torch.promote_types(logits.dtype, torch.float32)
    log_p = logits.log_softmax(-1, dtype=precise)
    entropy = -((weights.to(precise) @ targets(logits.shape[-1]).to(precise)) * log_p).sum(-1)
    if teacher is not None:
        with torch.no_grad():
            teacher_logits, _, seen = teacher.interpolate(lam.to(teacher.features.dtype))
            seen = (seen > LEAST_ATTENTION)[..., None]  # where it sees nothing, the teacher finds all classes equal
            teacher_p = torch.where(seen, teacher_logits, 0).softmax(-1, dtype=precise)
        entropy = (1 - distill) * entropy - distill * (teacher_p * log_p).sum(-1)
    s = torch.where(s > LEAST_ATTENTION, s, 0).to(precise)
    return ((entropy * s).sum(1) / s.sum(1).clamp_min(torch.finfo(precise).tiny)).mean()
