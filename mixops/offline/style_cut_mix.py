"""StyleCutMix (Hong, Choi, Kim, CVPR 2021): a box of the own content in the partner's, each with some of the other's style.

    x~ = M [s x_1 + (1 - s) g_12] + (1 - M) [(1 - s) x_2 + s g_21],    g_ij = gamma x_i + (1 - gamma) g(AdaIN(f_i, f_j))
    w = r c + (1 - r) [gamma c + (1 - gamma) s],    c = mean(M)

M is 1 in a box of sqrt(lambda) of the image's sides, clipped, lambda and s ~ Beta(alpha, alpha). It is the authors'
T x_1 + (1 - M - s + T) x_2 + (M - T) g_12 + (s - T) g_21 with T = max(0, M + s - 1), written for a mask of 0 and 1. The
own image has c of the content and gamma c + (1 - gamma) s of the style, exactly.

The authors enlarge images of 32 pixels to 224 for their network, cut the box there and shrink the result. That gives the
pixels back (every seventh is one of them), but the label counts the box at 224, and the 32 pixels that are left show up to
.053 more or less of it. Here the box has the image's own pixels.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ..key import Key
from ..masks import DV, V0, mask_means
from ..mixers.boxes import box_masks
from ..plan import MixPlan
from ..runtime.checks import check_count, check_number, check_type, set_fields
from .style_draws import (
    Network,
    StyleMixer,
    beside,
    check_images,
    check_shares,
    check_values,
    decode,
    encode,
    label_plan,
    sort_outputs,
)
from .style_statistics import adaptive_instance_norm


@dataclass(frozen=True)
class StyleCutMix(StyleMixer):
    """Draws of StyleCutMix: a box of the own content, a share of style, and how much stays unstylised (CVPR 2021; its code).

    Box and style have ``alpha`` > 0; ``gamma_alpha`` > 0 is that of gamma ~ Beta (the authors' runs on CIFAR: 0.8, with
    ``prob`` 0.5). ``r`` in [0, 1] is what content counts in the label, style the rest; ``prob`` the probability that a unit
    is mixed. ``draw`` is "sample" (each row its own draw) or "batch" (the authors' one for all rows). Of ``interpolations``
    K >= 1 outputs of a pair each has its own box and share of style; centre and gamma are the pair's, and outputs are sorted
    by the label. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    gamma_alpha: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, gamma_alpha=check_number("gamma_alpha", self.gamma_alpha, 0, above=True))

    def plan(self, key: Key, *, batch_size: int, height: int, width: int) -> StyleCutPlan:
        """Draws the plan of one batch, a pure function of the arguments; sizes in pixels."""
        check_type("key", key, Key, "a Key")
        height, width = check_count("height", height), check_count("width", width)
        rows = self._draw_rows(key, check_count("batch_size", batch_size))
        lam, style = rows.beta(rows.content, self.alpha), rows.beta(rows.style, self.alpha)
        gamma = rows.beta(rows.gamma, self.gamma_alpha)
        params = box_masks(np.sqrt(lam), np.ones_like(lam), rows.centre[:, 0], rows.centre[:, 1], height, width)
        params[..., V0], params[..., DV] = ~rows.mixed[:, None], rows.mixed[:, None]  # 1 in the box, or everywhere
        area = mask_means(params, height, width)
        label = self.r * area + (1 - self.r) * _style_share(gamma, area, style)
        area, lam, params, style = sort_outputs(label, area, lam, params, style)
        content = MixPlan(rows.partner, area, lam, params, height, width)
        return StyleCutPlan(content, style, gamma, rows.mixed, self.r)


