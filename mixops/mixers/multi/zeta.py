"""zeta-mixup (arXiv 2204.03323): a row is its own image and some of others, with weights that fall as a zeta distribution.

    w_j = j^-gamma / sum_{i <= ranks} i^-gamma,    x~ = sum_j w_j x_j,    y~ = sum_j w_j y_j

Rank 1 is the row's own image. The authors' ranks are all images of the batch; beyond the eighth they have less than a grey
level of a byte at gamma = 2.8 and .9 % in all, so that here the first ``ranks`` are kept and weighed anew, pixels and labels
alike. Their permutation of the ranks is drawn for each row; here each rank is a partner's partner in one random circle, so
that every image has every rank once in a batch, and the shares of an image sum to 1 over the batch.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from jaxtyping import Float64

from ...key import Key
from ...runtime.checks import check_count, check_number, set_fields
from .base import SharesMixer


@dataclass(frozen=True, repr=False)
class ZetaMixUp(SharesMixer):
    """zeta-mixup with weights proportional to rank^-gamma (arXiv 2204.03323, eq. 5; the authors' default gamma).

    ``gamma`` > 0; above 1.72865 the own image has more than half of an unlimited number of ranks. ``ranks`` >= 2 images make
    a row. The weights are no random numbers: K outputs of a row have the same share of its own image and the others' ranks
    shifted by one each. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    gamma: float = 2.8
    _: KW_ONLY
    ranks: int = 8

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(
            self, gamma=check_number("gamma", self.gamma, 0, above=True), ranks=check_count("ranks", self.ranks, 2, 256)
        )

    @property
    def count(self) -> int:
        """``ranks``."""
        return self.ranks

    def shares(self, key: Key, units: int) -> Float64[np.ndarray, "u k s"]:
        """The same series for all."""
        series = np.arange(1, self.ranks + 1) ** -self.gamma
        series /= series.sum()
        others = [np.roll(series[1:], -k) for k in range(self.interpolations)]
        one = np.stack([np.concatenate([series[:1], other]) for other in others])
        return np.repeat(one[None], units, 0)
