"""Attacks on a model in units of pixels: FGSM and PGD within a maximal change of each pixel.

    FGSM:  x' = clip(x + eps * sign(g))                                        (arXiv 1412.6572)
    PGD:   x' = clip(x' + step * sign(g)), back within eps of x, again and again    (arXiv 1706.06083)

g is the gradient of the loss by the image. Images are those the model takes, so they may be normalised: ``eps`` and the
limits 0 and 1 are those of pixels before that, and ``mean`` and ``std`` say how. An attack in normalised units would be
several times as strong, in each channel by another factor. Like ``gradient_saliency`` it leaves no trace
(``runtime.traceless``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from ..apply.normalisation import check_values
from ..key import Key, Stream
from ..runtime.checks import check_count, check_number, check_tensor, check_type
from ..runtime.traceless import traceless

Loss = Callable[[Any, Tensor], Tensor]


def fgsm(
    model: nn.Module, images: Float[Tensor, "b c h w"], labels: Shaped[Tensor, "b ..."], *, eps: float = 8 / 255,
    mean: Any = 0.0, std: Any = 1.0, loss: Loss = cross_entropy,
) -> Float[Tensor, "b c h w"]:  # fmt: skip
    """Images changed by ``eps`` in each pixel where that raises the loss (arXiv 1412.6572, section 4).

    ``images`` are (pixels - mean) / std of pixels in [0, 1]; ``loss(logits, labels)`` is a sum or mean over images. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """
    return pgd(model, images, labels, eps=eps, step=eps, iterations=1, mean=mean, std=std, loss=loss)


def pgd(
    model: nn.Module, images: Float[Tensor, "b c h w"], labels: Shaped[Tensor, "b ..."], *, eps: float = 4 / 255,
    step: float = 2 / 255, iterations: int = 10, key: Key | None = None, mean: Any = 0.0, std: Any = 1.0,
    loss: Loss = cross_entropy,
) -> Float[Tensor, "b c h w"]:  # fmt: skip
    """Images changed by at most ``eps`` in each pixel, in ``iterations`` steps that raise the loss (arXiv 1706.06083).

    ``eps`` and ``step`` default to those of MultiMix (arXiv 2311.05538, section 4.2), which does not say how many
    iterations. With ``key`` the start is uniform within ``eps``. Else as ``fgsm``.
    """
    check_type("model", model, nn.Module, "an nn.Module")
    clean = check_tensor("images", images).detach()
    if clean.ndim != 4 or not clean.is_floating_point():
        raise ValueError(f"images must be floating (b, c, h, w), got {clean.dtype} of shape {tuple(clean.shape)}")
    eps, step = check_number("eps", eps, 0), check_number("step", step, 0)
    iterations = check_count("iterations", iterations)
    centre, spread = (_by_channel(name, value, clean) for name, value in (("mean", mean), ("std", std)))
    if not (spread > 0).all():
        raise ValueError(f"std must be positive, got {spread.flatten().tolist()}")
    low, high = (0 - centre) / spread, (1 - centre) / spread
    reach, stride = eps / spread, step / spread
    x = clean
    check_type("key", key, (Key, type(None)), "a Key or None")
    if key is not None:
        generator = torch.Generator(clean.device).manual_seed(int(key.words(Stream.NOISE, 1)[0]) >> 1)
        noise = torch.rand(clean.shape, generator=generator, device=clean.device, dtype=clean.dtype)
        x = (clean + (2 * noise - 1) * reach).clamp(low, high)
    with traceless(model) as frozen:
        for _ in range(iterations):
            point = x.clone().requires_grad_()
            (gradient,) = torch.autograd.grad(loss(frozen(point), labels), point)
            x = x + stride * gradient.sign()
            x = torch.minimum(torch.maximum(x, clean - reach), clean + reach).clamp(low, high)
    return x


def _by_channel(name: str, value: Any, images: Tensor) -> Tensor:
    numbers = check_values(name, value)
    if len(numbers) not in (1, images.shape[1]):
        raise ValueError(f"{name} must have one value or one a channel, {images.shape[1]}, got {len(numbers)}")
    return torch.tensor(numbers, dtype=images.dtype, device=images.device).view(1, -1, 1, 1)
