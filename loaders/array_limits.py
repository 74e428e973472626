"""What a loader cannot do with arrays that lie on another device, or that are planes (c, h, w) and no pictures of 8 bits.

Resizing is Pillow's arithmetic on RGB bytes, and so are the operations of augmentation; a crop that only cuts needs neither.
So the defaults for planes resize and flip nothing: a mirrored spectrogram runs backwards in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch

from mixops.apply.normalisation import check_values, scale_and_bias
from mixops.augment.crop_plan import CropLaw, draw_crops
from mixops.augment.crops import CenterCrop, PaddedRandomCrop
from mixops.augment.flips import Flip
from mixops.key import Key

from .multi_crop import NamedCrops
from .sources.arrays import Arrays

_ROWS = 16  # drawn to see whether a law resizes


def is_planes(root: Any) -> bool:
    """Whether a data set is an array of planes."""
    return isinstance(root, Arrays) and root.planes


def default_crop(root: Any, split: Literal["train", "val"], crop: CropLaw | None) -> CropLaw | None:
    """``crop``; for planes by default a window anywhere in the image, and for validation in its centre."""
    if crop is not None or not is_planes(root):
        return crop
    return PaddedRandomCrop(0) if split == "train" else CenterCrop(0)


def default_flip(root: Any, flip: float | None) -> float:
    """``flip``, by default 0.5 for pictures and 0 for planes."""
    return (0.0 if is_planes(root) else 0.5) if flip is None else flip


def check_arrays(
    source: Any, device: torch.device, crops: Sequence[NamedCrops],
    mean: Sequence[float] | None, std: Sequence[float] | None, dtype: torch.dtype,
) -> None:  # fmt: skip
    """Raises ``ValueError`` naming the argument for what ``Arrays`` cannot be shown by; all other sources can."""
    if not isinstance(source, Arrays):
        return
    if source.device is not None and _numbered(source.device) != _numbered(device):
        raise ValueError(f"device must be that of the arrays, {source.device}, got {device}")
    if not source.planes:
        return
    for one in crops:
        if one.augmentation is not None:
            raise ValueError(
                f"augment must be None for planes (c, h, w), since its operations are those of RGB bytes, got "
                f"{one.augmentation!r}; transform= is given the planes and a generator"
            )
        stored = source.sizes[np.zeros(_ROWS, int)]
        if draw_crops(Key(), np.arange(_ROWS), stored, one.law, Flip(0.0), one.size).resized:
            raise ValueError(
                f"crop must resize nothing for planes (c, h, w), as PaddedRandomCrop(4) and CenterCrop(0), got {one.law!r}"
            )
    _check_colours(source, mean, std, dtype)


def _check_colours(source: Arrays, mean: Sequence[float] | None, std: Sequence[float] | None, dtype: torch.dtype) -> None:
    """Raises unless planes can be normalised by ``mean`` and ``std``, a value a plane, and be had as ``dtype``."""
    unit = 255.0 if str(source.images.dtype).endswith("uint8") else 1.0
    if dtype == torch.uint8 and unit == 1.0:
        raise ValueError(f"dtype must be floating for planes of {source.images.dtype}, got {dtype}")
    if mean is not None and std is not None:
        scale_and_bias(check_values("mean", mean), check_values("std", std), unit, source.images.shape[3])


def channels_of(source: Any) -> int:
    """Channels of an image: 3, or those of planes."""
    return int(source.images.shape[3]) if is_planes(source) else 3


def _numbered(device: torch.device) -> torch.device:
    if device.type == "cuda" and device.index is None:
        return torch.device("cuda", torch.cuda.current_device())
    return device
