"""Policies of one operation that is done or not: grey, solarized, blurred."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from ...runtime.checks import check_number, check_range
from ..operations import Op
from .base import RGB, Operations, Policy, Words, unless


@dataclass(frozen=True)
class RandomGrayscale(Policy):
    """torchvision's ``RandomGrayscale``: three equal channels with probability ``p``."""

    p: float = 0.1

    def __post_init__(self) -> None:
        object.__setattr__(self, "p", check_number("p", self.p, 0, 1))

    @property
    def words(self) -> int:
        """Whether it is done."""
        return 1

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """One operation a row."""
        return _single(words, self.p, Op.GRAYSCALE, np.zeros(len(words)))


@dataclass(frozen=True)
class RandomSolarize(Policy):
    """torchvision's ``RandomSolarize``: levels from ``threshold`` on are inverted, with probability ``p``.

    ``threshold`` is in [0, 256].
    """

    threshold: float
    p: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", check_number("threshold", self.threshold, 0, 256))
        object.__setattr__(self, "p", check_number("p", self.p, 0, 1))

    @property
    def words(self) -> int:
        """Whether it is done."""
        return 1

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """One operation a row."""
        return _single(words, self.p, Op.SOLARIZE, np.full(len(words), self.threshold))


@dataclass(frozen=True)
class GaussianBlur(Policy):
    """Pillow's ``ImageFilter.GaussianBlur`` with a deviation uniform in ``sigma`` pixels, with probability ``p``.

    It is the blur of DINO, DeiT III and timm's "3a": three boxes with fractional ends, the border repeated. torchvision's
    ``GaussianBlur`` samples a kernel of ``kernel_size`` instead and reflects the border, so it has an argument more and
    other pixels. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    _: KW_ONLY
    sigma: float | Sequence[float] = (0.1, 2.0)
    p: float = 1.0

    def __post_init__(self) -> None:
        if isinstance(self.sigma, Sequence):
            object.__setattr__(self, "sigma", check_range("sigma", self.sigma, 0, 100))
        else:
            object.__setattr__(self, "sigma", check_number("sigma", self.sigma, 0, 100))
        object.__setattr__(self, "p", check_number("p", self.p, 0, 1))

    @property
    def words(self) -> int:
        """Whether it is done, and the deviation."""
        return 2

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """One operation a row."""
        low, high = self.sigma if isinstance(self.sigma, Sequence) else (self.sigma, self.sigma)
        done = words.take(1)
        arg = (low + (high - low) * words.take(1)).astype(np.float32)
        return Operations(*unless(done, self.p, np.full(arg.shape, Op.BLUR, np.int8), arg))


def _single(words: Words, p: float, op: Op, arg: np.ndarray) -> Operations:
    column = arg.astype(np.float32)[:, None]
    return Operations(*unless(words.take(1), p, np.full(column.shape, op, np.int8), column))
