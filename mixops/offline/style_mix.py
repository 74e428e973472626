"""StyleMix (Hong, Choi, Kim, CVPR 2021): content and style of two images are mixed apart, in a style network's features.

    x~ = g(t f_11 + (1 - c - s + t) f_22 + (c - t) f_12 + (s - t) f_21),    f_ij = AdaIN(f_i, f_j),  f_ii = f_i
    y~ = w y_1 + (1 - w) y_2,    w = r c + (1 - r) s

c and s ~ Beta(alpha, alpha) are what the row's own image has of content and of style, t ~ U(max(0, c + s - 1), min(c, s))
what it has of both. The features hold c of the own content and s of the own style, exactly, and the label says so. Encoder f
and decoder g are the user's (the authors': VGG-19 up to relu4_1, and the decoder of arXiv 1703.06868, frozen). x~ is no
blend of pixels, so there is no mask, and no loader could do it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ..key import Key
from ..plan import MixPlan
from ..runtime.checks import check_count, check_number, check_type
from .style_draws import (
    Network,
    StyleMixer,
    beside,
    check_images,
    check_outputs,
    check_partner,
    check_shares,
    check_values,
    decode,
    encode,
    label_plan,
    sort_outputs,
)
from .style_statistics import adaptive_instance_norm

_SLACK = 1e-6


@dataclass(frozen=True)
class StyleMix(StyleMixer):
    """Draws of StyleMix: shares of content and style ~ Beta(alpha, alpha), and how they go together (CVPR 2021; its code).

    ``alpha`` > 0 (the authors' runs on CIFAR: 0.5, with ``prob`` 0.2). ``r`` in [0, 1] is what content counts in the label,
    style the rest; ``prob`` the probability that a unit is mixed. ``draw`` is "sample" (each row its own shares) or "batch"
    (the authors' one for all rows). Of ``interpolations`` K >= 1 outputs of a pair each has its own shares; they are sorted
    by the label. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    def plan(self, key: Key, *, batch_size: int) -> StylePlan:
        """Draws the plan of one batch, a pure function of the arguments."""
        check_type("key", key, Key, "a Key")
        rows = self._draw_rows(key, check_count("batch_size", batch_size))
        content, style = rows.beta(rows.content, self.alpha), rows.beta(rows.style, self.alpha)
        least, most = np.maximum(0, content + style - 1), np.minimum(content, style)
        both = least + rows.t * (most - least)
        content, style, both = sort_outputs(self.r * content + (1 - self.r) * style, content, style, both)
        return StylePlan(rows.partner, content, style, both, rows.mixed, self.r)


@dataclass(frozen=True, eq=False)
class StylePlan:
    """One batch's mixing of content and style, drawn and fixed.

    Row i is mixed with row ``partner[i]``. Its output k has the shares ``content[i, k]`` and ``style[i, k]`` of its own
    image, ``both[i, k]`` of which belong together; rows that are not ``mixed`` stay as they are. Shares are in [0, 1] and
    ``both`` is in [max(0, content + style - 1), min(content, style)]. Raises ``ValueError`` or ``TypeError`` naming the
    field otherwise.
    """

    partner: Int64[np.ndarray, " b"]
    content: Float64[np.ndarray, "b k"]
    style: Float64[np.ndarray, "b k"]
    both: Float64[np.ndarray, "b k"]
    mixed: Bool[np.ndarray, " b"]
    r: float = 0.7

    def __post_init__(self) -> None:
        rows = check_partner(self.partner)
        outputs = check_outputs("content", self.content, rows)
        content, style, both = (
            check_shares(name, getattr(self, name), rows, outputs) for name in ("content", "style", "both")
        )
        check_values("mixed", self.mixed, np.dtype(np.bool_), (rows,))
        check_number("r", self.r, 0, 1)
        least, most = np.maximum(0, content + style - 1), np.minimum(content, style)
        if ((both < least - _SLACK) | (both > most + _SLACK)).any():
            raise ValueError("both must be in [max(0, content + style - 1), min(content, style)] for every output")
        if ((content < 1) | (style < 1))[~self.mixed].any():
            raise ValueError("mixed must be True for all rows whose content or style is below 1")

    @property
    def labels(self) -> MixPlan:
        """The plan of the labels, for ``mix_targets``: weight r * content + (1 - r) * style."""
        return label_plan(self.partner, self.r * self.content + (1 - self.r) * self.style)

    @property
    def shares(self) -> Float64[np.ndarray, "b k 2 2"]:
        """What the features of each output hold, by content (own, partner's) and style (own, partner's); 1 in all."""
        c, s, t = self.content, self.style, self.both
        return np.stack([np.stack([t, c - t], 2), np.stack([s - t, 1 - c - s + t], 2)], 2)


@torch.no_grad()
def mix_styles(
    images: Float[Tensor, "b c h w"], plan: StylePlan, encoder: Network, decoder: Network
) -> Float[Tensor, "n c h w"]:
    """StyleMix of a batch: ``decoder`` of what ``plan`` makes of ``encoder(images)``; row b * K + k is output k of row b.

    ``images`` are floating, as ``encoder`` takes them: networks for styles are usually trained on pixels in [0, 1], so
    normalise what comes out. ``encoder`` returns maps (b, d, ...), ``decoder`` takes those of all outputs and returns images
    of the same size; a network for other sizes has to resize within the two. Rows that are not mixed are returned as they
    were. No network is changed, and no gradient is recorded. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    outputs = check_type("plan", plan, StylePlan, "a StylePlan").content.shape[1]
    check_images(images, len(plan.partner))
    own = encode(encoder, images)
    other = own[torch.from_numpy(plan.partner).to(own.device)]
    shares = plan.shares.transpose(2, 3, 0, 1)  # (2, 2, b, k)
    (both, content), (style, neither) = ([beside(share, own, own.ndim + 1) for share in row] for row in shares)
    features = both * own[:, None] + neither * other[:, None]
    restyled, partner_restyled = adaptive_instance_norm(own, other), adaptive_instance_norm(other, own)
    features = features + content * restyled[:, None] + style * partner_restyled[:, None]
    images = images.repeat_interleave(outputs, 0)
    return torch.where(
        beside(plan.mixed.repeat(outputs), images, 4), decode(decoder, features.flatten(0, 1), images), images
    )
