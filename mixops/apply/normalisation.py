"""Normalisation as one product and one sum: ``(x / unit - mean) / std == x * scale + bias``, a value a channel.

``mean`` and ``std`` are those of pixels in [0, 1], as in torchvision and timm; ``unit`` is 255 for bytes and 1 for floats.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..runtime.checks import check_array, check_numbers, shown

_LARGEST = float(np.finfo(np.float32).max)


def affine(
    images: Tensor, mean: Any, std: Any, dtype: torch.dtype
) -> tuple[Float[Tensor, " c"] | None, Float[Tensor, " c"] | None]:
    """(scale, bias) of ``x * scale + bias``, float64 on CPU; (None, None) where nothing is to be done."""
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be given together, got mean={shown(mean)}, std={shown(std)}")
    unit = 255.0 if images.dtype == torch.uint8 and dtype != torch.uint8 else 1.0
    if mean is None or std is None:
        if unit == 1.0:
            return None, None
        mean, std = 0.0, 1.0
    scale, bias = scale_and_bias(check_values("mean", mean), check_values("std", std), unit, images.shape[1])
    return torch.from_numpy(scale), torch.from_numpy(bias)


def check_values(name: str, value: Any) -> tuple[float, ...]:
    """``mean`` or ``std``: a number, a list of them, or a tensor or array of any shape, as (1, c, 1, 1)."""
    if isinstance(value, (Tensor, np.ndarray)):
        value = check_array(name, value).flatten()
    elif isinstance(value, (int, float, np.number)):
        value = (value,)
    return check_numbers(name, value)


@lru_cache(maxsize=32)  # a loader asks the same for every batch
def scale_and_bias(
    mean: tuple[float, ...], std: tuple[float, ...], unit: float, channels: int
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """``x * scale + bias`` is (x / unit - mean) / std. Raises ``ValueError`` naming the argument.

    For bytes, which are brought to [0, 1], values above 1 are taken for those of 0 to 255, the scale of FFCV and DALI.
    """
    for name, value in (("mean", mean), ("std", std)):
        if len(value) not in (1, channels):
            raise ValueError(f"{name} must have one value or one a channel, {channels}, got {len(value)}")
        if unit != 1 and max(map(abs, value)) > 1:
            raise ValueError(
                f"{name} must be on the scale [0, 1] of pixels, got {list(value)}: divide values for 0 to 255 by 255"
            )
    if not all(s > 0 for s in std):
        raise ValueError(f"std must be positive, got {list(std)}")
    m, s = (np.broadcast_to(np.array(value), (channels,)) for value in (mean, std))
    with np.errstate(over="ignore"):
        scale, bias = 1 / (unit * s), -m / s
    if max(scale.max(), np.abs(bias).max()) > _LARGEST:
        raise ValueError(f"mean / std and 1 / std must be numbers that float32 holds, got {list(mean)} and {list(std)}")
    return scale, bias
