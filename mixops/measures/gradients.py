"""How large and how scattered the gradients of a training step are: what several outputs of a pair lower.

    E |g|^2,    Var g = E |g|^2 - |E g|^2        over the batches of a training set

(multi-mix, arXiv 2406.01417, section III-B, eq. 8 and figure 8; the paper writes (E |g|)^2 where |E g|^2 makes a variance.)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from ..losses import soft_cross_entropy
from ..runtime.checks import check_type
from ..runtime.unwrap import unwrap


@dataclass(frozen=True)
class GradientMoments:
    """Over ``batches`` batches: ``squared_norm`` is E |g|^2, ``variance`` what of it is scatter."""

    batches: int
    squared_norm: float
    variance: float


def gradient_moments(
    model: nn.Module,
    batches: Iterable[tuple[Any, Any]],
    *,
    loss: Callable[[Any, Any], Tensor] = soft_cross_entropy,
) -> GradientMoments:
    """Moments of the gradients of ``loss(model(images), targets)`` by the parameters, over ``batches`` of (images, targets).

    The model stays in the mode it is in, as in a training step; ``.grad`` is not touched. The variance is biased, over the
    batches that were seen. Raises ``ValueError`` where there are none.
    """
    module = unwrap(check_type("model", model, nn.Module, "an nn.Module"))
    parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
    if not parameters:
        raise ValueError("model must have parameters that need a gradient, got none")
    sums = [torch.zeros_like(parameter, dtype=torch.float64, device="cpu") for parameter in parameters]
    count, squares = 0, 0.0
    for images, targets in batches:
        found = torch.autograd.grad(loss(model(images), targets), parameters, allow_unused=True)
        for total, gradient in zip(sums, found, strict=True):
            if gradient is not None:
                wide = gradient.detach().double().cpu()
                squares += float(wide.square().sum())
                total += wide
        count += 1
    if not count:
        raise ValueError("batches must not be empty")
    mean = sum(float((total / count).square().sum()) for total in sums)
    return GradientMoments(count, squares / count, max(squares / count - mean, 0.0))
