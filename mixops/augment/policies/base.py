"""What every policy is: a frozen value that turns uniform numbers into operations.

    policy.draw(words, height, width, mean)  ->  Operations: n operations a row, their arguments and filters

A row of the global batch has ``policy.words`` uniform numbers of its own, so that what is done to it depends on (seed,
epoch, step, row) alone: not on the ranks, the threads or the other rows. A policy touches no pixel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Int8, UInt8

from ..operations import Filter, Op
from ..plan import Chains

RGB = tuple[float, float, float]


class Words:
    """Uniform numbers in [0, 1) of b rows, taken from the left."""

    def __init__(self, u: Float64[np.ndarray, "b words"]) -> None:
        self._u, self._next = u, 0

    def __len__(self) -> int:
        return len(self._u)

    @property
    def left(self) -> int:
        """How many of each row have not been taken."""
        return self._u.shape[1] - self._next

    def take(self, *shape: int) -> Float64[np.ndarray, "b ..."]:
        """The next numbers of each row."""
        count = int(np.prod(shape))
        if count > self.left:
            raise ValueError(f"shape must ask for at most {self.left} words, got {shape}")
        self._next += count
        return self._u[:, self._next - count : self._next].reshape(len(self._u), *shape)


@dataclass(frozen=True, eq=False)
class Operations:
    """n operations for each of b rows. ``fill`` is the colour that their warps show outside the image."""

    op: Int8[np.ndarray, "b n"]
    arg: Float32[np.ndarray, "b n"]
    filter: Int8[np.ndarray, "b n"] | None = None  # only warps ask
    fill: UInt8[np.ndarray, " 3"] = field(default_factory=lambda: np.zeros(3, np.uint8))
    chains: Chains | None = None

    def filters(self) -> Int8[np.ndarray, "b n"]:
        """``filter``, or any where no operation asks."""
        return np.full_like(self.op, Filter.NEAREST) if self.filter is None else self.filter


@dataclass(frozen=True)
class Policy(ABC):
    """Base of all policies; ``chained`` ones ask for ``Op.AUGMIX``."""

    chained: ClassVar[bool] = False

    @property
    @abstractmethod
    def words(self) -> int:
        """Uniform numbers that a row takes."""

    @abstractmethod
    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """The operations of all rows, for images of ``height`` x ``width``; ``mean`` is the data's, on the scale [0, 1]."""


def filter_words(interpolation: str, count: int) -> int:
    """The words that ``draw_filters`` takes for ``count`` operations."""
    return count if interpolation == "random" else 0


def draw_filters(interpolation: str, words: Words, *shape: int) -> Int8[np.ndarray, "b ..."]:
    """How the warps interpolate; "random" is bilinear or bicubic with equal probability for each operation."""
    if interpolation == "random":
        return np.where(words.take(*shape) < 0.5, Filter.BILINEAR, Filter.BICUBIC).astype(np.int8)
    return np.full((len(words), *shape), Filter[interpolation.upper()], np.int8)


def unless(
    done: Float64[np.ndarray, "b n"],
    prob: float | Float64[np.ndarray, "b n"],
    op: Int8[np.ndarray, "b n"],
    arg: Float32[np.ndarray, "b n"],
) -> tuple[Int8[np.ndarray, "b n"], Float32[np.ndarray, "b n"]]:
    """Operations that are done with probability ``prob`` each, by the uniform numbers ``done``."""
    skipped = done >= prob
    return np.where(skipped, np.int8(Op.KEEP), op), np.where(skipped, np.float32(0), arg)
