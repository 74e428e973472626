"""ColorJitter: brightness, contrast, saturation and hue, in a random order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ...runtime.checks import check_number, check_range
from ..operations import Op
from .base import RGB, Operations, Policy, Words, unless

Range = float | Sequence[float]


@dataclass(frozen=True)
class ColorJitter(Policy):
    """torchvision's ``ColorJitter``, on PIL images; done with probability ``p`` (timm's ``color_jitter_prob``).

    ``brightness``, ``contrast`` and ``saturation`` are pairs (least, largest factor), or x >= 0 for factors in
    [max(0, 1 - x), 1 + x]. ``hue`` is a pair of turns of the colour circle in [-0.5, 0.5], or x for [-x, x]. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """

    brightness: Range = 0.0
    contrast: Range = 0.0
    saturation: Range = 0.0
    hue: Range = 0.0
    p: float = 1.0

    def __post_init__(self) -> None:
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            if isinstance(value, Sequence):
                object.__setattr__(self, name, check_range(name, value, 0, 100))
            else:
                object.__setattr__(self, name, check_number(name, value, 0, 99))
        if isinstance(self.hue, Sequence):
            object.__setattr__(self, "hue", check_range("hue", self.hue, -0.5, 0.5))
        else:
            object.__setattr__(self, "hue", check_number("hue", self.hue, 0, 0.5))
        object.__setattr__(self, "p", check_number("p", self.p, 0, 1))

    def _ranges(self) -> dict[Op, tuple[float, float]]:
        """What is drawn; torchvision leaves out what would change nothing."""
        found = {}
        for op, value, centre in (
            (Op.BRIGHTNESS, self.brightness, 1.0), (Op.CONTRAST, self.contrast, 1.0), (Op.COLOR, self.saturation, 1.0),
            (Op.HUE, self.hue, 0.0),
        ):  # fmt: skip
            if isinstance(value, Sequence):
                low, high = value
            else:
                low, high = (max(0.0, 1 - value) if centre else -value), centre + value
            if (low, high) != (centre, centre):
                found[op] = low, high
        return found

    @property
    def words(self) -> int:
        """Whether anything is done; place in the order and amount of each."""
        return 1 + 2 * len(self._ranges())

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """Up to four operations a row."""
        ranges = self._ranges()
        done, order = words.take(1), words.take(len(ranges)).argsort(1)
        ends = np.array(list(ranges.values())).reshape(-1, 2)
        amount = ends[:, 0] + (ends[:, 1] - ends[:, 0]) * words.take(len(ranges))
        arg = np.take_along_axis(amount.astype(np.float32), order, 1)
        return Operations(*unless(done, self.p, np.array([int(op) for op in ranges], np.int8)[order], arg))
