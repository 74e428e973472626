"""CutMix (arXiv 1905.04899): the partner's pixels inside a box, the row's own outside.

The box has ``sqrt(1 - lambda)`` of the image's sides and is clipped at the border, so its label weight is
``1 - clipped area / (h * w)``, which the paper omits and its authors' code computes.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from .beta import BetaMixer, UnitDraws
from .boxes import box_masks


@dataclass(frozen=True, repr=False)
class CutMix(BetaMixer):
    """CutMix: a box of the partner with lam ~ Beta(alpha, alpha) (arXiv 1905.04899, eq. 1, 2; the authors' code)."""

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """0 inside the box, 1 outside."""
        return box_masks(np.sqrt(1 - draws.lam), np.ones_like(draws.lam), draws.cy, draws.cx, height, width)
