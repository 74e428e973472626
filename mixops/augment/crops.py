"""Crop windows, drawn from a key for whole batches, and the plan of what is cut out of each image.

A window is (top, left, height, width) in pixels of the stored image (EXIF rotation not applied, as in torchvision); every
backend cuts it out and resizes it to the output size. ``words.py`` says which random numbers it is drawn from.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar, Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..key import Key
from .flips import draw_flips
from .words import LEFT, TOP, TRIES, row_words


@dataclass(frozen=True, eq=False)
class CropPlan:
    """What is cut out of each of b decoded images, and how it becomes an output of ``size`` (height, width).

    ``windows`` are (top, left, height, width) in pixels of the stored image: whole numbers that are cut out first, or, where
    they ``spill``, any numbers, and the filter reads beyond their edges, as a crop of a resized image does. ``flips`` says
    which are then mirrored left to right.
    """

    windows: Float64[np.ndarray, "b 4"]
    flips: Bool[np.ndarray, " b"]
    size: tuple[int, int]
    spill: bool


class CropLaw(Protocol):
    """Draws windows for rows of a global batch, given the sizes of their images."""

    spill: ClassVar[bool]  # as in ``CropPlan``

    def windows(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"]) -> Float64[np.ndarray, "b 4"]:
        """Windows (top, left, height, width); ``u`` as ``row_words`` draws it, ``sizes`` (height, width)."""
        ...


def draw_crops(
    key: Key,
    rows: Int64[np.ndarray, " b"],
    sizes: Int64[np.ndarray, "b 2"],
    law: CropLaw,
    flip: float,
    size: tuple[int, int],
) -> CropPlan:
    """The crops and flips of contiguous ``rows`` of the global batch that ``key`` names; ``sizes`` (height, width)."""
    u = row_words(key, rows)
    return CropPlan(law.windows(u, sizes), draw_flips(u, flip), size, law.spill)


@dataclass(frozen=True)
class RandomResizedCrop:
    """torchvision's ``RandomResizedCrop``; windows have whole pixels.

    ``scale`` is the range of the area's share, ``ratio`` that of width / height.
    """

    spill: ClassVar[bool] = False

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 2 or not 0 < value[0] <= value[1] < math.inf or (name == "scale" and value[1] > 1):
                limit = "0 < low <= high" + (" <= 1" if name == "scale" else "")
                raise ValueError(f"{name} must be a pair with {limit}, got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)

    def windows(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"]) -> Float64[np.ndarray, "b 4"]:
        """Windows of the first of ten tries that fits inside the image, else the largest central one."""
        full = sizes.astype(np.float64)
        height, width = full[:, :1], full[:, 1:]

        low, high = self.scale
        area = height * width * (low + (high - low) * u[:, :TRIES])  # (b, tries)
        low, high = (math.log(r) for r in self.ratio)
        aspect = np.exp(low + (high - low) * u[:, TRIES : 2 * TRIES])
        w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.argmax(1)[:, None]
        h, w = np.take_along_axis(h, first, 1), np.take_along_axis(w, first, 1)
        top = np.floor(u[:, TOP, None] * (height - h + 1))
        left = np.floor(u[:, LEFT, None] * (width - w + 1))

        low, high = self.ratio
        central_h = np.where(width / height < low, np.rint(width / low), height)
        central_w = np.where(width / height > high, np.rint(height * high), width)
        centre = [(height - central_h) // 2, (width - central_w) // 2, central_h, central_w]
        any_fits = fits.any(1, keepdims=True)
        return np.where(any_fits, np.concatenate([top, left, h, w], 1), np.concatenate(centre, 1))


@dataclass(frozen=True)
class CenterCrop:
    """torchvision's ``Resize(resize)`` (shorter side) followed by ``CenterCrop(size)``, as one window of the stored image.

    Torchvision rounds the resized image and the crop to whole pixels; in the stored image the window then has fractions
    of pixels, which are kept.
    """

    resize: int
    size: tuple[int, int]  # height, width
    spill: ClassVar[bool] = True

    def __post_init__(self) -> None:
        if self.resize < max(self.size):
            raise ValueError(f"val_resize must be at least size={max(self.size)}, got {self.resize}")

    def windows(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"]) -> Float64[np.ndarray, "b 4"]:
        """The same window for every row whose image has the same size; nothing is random."""
        short = sizes.min(1, keepdims=True)
        resized = self.resize * sizes // short  # torchvision: int(resize * long / short)
        crop = np.array(self.size)
        start = np.rint((resized - crop) / 2)  # torchvision: int(round(...)), halves to even
        scale = sizes / resized
        return np.concatenate([start * scale, crop * scale], 1)
