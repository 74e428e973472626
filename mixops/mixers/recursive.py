"""RecursiveMix (arXiv 2203.06844): the batch that was mixed before, made small, in a box of this one.

    x~_t = M * x_t + (1 - M) * small(x~_{t-1}),    y~_t = w * y_t + (1 - w) * y~_{t-1},    w = mean(M) = 1 - box / (h w)

The sides of the box are sqrt(a) of the image's, a ~ U(0, area), its centre is anywhere, and what sticks out is cut off: the
box of CutMix, in which the whole of the image before is shown.

What is mixed thus depends on the batches before. They are no hidden state: what a call returns is what the next one is given
as ``history``. And they do not reach back for ever: every ``restart`` steps, and so at the start of an epoch, the partners
are rows of the batch itself. So a run that goes on at step s mixes anew from step s - s % restart on, fewer than ``restart``
batches, and has the same bits.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np

from ..masks import mask_means
from ..plan import MixPlan
from ..runtime.checks import check_count, check_number, set_fields
from .base import APPLY, CENTRE_X, CENTRE_Y, OUTPUT_WORDS, SHARED_WORDS, Mixer, Pairs, refuse_matching
from .boxes import box_masks


@dataclass(frozen=True, repr=False)
class RecursiveMix(Mixer):
    """RecursiveMix: the history in a box of at most ``area`` of the image (arXiv 2203.06844, eq. 1-3; the authors' alpha).

    ``area`` is in [0, 1]. A plan of a step that ``restart`` does not divide has its partners in the batch that was mixed at
    the step before: ``mixer(images, labels, key=..., history=(mixed images, targets))``. Of K outputs of a pair the first is
    the history of its row. Raises ``ValueError`` or ``TypeError`` naming the argument, also for a ``matching``, which would
    look for partners among the images of this batch.
    """

    area: float = 0.5
    _: KW_ONLY
    restart: int = 32

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, area=check_number("area", self.area, 0, 1), restart=check_count("restart", self.restart))
        refuse_matching(self)

    @property
    def period(self) -> int:
        """The steps from one restart to the next."""
        return self.restart

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen."""
        unit, height, width = pairs.unit, pairs.height, pairs.width
        u = self.words(pairs.key, unit)
        drawn = u[:, SHARED_WORDS:].reshape(len(u), self.interpolations, OUTPUT_WORDS)[..., 0]
        share = np.sort(self.area * drawn, axis=1)  # label weights fall along k
        share[u[:, APPLY] >= self.prob] = 0
        params = box_masks(np.sqrt(share), np.ones_like(share), u[:, CENTRE_Y], u[:, CENTRE_X], height, width)
        lam = (1 - share).astype(np.float32).astype(np.float64)
        weight = mask_means(params, height, width)
        rows = np.ones(len(unit), np.bool_)
        past = None if pairs.key.step % self.restart == 0 else rows
        return MixPlan(pairs.partner, weight[unit], lam[unit], params[unit], height, width, inset=rows, past=past)
