"""mixup (arXiv 1710.09412): one constant mask, M = lambda. With a matching it is k-mixup (arXiv 2106.02933)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from ..masks import constant_masks
from .beta import BetaMixer, UnitDraws


@dataclass(frozen=True, repr=False)
class MixUp(BetaMixer):
    """mixup: ``x~ = lam * x_i + (1 - lam) * x_j`` with lam ~ Beta(alpha, alpha) (arXiv 1710.09412, eq. 1)."""

    @property
    def constant(self) -> bool:
        """True: a mask is one number."""
        return True

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """A constant mask lambda."""
        return constant_masks(draws.lam)