@dataclass(frozen=True, eq=False)
class StyleCutPlan:
    """One batch's boxes and shares of style, drawn and fixed.

    ``content`` says partners and masks, and ``style[i, k]`` how much of the style of output k is the own image's;
    ``gamma[i]`` of each stylised image is the image as it was. Rows that are not ``mixed`` stay as they are. For gammas by
    the distance of classes, ``dataclasses.replace(plan, gamma=class_gammas(labels, plan.content.partner, distances))``.
    Shares are in [0, 1]. Raises ``ValueError`` or ``TypeError`` naming the field otherwise.
    """

    content: MixPlan
    style: Float64[np.ndarray, "b k"]
    gamma: Float64[np.ndarray, " b"]
    mixed: Bool[np.ndarray, " b"]
    r: float = 0.7

    def __post_init__(self) -> None:
        content = check_type("content", self.content, MixPlan, "a MixPlan")
        if content.more is not None or content.moves is not None:
            raise ValueError(f"content must be a plan of two images without moves, got {content}")
        check_shares("style", self.style, *content.weight.shape)
        check_shares("gamma", self.gamma, content.batch_size)
        check_values("mixed", self.mixed, np.dtype(np.bool_), (content.batch_size,))
        check_number("r", self.r, 0, 1)
        if ((content.weight < 1) | (self.style < 1))[~self.mixed].any():
            raise ValueError("mixed must be True for all rows whose content or style is below 1")

    @property
    def style_share(self) -> Float64[np.ndarray, "b k"]:
        """How much of the style of each output is the own image's, over all pixels: gamma * c + (1 - gamma) * s."""
        return _style_share(self.gamma, self.content.weight, self.style)

    @property
    def labels(self) -> MixPlan:
        """The plan of the labels, for ``mix_targets``: weight r * mean(M) + (1 - r) * ``style_share``."""
        return label_plan(self.content.partner, self.r * self.content.weight + (1 - self.r) * self.style_share)


def _style_share(
    gamma: Float64[np.ndarray, " b"], content: Float64[np.ndarray, "b k"], style: Float64[np.ndarray, "b k"]
) -> Float64[np.ndarray, "b k"]:
    return gamma[:, None] * content + (1 - gamma[:, None]) * style


@torch.no_grad()
def mix_styles_in_boxes(
    images: Float[Tensor, "b c h w"], plan: StyleCutPlan, encoder: Network, decoder: Network
) -> Float[Tensor, "n c h w"]:
    """StyleCutMix of a batch; row b * K + k is output k of row b. Rows that are not mixed are returned as they were.

    ``images`` (b, c, h, w) of the plan's size, floating, as ``encoder`` takes them: networks for styles are usually trained
    on pixels in [0, 1], so normalise what comes out. ``encoder`` returns maps (b, d, ...), ``decoder`` images of the same
    size; a network for other sizes has to resize within the two. Each pair is encoded and decoded once for all its outputs.
    No network is changed, and no gradient is recorded. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    content = check_type("plan", plan, StyleCutPlan, "a StyleCutPlan").content
    check_images(images, content.batch_size)
    if tuple(images.shape[2:]) != (content.height, content.width):
        raise ValueError(f"images must be {content.height}x{content.width} as the plan's, got {tuple(images.shape)}")
    own = encode(encoder, images)
    partner = torch.from_numpy(content.partner).to(images.device)
    other = own[partner.to(own.device)]
    decoded = decode(decoder, torch.cat([adaptive_instance_norm(own, other), adaptive_instance_norm(other, own)]), images)
    gamma, style = beside(plan.gamma, images, 4), beside(plan.style, images, 5)
    restyled, partner_restyled = decoded.chunk(2)  # the own content in the partner's style, and the other way round
    theirs = images[partner]
    own_restyled = (gamma * images + (1 - gamma) * restyled)[:, None]
    theirs_restyled = (gamma * theirs + (1 - gamma) * partner_restyled)[:, None]
    inside = style * images[:, None] + (1 - style) * own_restyled  # (b, k, c, h, w)
    outside = (1 - style) * theirs[:, None] + style * theirs_restyled
    mask = torch.from_numpy(content.mask()).to(images.device, images.dtype)[:, :, None]  # (b, k, 1, h, w)
    mixed = torch.where(mask == 1, inside, torch.where(mask == 0, outside, mask * inside + (1 - mask) * outside))
    return torch.where(beside(plan.mixed, images, 5), mixed, images[:, None]).flatten(0, 1)
