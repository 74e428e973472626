"""Erased boxes: random erasing (arXiv 1708.04896) and Cutout (arXiv 1708.04552). The label stays: they are no mixers.

Peers erase after normalisation, so what they fill with is in units of the data's deviation: 0 is the mean colour. Here bytes
are filled, ``round(255 (mean + std z))`` cut off at black and white, which differs from z by half a level at most and, where
z is noise, by what is cut off.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int32, UInt8
from scipy.special import ndtri

from ..runtime.checks import check_count, check_number, check_numbers, check_range
from .policies.base import RGB, Words

_TRIES = 10  # as in torchvision and timm


@dataclass(frozen=True, eq=False)
class Boxes:
    """e boxes for each of b rows: (top, left, height, width), height 0 where there is none, and their colours.

    ``noisy`` boxes show noise instead.
    """

    box: Int32[np.ndarray, "b e 4"]
    colour: UInt8[np.ndarray, "b e 3"]
    noisy: bool = False


@dataclass(frozen=True)
class Erasing(ABC):
    """Base of what erases boxes."""

    @property
    @abstractmethod
    def words(self) -> int:
        """Uniform numbers that a row takes."""

    @abstractmethod
    def draw(self, words: Words, height: int, width: int, mean: RGB, std: RGB) -> Boxes:
        """The boxes of all rows, for images of ``height`` x ``width``; ``mean`` and ``std`` on the scale [0, 1]."""


@dataclass(frozen=True)
class RandomErasing(Erasing):
    """torchvision's and timm's ``RandomErasing``: with probability ``p`` a box of ``scale`` of the area is erased.

    ``ratio`` is the range of height / width; the first of ten tries that is smaller than the image is taken, else none.
    ``value`` is what fills it, in units of the normalised image: a number (0 is the mean colour), three, "random" for one
    normal colour a box (timm's mode "rand"), or "pixel" for normal noise (timm's "pixel", torchvision's "random"). ``count``
    boxes at most, their number uniform in 1 .. count and each its share of the area (timm's ``recount``). Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """

    p: float = 0.5
    scale: tuple[float, float] = (0.02, 0.33)
    ratio: tuple[float, float] = (0.3, 3.3)
    value: float | Sequence[float] | str = 0.0
    count: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", check_number("p", self.p, 0, 1))
        object.__setattr__(self, "scale", check_range("scale", self.scale, 0, 1))
        object.__setattr__(self, "ratio", check_range("ratio", self.ratio, 1e-3, 1e3))
        object.__setattr__(self, "count", check_count("count", self.count, 1))
        if isinstance(self.value, str):
            if self.value not in ("random", "pixel"):
                raise ValueError(f"value must be a number, three numbers, 'random' or 'pixel', got {self.value!r}")
        elif isinstance(self.value, Sequence):
            object.__setattr__(self, "value", check_numbers("value", self.value, length=3))
        else:
            object.__setattr__(self, "value", check_number("value", self.value))

    @property
    def words(self) -> int:
        """Whether, how many; then two a try, place and colour of each box."""
        return 2 + self.count * (2 * _TRIES + 2 + (3 if self.value == "random" else 0))

    def draw(self, words: Words, height: int, width: int, mean: RGB, std: RGB) -> Boxes:
        """Up to ``count`` boxes a row."""
        b, e = len(words), self.count
        done, many = words.take(1) < self.p, 1 + np.floor(words.take(1) * e)
        low, high = self.scale
        area = height * width * (low + (high - low) * words.take(e, _TRIES)) / many[..., None]
        low, high = (math.log(r) for r in self.ratio)
        aspect = np.exp(low + (high - low) * words.take(e, _TRIES))
        h, w = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (h < height) & (w < width)
        first = fits.argmax(2)[..., None]
        there = fits.any(2) & done & (np.arange(e) < many)
        h, w = (np.where(there, np.take_along_axis(x, first, 2)[..., 0], 0) for x in (h, w))
        top, left = np.floor(words.take(e) * (height - h + 1)), np.floor(words.take(e) * (width - w + 1))
        box = np.where(there[..., None], np.stack([top, left, h, w], 2), 0).astype(np.int32)
        if self.value == "random":
            return Boxes(box, levels(ndtri(words.take(e, 3)), mean, std))
        value = np.zeros(3) if isinstance(self.value, str) else np.broadcast_to(self.value, 3)
        return Boxes(box, np.broadcast_to(levels(value, mean, std), (b, e, 3)), noisy=self.value == "pixel")


@dataclass(frozen=True)
class Cutout(Erasing):
    """Cutout: ``holes`` squares of ``length`` pixels around uniform pixels, cut off at the border, in the mean colour.

    As in the authors' code an odd length loses a pixel. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    length: int
    holes: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "length", check_count("length", self.length, 1))
        object.__setattr__(self, "holes", check_count("holes", self.holes, 1))

    @property
    def words(self) -> int:
        """The centre of each hole."""
        return 2 * self.holes

    def draw(self, words: Words, height: int, width: int, mean: RGB, std: RGB) -> Boxes:
        """``holes`` boxes a row."""
        ends = []
        for side in (height, width):
            centre = np.floor(words.take(self.holes) * side)
            ends.append([np.clip(centre + way * (self.length // 2), 0, side) for way in (-1, 1)])
        (top, bottom), (left, right) = ends
        box = np.stack([top, left, bottom - top, right - left], 2).astype(np.int32)
        return Boxes(box, np.broadcast_to(levels(np.zeros(3), mean, std), (len(words), self.holes, 3)))


def levels(z: Float64[np.ndarray, "*shape 3"], mean: RGB, std: RGB) -> UInt8[np.ndarray, "*shape 3"]:
    """The bytes of normalised colours."""
    return np.clip(np.rint(255 * (np.asarray(mean) + np.asarray(std) * z)), 0, 255).astype(np.uint8)
