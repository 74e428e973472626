"""OptTransMix (Zhu, Shi, Yan, Zha, ECCV 2020): images are moved into one another, where mixup lays them over one another.

    b = argmin_b sum_j w_j W_eps(p_j, b),    W_eps(p, b) = min_P <P, |x - x'|^2> - eps H(P),  P 1 = p, P^T 1 = b

p_j is a channel of image j as a distribution over its pixels, b the Wasserstein barycentre with the weights of the label.
It is found by projections (Benamou et al., arXiv 1411.5129, section 3.2) whose kernel exp(-|x - x'|^2 / eps) is applied axis
by axis (Solomon et al., SIGGRAPH 2015), in logarithms, so that no eps underflows:

    u_j = p_j / K v_j,    b = prod_j (K u_j)^w_j,    v_j = b / K u_j

Channels are brought to a mass of 1, and the barycentre gets the mean mass sum_j w_j m_j back. There is no mask, as no pixel
stays where it was; the label's weights are those of the barycentre. It makes sense for clean backgrounds, as the authors
say: where a background has mass, that is moved, too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from ..plan import MixPlan
from ..runtime.checks import check_count, check_number, check_tensor, check_type

Blur: TypeAlias = Callable[[Tensor], Tensor]

_MOST_TERMS = 2**23  # of the sums that are taken at a time: 64 MiB
_LEAST_PRODUCT_EPS = 0.0015  # exp(-1 / eps) is 1e-290: below it products underflow, and slower logarithms do not
_LEAST_EPS = 1e-8  # float64 then still has eight digits behind the point of the logarithms


@torch.no_grad()
def opt_trans_mix(
    images: Float[Tensor, "b c h w"], plan: MixPlan, *, eps: float = 0.002, iterations: int = 100
) -> Float[Tensor, "n c h w"]:
    """Barycentres in the place of the blends that ``mix_images`` makes; row b * K + k is output k of row b.

    ``images`` are floating and at least 0, with a background of 0. ``plan`` is one of constant masks: ``MixUp`` for two
    images, ``DirichletMixUp`` for more; ``mix_targets`` gives the labels. ``eps``, at least 1e-8, is on the scale of squared
    distances, the longer side being 1: an edge is blurred over about sqrt(eps / 2) of it. Every channel of an output has the
    mean mass of its sources'; one without any mass is left out of the others' barycentre. It is worked out in float64 and
    returned in the dtype of ``images``. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    x = _check_images(images, check_type("plan", plan, MixPlan, "a MixPlan"))
    eps, iterations = check_number("eps", eps, _LEAST_EPS, 1e6), check_count("iterations", iterations)
    b, k, s = plan.weights.shape
    sources = torch.from_numpy(plan.sources).to(x.device).repeat_interleave(k, 0)  # (n, s)
    weights = torch.from_numpy(plan.weights).to(x.device).reshape(b * k, s)
    h, w = x.shape[2:]
    blur = _blur(h, w, eps, x.device)
    mixed = x.new_empty(b * k, *x.shape[1:])
    step = max(1, _MOST_TERMS // (s * x.shape[1] * h * w * max(h, w)))
    for start in range(0, b * k, step):
        rows = slice(start, start + step)
        several = x[sources[rows]].double()  # (rows, s, c, h, w)
        mixed[rows] = _barycentres(several, weights[rows], blur, iterations).to(x.dtype)
    return mixed


def _barycentres(
    images: Float[Tensor, "n s c h w"], weights: Float[Tensor, "n s"], blur: Blur, iterations: int
) -> Float[Tensor, "n c h w"]:
    """The barycentre of each channel, with its mass."""
    mass = images.sum((3, 4), keepdim=True)  # (n, s, c, 1, 1)
    share = weights[:, :, None, None, None]
    total = (share * mass).sum(1)
    seen = mass > 0
    share = torch.where(seen, share, 0)  # what is empty has no place and takes no part
    share = share / share.sum(1, keepdim=True).clamp_min(torch.finfo(share.dtype).tiny)
    log_p = torch.where(seen, images / mass, 1.0).log()
    log_v = torch.zeros_like(log_p)
    for _ in range(iterations):
        log_kept = blur(log_p - blur(log_v))
        log_b = (share * log_kept).sum(1, keepdim=True)
        log_v = log_b - log_kept
    b = log_b[:, 0].flatten(2).softmax(2).view_as(log_b[:, 0])
    return b * total


def _blur(height: int, width: int, eps: float, device: torch.device) -> Blur:
    """log(K exp(log)) as a function of logs (..., h, w); K is a product of a kernel for rows and one for columns."""
    sides = [torch.arange(side, device=device, dtype=torch.float64) / max(height, width) for side in (height, width)]
    over_rows, over_columns = (-((at[:, None] - at) ** 2) / eps for at in sides)
    if eps >= _LEAST_PRODUCT_EPS:
        over_rows, over_columns, along = over_rows.exp(), over_columns.exp(), _along_by_product
    else:
        along = _along_by_logarithms
    return lambda log: along(along(log, over_rows).mT, over_columns).mT


def _along_by_product(log: Float[Tensor, "*n t m"], kernel: Float[Tensor, "t t"]) -> Float[Tensor, "*n t m"]:
    """The highest of each line is made 1, so that its own share of any place, exp(-1 / eps) at least, is a number."""
    top = log.amax(-2, keepdim=True).clamp_min(torch.finfo(log.dtype).min)  # a line of nothing has -inf everywhere
    return (kernel @ (log - top).exp()).log() + top


def _along_by_logarithms(log: Float[Tensor, "*n t m"], kernel: Float[Tensor, "t t"]) -> Float[Tensor, "*n t m"]:
    return (log[..., None, :, :] + kernel[:, :, None]).logsumexp(-2)


def _check_images(images: Any, plan: MixPlan) -> Float[Tensor, "b c h w"]:
    x = check_tensor("images", images)
    if not x.is_floating_point() or x.ndim != 4 or 0 in x.shape:
        raise ValueError(f"images must be floating (b, c, h, w), got {x.dtype} of shape {tuple(x.shape)}")
    if len(x) != plan.batch_size:
        raise ValueError(f"images must have the plan's {plan.batch_size} rows, got {len(x)}")
    if not plan.constant:
        raise ValueError("plan must have constant masks, as those of MixUp and DirichletMixUp: they are the weights")
    if not (x.isfinite().all() and x.min() >= 0):
        raise ValueError(f"images must be finite and at least 0, the mass of each pixel, got {x.min()} to {x.max()}")
    return x
