"""The arguments of a loader brought to one form, with errors that name them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Int64

from mixops.apply.normalisation import check_values, scale_and_bias
from mixops.apply.targets import check_smoothing
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.augment.crop_plan import CropLaw, check_law
from mixops.augment.crops import CenterCrop, RandomResizedCrop
from mixops.augment.policies.base import RGB
from mixops.mixers.base import Mixer
from mixops.mixers.needs import refuse_needs
from mixops.runtime.checks import (
    MOST,
    check_choice,
    check_count,
    check_flag,
    check_indices,
    check_number,
    check_sequence,
    check_type,
    check_vector,
    shown,
)

from .processors import usable_processors
from .sampling import Repeated, Sampling, Sequential, Shuffled, Together, Weighted
from .schedule import Schedule
from .sizes import BatchSizes, Sizes
from .sources.base import Labels
from .transform import check_transform

SCALE, RATIO = (0.08, 1.0), (3 / 4, 4 / 3)  # torchvision's
_WORDS = {
    "repeat_mode": ("dealt", "together"), "targets": ("dense", "sparse"), "batch": ("tuple", "dict", "named"),
    "on_error": ("raise", "skip"),
}  # fmt: skip
_COUNTS = {
    "num_threads": (1, 4096), "prefetch": (1, 4096), "views": (1, 4096), "repeats": (1, MOST), "mix_group": (1, MOST),
    "rank": (0, MOST), "world_size": (1, MOST), "max_bad": (0, MOST),
}  # fmt: skip


def check_mixing(split: str, mixer: Mixer | None, smoothing: float | None) -> float:
    """The smoothing, by default the mixer's.

    Raises unless a split is one and may be mixed, and labels are smoothed only where they are weights.
    """
    check_choice("split", split, ("train", "val"))
    if mixer is not None:
        check_type("mixer", mixer, Mixer, "a mixer of mixops or None")
    if smoothing is None:
        smoothing = 0.0 if mixer is None else mixer.smoothing
    smoothing = check_smoothing(smoothing)
    refuse_needs(mixer, {"images"}, "an ImageLoader")
    if mixer is not None and split != "train":
        raise ValueError(f"mixer must be None for split='val', where nothing is mixed, got {mixer!r}")
    if smoothing and mixer is None:
        raise ValueError(f"smoothing must be 0 without a mixer, since labels then are class numbers, got {smoothing}")
    return smoothing


def check_num_classes(mixer: Mixer | None, classes: int) -> int:
    """``classes`` of the data, after checking that a mixer that says how many there are says the same."""
    if mixer is not None and mixer.num_classes not in (None, classes):
        raise ValueError(f"mixer must have the {classes} classes of the images or leave num_classes out, got {mixer!r}")
    return classes


def crop_law(
    split: Literal["train", "val"],
    size: tuple[int, int] | Sizes,
    crop: CropLaw | None,
    scale: tuple[float, float],
    ratio: tuple[float, float],
    val_resize: int | None,
) -> CropLaw:
    """``crop``, or by default random crops for training and for validation the centre after a resize to ``val_resize``."""
    random_crop = RandomResizedCrop(scale, ratio)
    if val_resize is not None:
        check_count("val_resize", val_resize)
    if crop is not None:
        if (scale, ratio, val_resize) != (SCALE, RATIO, None):
            raise ValueError(f"crop must not be given together with scale, ratio or val_resize, got {shown(crop)}")
        return check_law("crop", crop)
    if split == "train":
        return random_crop
    law = CenterCrop(val_resize)
    largest = size.largest if isinstance(size, Sizes) else max(size)
    if law.resized((largest, largest)) < largest:
        raise ValueError(f"val_resize must be at least size={largest}, got {val_resize}")
    return law


def choose_sampling(
    shuffle: bool, weights: Sequence[float] | Literal["balanced"] | None, labels: Labels,
    repeats: int, together: int | None,
) -> Sampling:  # fmt: skip
    """How samples are drawn: ``labels`` are those of the candidates, ``together`` the rows of a group of copies."""
    if (weights is not None) + (repeats > 1) > 1:
        raise ValueError(f"weights must not be given together with repeats = {repeats}")
    if not shuffle:
        if weights is not None or repeats > 1:
            raise ValueError("shuffle must be True for weights or repeats, which draw the samples, got False")
        return Sequential()
    if isinstance(weights, str):
        check_choice("weights", weights, ("balanced",), "or numbers, one for each sample")
        return Weighted.balanced(labels)
    if weights is not None:
        return Weighted(check_vector("weights", weights).astype(np.float64))
    if repeats > 1:
        return Repeated(repeats) if together is None else Together(repeats, together)
    return Shuffled()


def choose_candidates(indices: Sequence[int] | None, samples: int) -> Int64[np.ndarray, " m"] | None:
    """The samples of a subset, None for all of them."""
    return None if indices is None else check_indices("indices", indices, samples)


def choose_labels(
    labels: Labels, candidates: Int64[np.ndarray, " m"] | None, targets: str, weights: Sequence[float] | str | None
) -> Labels:
    """Those of the candidates. Raises for what cannot be had of labels that are weights of all classes."""
    if labels.ndim == 2 and targets == "sparse":
        raise ValueError("targets must be 'dense' for labels that are weights of all classes, got 'sparse'")
    if labels.ndim == 2 and isinstance(weights, str):
        raise ValueError(f"weights must be numbers for labels that are weights of all classes, got {weights!r}")
    return labels if candidates is None else labels[candidates]


def output_size(size: int | tuple[int, int] | Sizes) -> tuple[int, int] | Sizes:
    """(height, width) of the output, or what it is in the course of the epochs."""
    if isinstance(size, Sizes):
        return size
    if isinstance(size, (Sequence, np.ndarray)) and not isinstance(size, str):
        height, width = (check_count("size", side) for side in check_sequence("size", size, "a side or a pair", 2))
        return height, width
    side = check_count("size", size)
    return side, side


def find_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, by default "cuda" where there is one."""
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    check_type("device", device, (str, torch.device), "'cpu', 'cuda' or a torch.device")
    try:
        found = torch.device(device)
    except RuntimeError as error:
        raise ValueError(f"device must be 'cpu' or 'cuda', got {shown(device)}: {error}") from error
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
    return check_count("batch_size", batch_size)


