"""CutMix (arXiv 1905.04899): the partner's pixels inside a box, the row's own outside.

The box has ``sqrt(1 - lambda)`` of the image's sides and is clipped at the border, so its label weight is
``1 - clipped area / (h * w)``, which the paper omits and its authors' code computes.

SaliencyMix (arXiv 2006.01791) puts the box's centre where the partner is most salient, so that the box shows what its label
says. Its authors' code looks at one image of a batch and uses that place for all; here each row has its partner's own.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from ..masks import mask_means
from ..plan import MixPlan
from ..runtime.checks import check_choice, set_fields
from .base import CENTRE_X, CENTRE_Y, Pairs
from .beta import BetaMixer, UnitDraws
from .boxes import box_masks
from .saliency.peaks import peaks
from .saliency.source import Saliency, check_source, find_saliency, needs_of


@dataclass(frozen=True, repr=False)
class CutMix(BetaMixer):
    """CutMix: a box of the partner with lam ~ Beta(alpha, alpha) (arXiv 1905.04899, eq. 1, 2; the authors' code).

    ``centre`` of the box is "uniform", or "saliency": the most salient pixel of the partner (SaliencyMix, arXiv 2006.01791),
    of equal ones the first, and uniform where none stands out. ``saliency`` is then "spectral" (from the images alone),
    "gradient" (given to ``plan``) or a function of the images; its maps may be smaller than these. Partners and lambdas do
    not depend on either.
    """

    _: KW_ONLY
    centre: Literal["uniform", "saliency"] = "uniform"
    saliency: Saliency = "spectral"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(
            self,
            centre=check_choice("centre", self.centre, ("uniform", "saliency")),
            saliency=check_source(self.saliency),
        )

    @property
    def mask_needs(self) -> frozenset[str]:
        """Nothing for uniform centres, else what the saliency comes from."""
        return needs_of(self.saliency) if self.centre == "saliency" else frozenset()

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """0 inside the box, 1 outside."""
        return box_masks(np.sqrt(1 - draws.lam), np.ones_like(draws.lam), draws.cy, draws.cx, height, width)

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen; with ``centre="saliency"`` each row has a centre of its own."""
        plan, partner = super().plan_pairs(pairs), pairs.partner
        if self.centre == "uniform":
            return plan
        found = find_saliency(self.saliency, pairs.images, pairs.saliency, coarse=True)
        if found.ndim != 3 or len(found) != len(partner) or not found.numel():
            raise ValueError(f"saliency must have shape (b, h, w) for {len(partner)} rows, got {tuple(found.shape)}")
        u = self.words(pairs.key, pairs.unit)[pairs.unit]
        *places, stands_out = (x[partner] for x in peaks(found))
        cy, cx = (np.where(stands_out, at, u[:, i]) for at, i in zip(places, (CENTRE_Y, CENTRE_X), strict=True))
        params = self.masks(UnitDraws(pairs.key, plan.lam, cy, cx), pairs.height, pairs.width)
        weight = plan.lam.copy() if self.label == "sampled" else mask_means(params, pairs.height, pairs.width)
        return replace(plan, params=params, weight=weight)
