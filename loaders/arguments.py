"""The arguments of a loader brought to one form, with errors that name them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64

from mixops.apply.targets import check_smoothing
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.augment.crop_plan import CropLaw
from mixops.augment.crops import CenterCrop, RandomResizedCrop
from mixops.augment.policies.base import RGB
from mixops.mixers.base import Mixer
from mixops.mixers.needs import refuse_needs

from .processors import usable_processors
from .sampling import Repeated, Sampling, Sequential, Shuffled, Together, Weighted
from .schedule import Schedule
from .sizes import BatchSizes, Sizes

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's


def check_mixing(split: str, mixer: Mixer | None, smoothing: float) -> None:
    """Raises unless a split is one and may be mixed, and labels are smoothed only where they are weights."""
    if split not in ("train", "val"):
        raise ValueError(f"split must be 'train' or 'val', got {split!r}")
    if mixer is not None and not isinstance(mixer, Mixer):
        raise TypeError(f"mixer must be a mixer of mixops or None, got {mixer!r}")
    refuse_needs(mixer, {"images"}, "an ImageLoader")
    if mixer is not None and split != "train":
        raise ValueError(f"mixer must be None for split='val', where nothing is mixed, got {mixer!r}")
    if smoothing and mixer is None:
        raise ValueError(f"smoothing must be 0 without a mixer, since labels then are class numbers, got {smoothing}")
    check_smoothing(smoothing)


def crop_law(
    split: Literal["train", "val"],
    size: tuple[int, int] | Sizes,
    crop: CropLaw | None,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    val_resize: int | None,
) -> CropLaw:
    """``crop``, or by default random crops for training and for validation the centre after a resize to ``val_resize``."""
    if crop is not None:
        if (scale, ratio, val_resize) != (SCALE, RATIO, None):
            raise ValueError(f"crop must not be given together with scale, ratio or val_resize, got {crop!r}")
        if not callable(getattr(crop, "cut", None)):
            raise TypeError(f"crop must be a law such as RandomResizedCrop(), got {crop!r}")
        return crop
    if split == "train":
        return RandomResizedCrop(scale, ratio)
    law = CenterCrop(val_resize)
    largest = size.largest if isinstance(size, Sizes) else max(size)
    if law.resized((largest, largest)) < largest:
        raise ValueError(f"val_resize must be at least size={largest}, got {val_resize}")
    return law


def choose_sampling(
    shuffle: bool, weights: Sequence[float] | Literal["balanced"] | None, labels: Int64[np.ndarray, " m"],
    repeats: int, together: int | None,
) -> Sampling:  # fmt: skip
    """How samples are drawn: ``labels`` are those of the candidates, ``together`` the rows of a group of copies."""
    check_count("repeats", repeats)
    if (weights is not None) + (repeats > 1) > 1:
        raise ValueError(f"weights must not be given together with repeats = {repeats}")
    if not shuffle:
        if weights is not None or repeats > 1:
            raise ValueError("shuffle must be True for weights or repeats, which draw the samples, got False")
        return Sequential()
    if isinstance(weights, str):
        if weights != "balanced":
            raise ValueError(f"weights must be numbers or 'balanced', got {weights!r}")
        return Weighted.balanced(labels)
    if weights is not None:
        return Weighted(np.asarray(weights, np.float64))
    if repeats > 1:
        return Repeated(repeats) if together is None else Together(repeats, together)
    return Shuffled()


def choose_candidates(indices: Sequence[int] | None, samples: int) -> Int64[np.ndarray, " m"] | None:
    """The samples of a subset, None for all of them."""
    if indices is None:
        return None
    found = np.asarray(indices)
    if found.ndim != 1 or not len(found) or found.dtype.kind not in "iu":
        raise ValueError(f"indices must be a non-empty sequence of integers, got {indices!r:.100}")
    if found.min() < 0 or found.max() >= samples:
        raise ValueError(f"indices must be in [0, {samples}), got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def output_size(size: int | tuple[int, int] | Sizes) -> tuple[int, int] | Sizes:
    """(height, width) of the output, or what it is in the course of the epochs."""
    if isinstance(size, Sizes):
        return size
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


def find_stream(device: torch.device) -> tuple[torch.device, torch.cuda.Stream | None]:
    """The device with its number, and on CUDA a stream of the loader's own."""
    if device.type != "cuda":
        return device, None
    device = torch.device("cuda", torch.cuda.current_device() if device.index is None else device.index)
    return device, torch.cuda.Stream(device)


def default_threads() -> int:
    """The processors that this rank may use."""
    ranks = os.environ.get("LOCAL_WORLD_SIZE", "1")
    return max(1, usable_processors() // (int(ranks) if ranks.isdigit() else 1))


def check_group(mixer: Mixer | None, schedule: Schedule, name: str) -> None:
    """Raises unless a group of rows has the two blocks that a mixer's matching needs; ``name`` is what says its size."""
    matching = None if mixer is None else mixer.matching
    if matching is not None and schedule.group_size < 2 * matching.k:
        raise ValueError(
            f"{name} must be at least 2 * k = {2 * matching.k} for a mixer with {matching!r}, got {schedule.group_size}"
        )


def check_batch_size(batch_size: int | BatchSizes) -> int:
    """The largest batch size of one rank."""
    if isinstance(batch_size, BatchSizes):
        return batch_size.largest
    check_count("batch_size", batch_size)
    return batch_size


def check_timeout(timeout: Any) -> None:
    """Raises unless ``timeout`` is a positive number of seconds."""
    if not timeout > 0:
        raise ValueError(f"timeout must be positive, got {timeout!r}")


def check_choices(*, repeat_mode: str, targets: str, batch: str) -> None:
    """Raises unless each is one of the words that it may be."""
    for name, value, words in (
        ("repeat_mode", repeat_mode, ("dealt", "together")),
        ("targets", targets, ("dense", "sparse")),
        ("batch", batch, ("tuple", "dict")),
    ):
        if value not in words:
            raise ValueError(f"{name} must be {words[0]!r} or {words[1]!r}, got {value!r}")


def data_colours(mean: Sequence[float] | None, std: Sequence[float] | None) -> tuple[RGB, RGB]:
    """Mean and standard deviation of the data, ImageNet's where nothing is normalised."""
    if mean is None or std is None:
        return IMAGENET_MEAN, IMAGENET_STD
    colours = [tuple(np.broadcast_to(np.asarray(values, np.float64).reshape(-1), 3).tolist()) for values in (mean, std)]
    return colours[0], colours[1]
