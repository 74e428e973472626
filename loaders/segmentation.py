"""Label maps beside images: the plan of a map follows from its image's, and its numbers come out as targets.

    image   cut  ->  resized by its filter   ->  flipped  ->  all operations, erased   ->  mixed
    map     cut  ->  to the nearest pixel    ->  flipped  ->  warps, to the nearest    ->  mixed under the same mask

What is erased keeps its classes. Chains of AugMix are refused: they show several warps of an image at once.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from mixops.apply.label_maps import mix_label_maps
from mixops.augment.composition import Augmentation
from mixops.augment.crop_plan import CropPlan, Interpolation
from mixops.augment.operations import WARPS, Filter, Op
from mixops.augment.plan import AugmentPlan
from mixops.plan import MixPlan

from .multi_crop import NamedCrops
from .sources.label_maps import LabelMaps


def ignore_index(source: Any) -> int | None:
    """The number of pixels without a class, None where images have no label maps."""
    return source.ignore_index if isinstance(source, LabelMaps) else None


def check_maps(
    source: Any, augmentation: Augmentation | None, smoothing: float, views: int, named: tuple[NamedCrops, ...]
) -> None:
    """Raises ``ValueError`` naming the argument for what cannot be done to label maps."""
    if not isinstance(source, LabelMaps):
        return
    if views > 1 or named:
        name, value, default = ("crops", named, None) if named else ("views", views, 1)
        raise ValueError(f"{name} must be {default} for label maps, of which a batch has one of each image, got {value}")
    if smoothing:
        raise ValueError(f"smoothing must be 0 for label maps, which a loss smooths, got {smoothing}")
    if augmentation is not None and any(policy.chained for policy in augmentation.policies):
        raise ValueError(
            f"augment must hold no AugMix for label maps, since it shows several warps of an image at once, got "
            f"{augmentation!r}"
        )


def crops_of_maps(crops: CropPlan) -> CropPlan:
    """The crops of the maps of images that are cropped by ``crops``."""
    nearest: Interpolation = "nearest"
    return replace(crops, interpolations=(nearest,) * len(crops.flips))


def augment_of_maps(augment: AugmentPlan | None) -> AugmentPlan | None:
    """The warps among what is done to images, to the nearest pixel; outside of an image there is no class."""
    if augment is None:
        return None
    warps = np.isin(augment.op, [int(op) for op in WARPS])
    if not warps.any():
        return None
    rows = augment.batch_size
    return replace(
        augment,
        op=np.where(warps, augment.op, np.int8(Op.KEEP)), arg=np.where(warps, augment.arg, np.float32(0)),
        filter=np.full_like(augment.filter, Filter.NEAREST), fill=np.zeros_like(augment.fill),
        box=np.zeros((rows, 0, 4), np.int32), colour=np.zeros((rows, 0, 3), np.uint8), noisy=np.zeros(0, np.bool_),
    )  # fmt: skip


def numbers(pixels: UInt8[Tensor, "b 3 h w"], ignore_index: int) -> Int64[Tensor, "b h w"]:
    """The class numbers in maps that went the way of images (``sources.label_maps``)."""
    low, high, valid = pixels.to(torch.int64).unbind(1)
    return torch.where(valid > 0, low | high << 8, ignore_index)


def targets_of(
    maps: Int64[Tensor, "b h w"], plan: MixPlan, kind: Literal["dense", "sparse"], classes: int, ignore_index: int
) -> Int64[Tensor, "n h w"] | Float32[Tensor, "n classes h w"]:
    """Targets of mixed maps: weights of all classes, or ("sparse") the number of the larger share."""
    mixed: Tensor = mix_label_maps(maps, plan, num_classes=classes if kind == "dense" else None, ignore_index=ignore_index)
    return mixed
