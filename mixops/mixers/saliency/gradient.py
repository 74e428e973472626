"""Saliency of images for a model: the size of the input gradient, from one extra backward pass.

    s(y, x) = sqrt(mean_c (d loss / d x[c, y, x])^2)   (arXiv 2009.06962, section 3; the authors' code, in evaluation mode)

The pass leaves no trace in a training loop (``runtime.traceless``). Only where an image is salient matters, not how much,
so each image's gradient starts at the logits with size 1: half precision cannot underflow there, as it does for confident
models without a loss scale.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Float32, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ...runtime.checks import check_tensor, check_type, shown
from ...runtime.traceless import traceless


def gradient_saliency(
    model: nn.Module,
    images: Float[Tensor, "b c h w"],
    labels: Shaped[Tensor, "b ..."],
    *,
    loss: Callable[[Any, Tensor], Tensor] = cross_entropy,
) -> Float32[Tensor, "b h w"]:
    """How much the loss of each image depends on each of its pixels, up to a positive factor an image.

    ``images`` as the model takes them, floating; ``labels`` as ``loss(logits, labels)`` takes them; ``loss`` must be a sum
    or mean over images and ``model`` must return a tensor. One forward and one backward in evaluation mode, under the
    caller's autocast, of the module inside a DistributedDataParallel, DataParallel or compiled wrapper. Gradients,
    buffers, training flags and random states stay as they were. An image that its loss does not depend on gets zeros.
    """
    check_type("model", model, nn.Module, "an nn.Module")
    check_tensor("images", images)
    check_tensor("labels", labels)
    if not callable(loss):
        raise TypeError(f"loss must be a function, got {shown(loss)}")
    if not images.is_floating_point():
        raise TypeError(f"images must be floating as the model takes them, got {images.dtype}")
    if images.ndim != 4:
        raise ValueError(f"images must have shape (b, c, h, w), got {tuple(images.shape)}")
    if labels.ndim < 1 or len(labels) != len(images):
        raise ValueError(f"labels must be those of the {len(images)} images, got {shown(labels)}")
    with traceless(model) as frozen:
        x = images.detach().clone().requires_grad_()
        logits = frozen(x)
        if not isinstance(logits, Tensor):
            raise TypeError(f"model must return a tensor of logits, got {type(logits).__name__}")
        wide = logits.detach().float().requires_grad_()
        (slope,) = torch.autograd.grad(_total(loss, wide, labels), wide)
        size = slope.abs().flatten(1).amax(1).clamp_min(torch.finfo(torch.float32).tiny)
        slope = slope / size.view(-1, *[1] * (slope.ndim - 1))
        (gradient,) = torch.autograd.grad(logits, x, slope.to(logits.dtype))
    return gradient.float().square().mean(1).sqrt()


def _total(loss: Callable[[Any, Tensor], Tensor], logits: Tensor, labels: Tensor) -> Tensor:
    """The loss of a batch, from a function that may not be one for such logits and labels."""
    try:
        total = loss(logits, labels)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"loss must take the model's logits {tuple(logits.shape)} and labels, {shown(labels)}: {error}"
        ) from error
    if not isinstance(total, Tensor) or not total.requires_grad or total.ndim:
        raise TypeError(f"loss must return the sum or mean over images as a tensor with a gradient, got {shown(total)}")
    return total
