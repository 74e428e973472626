"""Crop windows and flips, drawn from a key for whole batches.

A window is (top, left, height, width) in pixels of the stored image (EXIF rotation not applied, as in torchvision); every
backend cuts it out and resizes it to the output size. Row i of a global batch has its own ``WORDS`` random words, so a
window depends on (seed, epoch, step, row) and on the image's size, not on the ranks or the other rows.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..key import Key, Stream

_TRIES = 10  # as in torchvision
WORDS = 24  # per row: (area, aspect) of each try, top, left, flip, and one that is not used (blocks have four words)


class CropLaw(Protocol):
    """Draws windows and flips for rows of a global batch, given the sizes of their images."""

    def draw(
        self, key: Key, rows: Int64[np.ndarray, " b"], sizes: Int64[np.ndarray, "b 2"]
    ) -> tuple[Float64[np.ndarray, "b 4"], Bool[np.ndarray, " b"]]:
        """Windows (top, left, height, width) and flips; ``rows`` contiguous, ``sizes`` (height, width)."""
        ...


@dataclass(frozen=True)
class RandomResizedCrop:
    """torchvision's ``RandomResizedCrop`` followed by ``RandomHorizontalFlip(flip)``; windows have whole pixels.

    ``scale`` is the range of the area's share, ``ratio`` that of width / height, ``flip`` a probability.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    flip: float = 0.5

    def __post_init__(self) -> None:
        for name in ("scale", "ratio"):
            value = tuple(float(v) for v in getattr(self, name))
            if len(value) != 2 or not 0 < value[0] <= value[1] < math.inf or (name == "scale" and value[1] > 1):
                limit = "0 < low <= high" + (" <= 1" if name == "scale" else "")
                raise ValueError(f"{name} must be a pair with {limit}, got {getattr(self, name)!r}")
            object.__setattr__(self, name, value)
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be a probability in [0, 1], got {self.flip!r}")

    def draw(
        self, key: Key, rows: Int64[np.ndarray, " b"], sizes: Int64[np.ndarray, "b 2"]
    ) -> tuple[Float64[np.ndarray, "b 4"], Bool[np.ndarray, " b"]]:
        """Windows of the first of ten tries that fits inside the image, else the largest central one."""
        u = key.uniform(Stream.CROP, (len(rows), WORDS), start=int(rows[0]) * WORDS)
        full = sizes.astype(np.float64)
        height, width = full[:, :1], full[:, 1:]

        low, high = self.scale
        area = height * width * (low + (high - low) * u[:, :_TRIES])  # (b, tries)
        low, high = (math.log(r) for r in self.ratio)
        aspect = np.exp(low + (high - low) * u[:, _TRIES : 2 * _TRIES])
        w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.argmax(1)[:, None]
        h, w = np.take_along_axis(h, first, 1), np.take_along_axis(w, first, 1)
        top = np.floor(u[:, 20:21] * (height - h + 1))
        left = np.floor(u[:, 21:22] * (width - w + 1))

        low, high = self.ratio
        central_h = np.where(width / height < low, np.rint(width / low), height)
        central_w = np.where(width / height > high, np.rint(height * high), width)
        centre = [(height - central_h) // 2, (width - central_w) // 2, central_h, central_w]
        any_fits = fits.any(1, keepdims=True)
        windows = np.where(any_fits, np.concatenate([top, left, h, w], 1), np.concatenate(centre, 1))
        return windows, u[:, 22] < self.flip


@dataclass(frozen=True)
class CenterCrop:
    """torchvision's ``Resize(resize)`` (shorter side) followed by ``CenterCrop(size)``, as one window of the stored image.

    Torchvision rounds the resized image and the crop to whole pixels; in the stored image the window then has fractions
    of pixels, which are kept.
    """

    resize: int
    size: tuple[int, int]  # height, width

    def __post_init__(self) -> None:
        if self.resize < max(self.size):
            raise ValueError(f"val_resize must be at least size={max(self.size)}, got {self.resize}")

    def draw(
        self, key: Key, rows: Int64[np.ndarray, " b"], sizes: Int64[np.ndarray, "b 2"]
    ) -> tuple[Float64[np.ndarray, "b 4"], Bool[np.ndarray, " b"]]:
        """The same window for every row whose image has the same size; nothing is random."""
        short = sizes.min(1, keepdims=True)
        resized = self.resize * sizes // short  # torchvision: int(resize * long / short)
        crop = np.array(self.size)
        start = np.rint((resized - crop) / 2)  # torchvision: int(round(...)), halves to even
        scale = sizes / resized
        windows = np.concatenate([start * scale, crop * scale], 1)
        return windows, np.zeros(len(rows), bool)
