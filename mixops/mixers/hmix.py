"""HMix (arXiv 2208.09913, "A Unified Analysis of Mixed Sample Data Augmentation"): CutMix inside a box, mixup outside.

The box has ``sqrt(1 - lambda) * sqrt(r)`` of the image's sides. Outside, the authors' code blends with
``lambda / (1 - clipped area / (h * w))``, which keeps mean(M) = lambda when the border clips the box; the paper's
``lambda / (1 - (1 - lambda) * r)`` does so only for boxes that are not clipped.

With r ~ Beta(g, g) (section 4 of the paper) each pair has its own r, drawn from words of its own: lambda and centre are
those of any other r for the same key. Towards g = 0 r is a coin, and the paper's convention then chooses between mixup and
CutMix; the authors' still blends outside a clipped box.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32

from ..key import Stream
from ..masks import DV, V0
from ..runtime.checks import check_choice, check_number, set_fields
from .beta import Beta, BetaMixer, UnitDraws
from .boxes import box_areas, box_masks


@dataclass(frozen=True, repr=False)
class HMix(BetaMixer):
    """HMix: a box of the partner in a mixture of both (arXiv 2208.09913, section 4).

    ``r`` in [0, 1] is the box's share of 1 - lambda: 0 is mixup; 1 is all box, though the authors' convention still
    blends outside a box that the border clips; ``Beta(g)`` draws it for each pair. ``convention`` is "authors" or "paper".
    """

    _: KW_ONLY
    r: float | Beta = 0.75
    convention: Literal["authors", "paper"] = "authors"

    def __post_init__(self) -> None:
        super().__post_init__()
        convention = check_choice("convention", self.convention, ("authors", "paper"))
        ratio = self.r if isinstance(self.r, Beta) else check_number("r", self.r, 0, 1)
        set_fields(self, r=ratio, convention=convention)

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """0 inside the box, a blend of both images outside."""
        lam = draws.lam
        r = self.r.draw(draws.key, Stream.RATIO, len(lam))[:, None] if isinstance(self.r, Beta) else self.r
        params = box_masks(np.sqrt(1 - lam) * np.sqrt(r), lam, draws.cy, draws.cx, height, width)
        free = 1 - (box_areas(params, height, width) if self.convention == "authors" else (1 - lam) * r)
        # free is 0 only where lambda is (r = 1): the box is the whole image and there is no outside to weigh
        params[..., V0] = np.divide(lam, free, out=np.zeros_like(lam), where=free > 0)
        params[..., DV] = -params[..., V0]
        return params
