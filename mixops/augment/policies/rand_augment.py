"""RandAugment (arXiv 1909.13719): a few operations at one magnitude."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.checks import check_count
from ..checks import Colour, check_fill, check_interpolation, fill_colour
from ..operations import Op
from .base import RGB, Operations, Policy, Words, draw_filters, filter_words
from .tables import common_space


@dataclass(frozen=True)
class RandAugment(Policy):
    """torchvision's ``RandAugment``: ``num_ops`` of 14 operations, one after the other, all at ``magnitude``.

    ``magnitude`` is the number of one of ``num_magnitude_bins``. ``interpolation`` and ``fill`` are those of
    ``TrivialAugmentWide``. timm's RandAugment has other tables: its strings, "rand-m9-mstd0.5-inc1", say them. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """

    num_ops: int = 2
    magnitude: int = 9
    num_magnitude_bins: int = 31
    interpolation: str = "nearest"
    fill: Colour = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "num_ops", check_count("num_ops", self.num_ops, 0))
        object.__setattr__(self, "num_magnitude_bins", check_count("num_magnitude_bins", self.num_magnitude_bins, 2))
        object.__setattr__(self, "magnitude", check_count("magnitude", self.magnitude, 0))
        if self.magnitude >= self.num_magnitude_bins:
            raise ValueError(f"magnitude must be below num_magnitude_bins = {self.num_magnitude_bins}, got {self.magnitude}")
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation))
        object.__setattr__(self, "fill", check_fill(self.fill))

    @property
    def words(self) -> int:
        """Operation, sign and filter of each."""
        return 2 * self.num_ops + filter_words(self.interpolation, self.num_ops)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """``num_ops`` operations a row."""
        space = common_space(self.num_magnitude_bins, height, width, Op.KEEP)
        pick, sign = words.take(self.num_ops), words.take(self.num_ops)
        which = (pick * len(space.op)).astype(np.int64)
        op, arg = space.choose(which, np.full_like(which, self.magnitude), sign)
        return Operations(op, arg, draw_filters(self.interpolation, words, self.num_ops), fill_colour(self.fill, mean))
