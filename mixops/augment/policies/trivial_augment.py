"""TrivialAugment (arXiv 2103.10158): one operation, one magnitude, both uniform."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.checks import check_count
from ..checks import Colour, check_fill, check_interpolation, fill_colour
from .base import RGB, Operations, Policy, Words, draw_filters, filter_words
from .tables import wide_space


@dataclass(frozen=True)
class TrivialAugmentWide(Policy):
    """torchvision's ``TrivialAugmentWide``: one of 14 operations with one of ``num_magnitude_bins`` magnitudes.

    ``interpolation`` of warps is "nearest", "bilinear", "bicubic" or "random" (torchvision's ``InterpolationMode`` is taken
    too), ``fill`` the colour outside the image: None (black), a level, three levels of 255, or "mean". Raises
    ``ValueError`` or ``TypeError`` naming the argument otherwise.
    """

    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: Colour = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_magnitude_bins", check_count("num_magnitude_bins", self.num_magnitude_bins, 2))
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation))
        object.__setattr__(self, "fill", check_fill(self.fill))

    @property
    def words(self) -> int:
        """Operation, magnitude, sign and filter."""
        return 3 + filter_words(self.interpolation, 1)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """One operation a row."""
        space = wide_space(self.num_magnitude_bins)
        pick, level, sign = (words.take(1) for _ in range(3))
        which = (pick * len(space.op)).astype(np.int64)
        op, arg = space.choose(which, (level * self.num_magnitude_bins).astype(np.int64), sign)
        return Operations(op, arg, draw_filters(self.interpolation, words, 1), fill_colour(self.fill, mean))
