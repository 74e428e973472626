"""GMix (arXiv 2208.09913): a Gaussian bump of one image in the other.

Paper: M = 1 - exp(-pi d^2 / (2 (1 - lambda) N^2)). The authors' code drops the 2, so that the untruncated bump has the
area 1 - lambda, and below lambda = 1/2 makes the row's own image the bump: with p = min(lambda, 1 - lambda) and
g = exp(-pi d^2 / (p N^2)), M = g for lambda < 1/2 and 1 - g otherwise. N^2 is h * w here, so that images need not be square.
The label weight is the mean of the truncated mask.

K outputs of a pair are an ordered path, M falling along k at every pixel. A change of roles between them would turn the mask
inside out on the way, so the mean of a pair's lambdas decides the role of all of them; beyond 1/2 a bump then spreads until
the border cuts off most of it, and lambda = 0 need not show the partner alone.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from ..masks import CX, CY, DV, FLOATS, V0, X1, Y1, A
from ..runtime.checks import check_choice, set_fields
from .beta import BetaMixer, UnitDraws


@dataclass(frozen=True, repr=False)
class GMix(BetaMixer):
    """GMix: a Gaussian mask around a uniform centre (arXiv 2208.09913, section 4).

    ``convention`` is "authors" or "paper".
    """

    _: KW_ONLY
    convention: Literal["authors", "paper"] = "authors"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, convention=check_choice("convention", self.convention, ("authors", "paper")))

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """A bump of one image in the other."""
        lam = draws.lam
        # the row's own image is the bump; one role a pair
        swap = (lam.mean(1, keepdims=True) < 0.5) & (self.convention == "authors")
        spread = np.where(swap, lam, 1 - lam) * (1 if self.convention == "authors" else 2)
        params = np.zeros((*lam.shape, FLOATS), np.float32)
        params[..., V0] = ~swap
        # a bump without spread is no bump: the formula would be exp(-inf * 0) at its centre
        params[..., DV] = np.where(spread > 0, np.where(swap, 1, -1), 0)
        params[..., A] = np.pi / (np.where(spread > 0, spread, 1) * height * width)
        params[..., Y1], params[..., X1] = height, width
        params[..., CY] = np.floor(draws.cy * height)[:, None]
        params[..., CX] = np.floor(draws.cx * width)[:, None]
        return params
