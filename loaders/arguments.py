"""The arguments of a loader brought to one form, with errors that name them."""

from __future__ import annotations

import os
from typing import Any, Literal

import numpy as np
import torch

from mixops.apply.targets import check_smoothing
from mixops.augment.crops import CenterCrop, CropLaw, RandomResizedCrop
from mixops.mixers.base import Mixer


def check_mixing(split: str, mixer: Mixer | None, smoothing: float) -> None:
    """Raises unless a split is one and may be mixed, and labels are smoothed only where they are weights."""
    if split not in ("train", "val"):
        raise ValueError(f"split must be 'train' or 'val', got {split!r}")
    if mixer is not None and not isinstance(mixer, Mixer):
        raise TypeError(f"mixer must be a mixer of mixops or None, got {mixer!r}")
    if mixer is not None and split != "train":
        raise ValueError(f"mixer must be None for split='val', where nothing is mixed, got {mixer!r}")
    if smoothing and mixer is None:
        raise ValueError(f"smoothing must be 0 without a mixer, since labels then are class numbers, got {smoothing}")
    check_smoothing(smoothing)


def crop_law(
    split: Literal["train", "val"],
    size: tuple[int, int],
    scale: tuple[float, float],
    ratio: tuple[float, float],
    val_resize: int | None,
) -> CropLaw:
    """Random crops for training; for validation the centre after a resize to ``val_resize``, by default size / 0.875."""
    if split == "train":
        return RandomResizedCrop(scale, ratio)
    return CenterCrop(round(max(size) / 0.875) if val_resize is None else val_resize, size)


def output_size(size: int | tuple[int, int]) -> tuple[int, int]:
    """(height, width) of the output."""
    height, width = (size, size) if isinstance(size, int) else size
    check_count("size", height)
    check_count("size", width)
    return height, width


def check_count(name: str, value: Any) -> None:
    """Raises unless ``value`` is an integer of at least 1."""
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
        raise TypeError(f"{name} must be an integer, got {value!r}")
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def find_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, by default "cuda" where there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = torch.device(device)
    if found.type not in ("cpu", "cuda"):
        raise ValueError(f"device must be 'cpu' or 'cuda', got {str(device)!r}")
    if found.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device must be 'cpu' where torch finds no CUDA, got {str(device)!r}")
    return found


def default_threads() -> int:
    """The processors that this rank may use."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, len(os.sched_getaffinity(0)) // (int(ranks) if ranks.isdigit() else 1))