def check_plain(*, dtype: Any, memory_format: Any, timeout: Any, transform: Any, **others: Any) -> None:
    """Looks at what is used as it is: counts, flags and words; those that are None are not given.

    Raises ``TypeError`` or ``ValueError`` naming the argument.
    """
    for name, value in others.items():
        if value is None and name not in ("views", "repeats", "max_bad", "prefetch", "ids", *_WORDS):
            continue
        if name in _WORDS:
            check_choice(name, value, _WORDS[name])
        elif name in _COUNTS:
            check_count(name, value, *_COUNTS[name])
        else:
            check_flag(name, value)
    check_type("dtype", dtype, torch.dtype, "a torch dtype")
    if not dtype.is_floating_point and dtype != torch.uint8:
        raise TypeError(f"dtype must be floating or torch.uint8, got {dtype}")
    check_type("memory_format", memory_format, torch.memory_format, "a torch memory format")
    if memory_format not in (torch.contiguous_format, torch.channels_last):
        raise ValueError(f"memory_format must be contiguous_format or channels_last of torch, got {shown(memory_format)}")
    check_number("timeout", timeout, 0, above=True, infinite=True)
    check_transform(transform)


def data_colours(mean: Sequence[float] | None, std: Sequence[float] | None, channels: int = 3) -> tuple[RGB, RGB]:
    """Mean and standard deviation of the data, ImageNet's where nothing is normalised and where there are no colours."""
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be given together, got mean={shown(mean)}, std={shown(std)}")
    if mean is None or std is None or channels != 3:
        return IMAGENET_MEAN, IMAGENET_STD
    both = check_values("mean", mean), check_values("std", std)
    scale_and_bias(*both, 255.0, 3)  # its errors now, not with the first batch
    colours: list[Any] = [values * 3 if len(values) == 1 else values for values in both]
    return colours[0], colours[1]
