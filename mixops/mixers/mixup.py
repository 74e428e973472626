"""mixup (arXiv 1710.09412): one constant mask, M = lambda. With a matching it is k-mixup (arXiv 2106.02933)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ..masks import constant_masks
from .base import BetaMixer, Draw


@dataclass(frozen=True, repr=False)
class MixUp(BetaMixer):
    """mixup: ``x~ = lam * x_i + (1 - lam) * x_j`` with lam ~ Beta(alpha, alpha) (arXiv 1710.09412, eq. 1)."""

    def masks(self, draw: Draw, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """A constant mask lambda."""
        return constant_masks(draw.lam)
