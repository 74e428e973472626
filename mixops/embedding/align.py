"""AlignMixup (arXiv 2103.15375): two feature maps are laid over one another before they are mixed.

    P = argmin_P <P, |a_p - b_q|^2> - eps H(P),  rows and columns of P sum to 1 / r
    a~_p = lambda a_p + (1 - lambda) sum_q r P_pq b_q

over the r positions of a map. The coupling P is found by Sinkhorn's iterations on logarithms, so that no eps underflows;
their number is fixed, so that nothing waits for the device, and the last one is that of the side that is laid over the
other: its features then are convex combinations exactly, as the label says. (The authors stop early, and their rows do not
quite sum to 1 / r.) No gradient goes through P. A coin for the batch decides which of the two maps keeps its place.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ..key import Key, Stream
from ..plan import MixPlan
from ..runtime.checks import check_count, check_number, set_fields
from ..runtime.devices import to_device


@dataclass(frozen=True)
class Sinkhorn:
    """Entropic transport with ``iterations`` of Sinkhorn's, for ``ManifoldMix(align=...)``; the authors' defaults.

    ``eps`` > 0 is on the scale of squared distances of the features, which are taken as they are. Raises ``ValueError`` or
    ``TypeError`` naming the argument.
    """

    eps: float = 0.1
    iterations: int = 100

    def __post_init__(self) -> None:
        eps, iterations = check_number("eps", self.eps, 0, above=True), check_count("iterations", self.iterations)
        set_fields(self, eps=eps, iterations=iterations)

    @torch.no_grad()
    def shares(self, kept: Float[Tensor, "b r d"], laid: Float[Tensor, "b r d"]) -> Float[Tensor, "b r r"]:
        """Of what each position of ``kept`` is given of ``laid``: rows are shares of its positions and sum to 1."""
        with torch.autocast(kept.device.type, enabled=False):
            a, b = kept.detach().float(), laid.detach().float()
            cost = torch.cdist(a, b).square_().div_(-self.eps)  # (b, r, r)
            even = -math.log(cost.shape[-1])
            column = torch.zeros_like(cost[:, :1])
            for _ in range(self.iterations):
                row = even - (cost + column).logsumexp(2, keepdim=True)
                column = even - (cost + row).logsumexp(1, keepdim=True)
            return (cost + column).softmax(2)  # the last rows: each sums to 1 exactly


def mix_aligned(
    hidden: Float[Tensor, "b c *space"], plan: MixPlan, align: Sinkhorn, key: Key
) -> Float[Tensor, "n c *space"]:
    """Mixes maps by a plan of constant masks, one of each pair laid over the other; row b * K + k is output k of pair b.

    Raises ``ValueError`` for masks that vary, rows of several sources, and activations without positions.
    """
    if not plan.constant or plan.more is not None:
        raise ValueError(
            "mixer must have constant masks of two images, as MixUp, to mix what align has laid over one another"
        )
    if hidden.ndim < 3:
        raise ValueError(f"layers must return maps (b, c, ...) to be aligned, got shape {tuple(hidden.shape)}")
    own = hidden.flatten(2).mT  # (b, r, c)
    other = own[to_device(plan.partner, hidden.device)]
    keeps_own = int(key.words(Stream.LAYER, 1, start=1)[0]) & 1 == 0
    if keeps_own:
        other = align.shares(own, other).to(own.dtype) @ other
    else:
        own = align.shares(other, own).to(own.dtype) @ own
    weight: Any = to_device(np.ascontiguousarray(plan.params[..., 0]), hidden.device).to(hidden.dtype)  # (b, k)
    weight = weight[:, :, None, None]
    mixed = weight * own[:, None] + (1 - weight) * other[:, None]  # (b, k, r, c)
    return mixed.flatten(0, 1).mT.reshape(-1, *hidden.shape[1:])
