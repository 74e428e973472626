"""Images whose background is corrupted: what is outside the object's box is another image, or has noise added to it.

multi-mix (arXiv 2406.01417, section IV-E) asks of a model that its answers stay: noise is N(0, 0.1^2) on pixels in [0, 1].
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Shaped
from torch import Tensor

from ..key import Key, Stream
from ..runtime.checks import check_choice, check_number, check_tensor, check_type


def corrupt_background(
    images: Float[Tensor, "b c h w"],
    boxes: Shaped[Tensor, "b 4"],
    *,
    key: Key,
    how: Literal["replace", "noise"] = "replace",
    sigma: float = 0.1,
) -> Float[Tensor, "b c h w"]:
    """Images with the pixels outside of their box changed (arXiv 2406.01417, section IV-E).

    ``images`` are floating in [0, 1], not normalised; ``boxes`` are (x0, y0, x1, y1) in pixels, x1 and y1 outside, as
    torchvision has them. "replace" shows another image of the batch there, "noise" adds N(0, sigma^2) and clips to [0, 1].
    Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    check_type("key", key, Key, "a Key")
    how, sigma = check_choice("how", how, ("replace", "noise")), check_number("sigma", sigma, 0)  # type: ignore[assignment]
    x, box = check_tensor("images", images), check_tensor("boxes", boxes)
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"images must be floating (b, c, h, w), got {x.dtype} of shape {tuple(x.shape)}")
    if box.shape != (len(x), 4):
        raise ValueError(f"boxes must have shape ({len(x)}, 4), got {tuple(box.shape)}")
    h, w = x.shape[2:]
    left, top, right, bottom = box.to(x.device).T[:, :, None, None]  # (4, b, 1, 1)
    rows, columns = torch.arange(h, device=x.device)[:, None], torch.arange(w, device=x.device)
    inside = ((rows >= top) & (rows < bottom) & (columns >= left) & (columns < right))[:, None]
    if how == "replace":
        if len(x) < 2:
            raise ValueError("images must be at least two to replace a background by another image, got one")
        order = torch.from_numpy(key.permutation(Stream.PAIRING, len(x))).to(x.device)
        other = torch.empty_like(order)
        other[order] = order.roll(-1)
        return torch.where(inside, x, x[other])
    generator = torch.Generator(x.device).manual_seed(int(key.words(Stream.NOISE, 1)[0]) >> 1)
    noise = torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return torch.where(inside, x, (x + sigma * noise).clamp(0, 1))
