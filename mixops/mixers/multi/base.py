"""What mixers of s images a row have in common: whose images they are, and the plan that their shares make.

    sources of row i:  i, partner(i), partner(partner(i)), ...,    x~ = sum_j w_j * x_{sources[j]}

Partners go round the whole batch in one circle, in random order, so that the s images of a row are different ones as
long as there are as many, and each image is once the first source, once the second, and so on. A matching (k-mixup)
chooses partners by the images, and then each source is matched to the one before. In a batch of fewer than s images some
come twice, and their shares add.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
from jaxtyping import Float64

from ...key import Key
from ...masks import constant_masks
from ...plan import MixPlan
from ...plan_sources import PlanSources
from ..base import APPLY, Mixer, Pairs


@dataclass(frozen=True, repr=False)
class SharesMixer(Mixer):
    """Base of the mixers whose masks are one share a source."""

    _: KW_ONLY

    @property
    def constant(self) -> bool:
        """True: a mask is one number."""
        return True

    @property
    @abstractmethod
    def count(self) -> int:
        """How many images a row is made of."""

    @abstractmethod
    def shares(self, key: Key, units: int) -> Float64[np.ndarray, "u k s"]:
        """What each source has of each output of each unit, > 0 and 1 in all; the first one's falls along k."""

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen, each partner's partner and so on being the further sources."""
        partner, height, width = pairs.partner, pairs.height, pairs.width
        u = self.words(pairs.key, pairs.unit)
        masks = self.shares(pairs.key, len(u)).astype(np.float32)
        masks[u[:, APPLY] >= self.prob] = np.eye(1, self.count, dtype=np.float32)
        masks = masks[pairs.unit]
        if self.count == 2:
            own = masks[..., 0].astype(np.float64)
            return MixPlan(partner, own, own.copy(), constant_masks(own), height, width)
        rows = np.empty((len(partner), self.count), np.int64)
        rows[:, 0] = np.arange(len(partner))
        for j in range(1, self.count):
            rows[:, j] = partner[rows[:, j - 1]]
        plan = MixPlan.of_sources(PlanSources(rows, masks.astype(np.float64), masks), height=height, width=width)
        return replace(plan, partner=partner)
