"""ResizeMix (arXiv 2012.11101): the whole partner, made small, in a box of the row's own image.

    sides floor(tau h) x floor(tau w),  tau ~ U(scale),    M = 0 in the box, 1 outside,    w = mean(M) = 1 - box / (h w)

CutMix's box may show nothing of the partner's object, and one that is clipped shows less than was drawn; the whole partner
always shows its object. So the box lies inside the image, at any place alike. The K boxes of a pair share their centre, that
of the largest; so that they can, their sides are all even or all odd, which makes a smaller one wider by up to a pixel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..masks import DV, FLOATS, V0, X0, X1, Y0, Y1, mask_means
from ..plan import MixPlan
from ..runtime.checks import check_range, set_fields
from .base import APPLY, CENTRE_X, CENTRE_Y, OUTPUT_WORDS, SHARED_WORDS, Mixer, Pairs


@dataclass(frozen=True, repr=False)
class ResizeMix(Mixer):
    """ResizeMix: the partner made small by ``scale`` = (least, most) in a box (arXiv 2012.11101; the authors' 0.1 and 0.8).

    The share of the image's sides that the box has is uniform between the two, which are in [0, 1]. The partner shows its
    nearest pixels (torch's ``interpolate(mode="nearest")``). Label weight is the share of the pixels; ``lam`` is 1 - tau^2.
    Raises ``ValueError`` or ``TypeError`` naming the argument otherwise.
    """

    scale: Sequence[float] = (0.1, 0.8)

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, scale=check_range("scale", self.scale, 0, 1))

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen."""
        unit, (low, high) = pairs.unit, self.scale
        u = self.words(pairs.key, unit)
        drawn = u[:, SHARED_WORDS:].reshape(len(u), self.interpolations, OUTPUT_WORDS)[..., 0]
        tau = np.sort(low + (high - low) * drawn, axis=1)  # label weights fall along k
        tau[u[:, APPLY] >= self.prob] = 0
        params = np.zeros((*tau.shape, FLOATS), np.float32)
        params[..., V0], params[..., DV] = 1, -1
        for first, last, word, side in ((Y0, Y1, CENTRE_Y, pairs.height), (X0, X1, CENTRE_X, pairs.width)):
            sides = np.floor(side * tau)
            largest = sides[:, -1:]
            sides += (largest - sides) % 2
            corner = np.floor(u[:, word, None] * (side - largest + 1))
            params[..., first] = corner + (largest - sides) / 2
            params[..., last] = params[..., first] + sides
        lam = (1 - tau**2).astype(np.float32).astype(np.float64)
        weight = mask_means(params, pairs.height, pairs.width)
        inset = np.ones(len(unit), np.bool_)
        return MixPlan(pairs.partner, weight[unit], lam[unit], params[unit], pairs.height, pairs.width, inset=inset)
