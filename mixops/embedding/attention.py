"""Spatial attention of dense MultiMix: how much a position of an embedding says about its target.

``a = h(z^T u)`` (MultiMix, eq. 10), u the embedding's global average ("gap") or the classifier's weights of its target
("cam"), h ReLU and division by the sum, or softmax. Differentiated by autograd op by op the average attention costs
eight passes over the embeddings; its gradient is one product of inner size 2, ``dz = [ds, 1/r] [u; ds^T z]``.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

ATTENTIONS = ("gap", "cam", "uniform")
NONLINEARITIES = ("relu", "softmax")


def normalise(scores: Float[Tensor, "m r"], nonlinearity: str) -> Float[Tensor, "m r"]:
    """Attention that sums to 1 over positions; all 0 where ReLU leaves nothing (MultiMix, section 3.4)."""
    if nonlinearity == "softmax":
        return scores.softmax(1)
    positive = scores.relu()
    return positive / positive.sum(1, keepdim=True).clamp_min(torch.finfo(scores.dtype).tiny)


def average_scores(features: Float[Tensor, "m r d"]) -> Float[Tensor, "m r"]:
    """``z^T u`` with u the average of z over positions."""
    return _AverageScores.apply(features)  # type: ignore[no-any-return]


def class_scores(
    features: Float[Tensor, "m r d"], weight: Float[Tensor, "c d"], targets: Float[Tensor, "m c"]
) -> Float[Tensor, "m r"]:
    """``z^T u`` with u = W y, the classifier's weights of the target (class activation map)."""
    return torch.einsum("mrd,md->mr", features, targets @ weight)


class _AverageScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, features: Tensor) -> Tensor:
        ctx.save_for_backward(features)
        return _product(features, features.mean(1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (features,), (gradient,) = ctx.saved_tensors, gradients
        m, r, _ = features.shape
        seen = (gradient[:, None] @ features).squeeze(1)  # (m, d): sum over positions of ds z
        left = torch.stack([gradient, gradient.new_full((m, r), 1 / r)], 2)  # (m, r, 2)
        return left @ torch.stack([features.mean(1), seen], 1)  # (m, r, 2) x (m, 2, d) -> (m, r, d)


def _product(features: Tensor, u: Tensor) -> Tensor:
    return (features @ u[..., None]).squeeze(-1)  # (m, r, d) x (m, d, 1) -> (m, r)
