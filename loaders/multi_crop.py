"""Several crops of every image, which is decoded once: the multi-crop of SwAV (arXiv 2006.09882) and DINO (2104.14294).

    crops={"global": (2, 224, RandomResizedCrop((0.4, 1))), "local": (8, 96, RandomResizedCrop((0.05, 0.4)))}

    image  ->  2 windows to 224 x 224, 8 to 96 x 96  ->  {"global": (2 b, 3, 224, 224), "local": (8 b, 3, 96, 96)}

Crops of a batch lie one behind the other, as their networks take them: rows 0 to b are the first crop of every image.
Crop j of an image, counted through all names, is drawn as view j of a loader is, so that another name behind them changes
none of the crops before it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mixops.augment.composition import Augmentation, as_augmentation
from mixops.augment.crop_plan import CropLaw, check_law
from mixops.augment.crops import RandomResizedCrop
from mixops.runtime.checks import check_count, check_sequence, shown

_MOST = 1024  # crops of an image


@dataclass(frozen=True)
class NamedCrops:
    """``count`` crops of every image by one law, each to ``size`` (height, width) and then augmented."""

    name: str
    count: int
    size: tuple[int, int]
    law: CropLaw
    augmentation: Augmentation | None = None

    def __repr__(self) -> str:
        done = "" if self.augmentation is None else f", {self.augmentation!r}"
        return f"{self.name}: {self.count} of {self.law!r} to {self.size[0]} x {self.size[1]}{done}"


def named_crops(crops: Any) -> tuple[NamedCrops, ...]:
    """The groups that ``crops`` names: (count, size), or these with a law and an augmentation behind them; None is none.

    Raises ``ValueError`` or ``TypeError`` that says what an entry must be.
    """
    if crops is None:
        return ()
    if not isinstance(crops, Mapping) or not crops or not all(isinstance(name, str) for name in crops):
        raise TypeError(f"crops must be a dict of names and (count, size, law), got {shown(crops)}")
    return tuple(_one(name, entry) for name, entry in crops.items())


def _one(name: str, entry: Any) -> NamedCrops:
    values = check_sequence("crops", entry, "(count, size, law) of each name")
    if not 2 <= len(values) <= 4:
        raise ValueError(
            f"crops must have (count, size), (count, size, law) or (count, size, law, augment), got {shown(entry)}"
        )
    count, size, law, augment = [*values, None, None][:4]
    if isinstance(size, (tuple, list)):
        height, width = (
            check_count("crops", side) for side in check_sequence("crops", size, "a side or (height, width)", 2)
        )
    else:
        height = width = check_count("crops", size)
    law = RandomResizedCrop() if law is None else check_law("crops", law)
    augmentation = as_augmentation(augment, interpolation=law.interpolation)
    return NamedCrops(name, check_count("crops", count, 1, _MOST), (height, width), law, augmentation)


def refuse_beside(**others: tuple[Any, Any]) -> None:
    """Raises ``ValueError`` for an argument that is not its default, since it cannot be given together with ``crops``."""
    for name, (value, default) in others.items():
        if value is not default and (type(value) is not type(default) or value != default):
            raise ValueError(f"{name} must not be given together with crops, {_REASONS[name]}, got {shown(value)}")


_REASONS = {
    "mixer": "since masks of several sizes have several label weights",
    "size": "of which each has its own size",
    "crop": "of which each has its own law",
    "augment": "of which each has its own augmentation, behind its law",
    "scale": "of which each has its own law",
    "ratio": "of which each has its own law",
    "val_resize": "of which each has its own law",
    "views": "whose counts say how many there are",
}
