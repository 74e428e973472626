"""3-Augment (DeiT III, arXiv 2204.07118): grey, solarized or blurred, each a third, then colour jitter."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...runtime.checks import check_number, check_range
from ..operations import Op
from .base import RGB, Operations, Policy, Words
from .color_jitter import ColorJitter


@dataclass(frozen=True)
class ThreeAugment(Policy):
    """One of grey, solarized at 128 or blurred; then brightness, contrast and saturation jittered by ``color_jitter``.

    ``sigma`` is the range of the blur's deviation in pixels; the defaults are those of the authors' ``augment.py``. timm's
    "3a" is ``ThreeAugment(color_jitter=0)``. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    color_jitter: float = 0.3
    sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        object.__setattr__(self, "color_jitter", check_number("color_jitter", self.color_jitter, 0, 99))
        object.__setattr__(self, "sigma", check_range("sigma", self.sigma, 0, 100))

    @property
    def words(self) -> int:
        """Which, the deviation, and those of the jitter."""
        return 2 + self._jitter.words

    @property
    def _jitter(self) -> ColorJitter:
        return ColorJitter(self.color_jitter, self.color_jitter, self.color_jitter)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """One operation a row and up to three more."""
        which = (3 * words.take(1)).astype(np.int64)
        low, high = self.sigma
        sigma = low + (high - low) * words.take(1)
        op = np.array([Op.GRAYSCALE, Op.SOLARIZE, Op.BLUR], np.int8)[which]
        arg = np.select([op == Op.SOLARIZE, op == Op.BLUR], [128.0, sigma], 0.0).astype(np.float32)
        jitter = self._jitter.draw(words, height, width, mean)
        return Operations(np.concatenate([op, jitter.op], 1), np.concatenate([arg, jitter.arg], 1))
