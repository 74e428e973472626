"""The masks of puzzle-mix for a whole batch: one total-variation problem a pair, solved in its dual, serves every lambda.

A mask has n x n blocks with values m in {0, 1/M, .., 1}, M = labels - 1, and minimises (arXiv 2009.06962, eq. 6)

    E(m) = sum_p m_p own_p + (1 - m_p) partner_p - eta / n^2 sum_p log Binom(M, lambda)(M m_p) + sum_pq w_pq (m_p - m_q)^2.

With M m = sum_i a_i for 0/1 layers a_0 >= a_1 >= .. all terms are sums of a_ip and |a_ip - a_jq|, a binary cut, and lambda
only adds the constant -eta / n^2 logit(lambda) to each a_ip. The level sets at t of the minimiser u of
1/2 |u - f|^2 + TV_w(u) are the best cuts of all constants t, so one u is enough: coordinate ascent on the dual (one variable
an edge, |y| <= w), edges coloured so that a colour is one tensor operation over all pairs, over-relaxed. After a fixed
number of sweeps u is only near its limit, and the nominal level of a lambda may cut it badly, so levels around it are
compared by their energy. All masks of a pair are level sets of one u: they are nested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32, Int64, Shaped
from torch import Tensor
from torch.nn.functional import pad

from ...runtime.devices import has_triton

SWEEPS = 48
RELAXATION = 1.7
LEVELS = (-0.05, 0.0, 0.05)  # around the nominal one, in units of 1 / n^2
EPSILON = 1e-8  # the authors' guard of log(lambda)


@dataclass(frozen=True, eq=False)
class MaskProblem:
    """What the masks of a batch are to minimise.

    ``own`` is the cost of showing a block of the own image (m = 1), ``partner`` that of the partner's (m = 0);
    ``vertical`` and ``horizontal``, >= 0, weigh the differences between neighbours in a column and in a row.
    """

    own: Float[Tensor, "b n n"]
    partner: Float[Tensor, "b n n"]
    vertical: Float[Tensor, "b n-1 n"]
    horizontal: Float[Tensor, "b n n-1"]


def solve_masks(
    problem: MaskProblem, lam: Float[Tensor, "b k"], labels: int = 3, eta: float = 0.2
) -> Float32[Tensor, "b k n n"]:
    """The masks of each pair for its lambdas, which must fall along k; so do the masks, block by block.

    ``lam`` in [0, 1], where 0 and 1 give the partner's and the own image alone, ``labels`` >= 2 values from 0 to 1,
    ``eta`` >= 0 the weight of the prior. Not the exact minimum: some .003 % above it on average at n = 16.
    """
    u, bias = _relax(problem, labels, eta)  # (layers, n, n, b)
    n, layers = u.shape[1], labels - 1
    lam = lam.T
    nominal = eta / n**2 * (torch.log(1 - lam + EPSILON) - torch.log(lam + EPSILON))  # (k, b)
    offsets = torch.tensor(LEVELS, device=u.device, dtype=u.dtype) / n**2
    levels = (nominal + offsets[:, None, None]).flatten(0, 1).sort(0, descending=True).values  # (c, b), masks grow along c
    energy, count = _energies(problem, u, bias, levels)
    # lambda moves the energy of a mask only through its number of layers, so every level is a candidate of every lambda;
    # a larger lambda prefers a larger mask, and cummin keeps rounding from saying otherwise
    best = (energy + nominal[:, None] * count).argmin(1).cummin(0).values  # (k, b)
    level = levels.gather(0, best).masked_fill_(lam >= 1, -torch.inf).masked_fill_(lam <= 0, torch.inf)
    mask = (u[:, None] > level[:, None, None]).sum(0, dtype=torch.float32) / layers  # (k, n, n, b)
    return mask.permute(3, 0, 1, 2).contiguous()


def block_saliency(saliency: Float[Tensor, "b h w"], n: int) -> Float32[Tensor, "b n n"]:
    """The share of each of n x n blocks in an image's saliency; equal shares where there is none or it is not finite."""
    b, h, w = saliency.shape
    blocks = saliency.float().reshape(b, n, h // n, n, w // n).mean((2, 4))
    blocks = blocks / blocks.sum((1, 2), keepdim=True)
    usable = blocks.isfinite().flatten(1).all(1)[:, None, None]
    return torch.where(usable, blocks, 1 / n**2)


def mask_problem(
    saliency: Float[Tensor, "b n n"],
    images: Shaped[Tensor, "b c h w"],
    partner: Int64[Tensor, " b"],
    scale: Float[Tensor, " c"],
    *,
    beta: float = 1.2,
    gamma: float = 0.5,
    neigh_size: int = 4,
) -> MaskProblem:
    """The problem of each pair from block saliencies and images (the authors' CIFAR and ImageNet scripts).

    ``scale`` times the values of ``images``, uint8 or floating, spans at most 1 in each channel.
    Showing an image's block costs the other image's saliency there. Blocks a | b of two images that meet cost, by
    ``gamma``, how much their pixels differ across the border, compared in cells of ``neigh_size`` pixels or the largest
    divisor of the block below it; any two neighbours cost ``beta`` / (16 n) times their difference of mask.
    """
    n = saliency.shape[-1]
    base = beta / (16 * n)
    vertical, horizontal = _borders(images, n, neigh_size), _borders(images.mT, n, neigh_size)
    own, other = saliency[partner], saliency
    weights = []
    for (before, after), turned in ((vertical, False), (horizontal, True)):
        # d_ab: image a before the border, image b behind it, 1 the own image and 2 the partner
        d11 = _distance(before, after, scale, n)
        d22 = d11[partner]
        d12, d21 = (_distance(before, after[partner], scale, n), _distance(before[partner], after, scale, n))
        weight = base + base * gamma / 2 * (d12 + d21 - d11 - d22)
        # what (m_p - m_q)^2 does not say of the four cases, block by block
        sides = [base * gamma / 2 * (d + e) for d, e in ((d12, d11), (d21, d11), (d21, d22), (d12, d22))]
        if turned:
            weight, sides = weight.mT, [side.mT for side in sides]
        first, second = ((0, 1, 0, 0), (1, 0, 0, 0)) if turned else ((0, 0, 0, 1), (0, 0, 1, 0))
        own = own + pad(sides[0], first) + pad(sides[1], second)
        other = other + pad(sides[2], first) + pad(sides[3], second)
        weights.append(weight)
    return MaskProblem(own, other, *weights)


def _borders(images: Tensor, n: int, neigh_size: int) -> tuple[Tensor, Tensor]:
    """The cells on both sides of the horizontal borders between blocks: two of (b, c, n - 1, cells)."""
    b, c, h, w = images.shape
    high, wide = _largest_divisor(h // n, neigh_size), _largest_divisor(w // n, neigh_size)
    rows = images.reshape(b, c, n, h // n, w)
    last, first = rows[:, :, :-1, -high:], rows[:, :, 1:, :high]
    return _cells(last, wide), _cells(first, wide)


def _cells(strips: Shaped[Tensor, "b c s high w"], wide: int) -> Float32[Tensor, "b c s cells"]:
    """Means of cells as high as the strips, added row by row and then column by column.

    ``mean`` over both axes of pixels that lie side by side takes ten times as long.
    """
    total = strips[:, :, :, 0].float()
    for i in range(1, strips.shape[3]):
        total = total + strips[:, :, :, i]
    columns = total.unflatten(-1, (-1, wide))
    cells = columns[..., 0]
    for i in range(1, wide):
        cells = cells + columns[..., i]
    return cells.contiguous() / (strips.shape[3] * wide)


def _distance(before: Tensor, after: Tensor, scale: Tensor, n: int) -> Tensor:
    """Mean absolute difference over channels and the cells of a block: (b, c, n - 1, cells) to (b, n - 1, n)."""
    return (before - after).abs_().mul_(scale[:, None, None]).mean(1).unflatten(-1, (n, -1)).mean(-1)


def _largest_divisor(side: int, most: int) -> int:
    return max(d for d in range(1, min(side, most) + 1) if side % d == 0)


def _relax(problem: MaskProblem, labels: int, eta: float) -> tuple[Tensor, Tensor]:
    """The minimiser u of the relaxed problem, layers first and pairs last, and the cost of each layer where it is 1."""
    u, bias, down, right = start(problem, labels, eta)
    if u.is_cuda and has_triton():
        from ...kernels.relaxation import fits, relax

        if fits(*u.shape[:2]):
            return relax(u, down, right, SWEEPS, RELAXATION).sort(0, descending=True).values, bias
    if u.device.type == "cpu":
        from ...kernels.relaxation_cpu import relax as relax_cpu

        return relax_cpu(u, down, right, SWEEPS, RELAXATION).sort(0, descending=True).values, bias
    return ascend(u, down, right).sort(0, descending=True).values, bias


def start(problem: MaskProblem, labels: int, eta: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """u without any flow (layers, n, n, b), the cost of each layer, and the weights of the edges down and to the right."""
    n, layers = problem.own.shape[-1], labels - 1
    gap = (problem.own - problem.partner).permute(1, 2, 0)  # (n, n, b)
    down = (problem.vertical / layers**2).permute(1, 2, 0).contiguous()
    right = (problem.horizontal / layers**2).permute(1, 2, 0).contiguous()
    degree = (
        pad(down, (0, 0, 0, 0, 0, 1)) + pad(down, (0, 0, 0, 0, 1, 0)) + pad(right, (0, 0, 0, 1)) + pad(right, (0, 0, 1, 0))
    )
    choose = [math.log(math.comb(layers, i)) for i in range(labels)]
    bias = torch.stack([gap / layers - eta / n**2 * (choose[i + 1] - choose[i]) for i in range(layers)])
    # (M m_p - M m_q)^2 = sum_ij |a_ip - a_jq| plus, for both blocks, a term in the number of layers alone
    u = -torch.stack([bias[i] + (2 * i + 1 - layers) * degree for i in range(layers)])
    return u, bias, down, right


def ascend(u: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """u, in place, after all sweeps; each colour of edges is a few operations over all pairs."""
    layers, n = u.shape[:2]
    colours = []
    for first in range(min(2, n - 1)):
        here, there = slice(first, n - 1, 2), slice(first + 1, n, 2)
        colours.append((u[:, here], u[:, there], down[here]))
        colours.append((u[:, :, here], u[:, :, there], right[:, here]))
    flows = [[torch.zeros_like(a) for _ in range(layers)] for a, _, _ in colours]
    for _ in range(SWEEPS):
        for (a, b, w), flow in zip(colours, flows, strict=True):
            for shift in range(layers):  # layer i of a is tied to layer i + shift of b
                behind = b.roll(-shift, 0) if shift else b
                wanted = torch.sub(a, behind).mul_(RELAXATION / 2).add_(flow[shift])
                torch.clamp(wanted, -w, w, out=wanted)
                change = wanted - flow[shift]
                a.sub_(change)
                b.add_(change.roll(shift, 0) if shift else change)
                flow[shift] = wanted
    return u


def _energies(problem: MaskProblem, u: Tensor, bias: Tensor, levels: Tensor) -> tuple[Tensor, Tensor]:
    """The energy without lambda's part and the number of layers of the cut of u at each level: both (levels, b)."""
    layers = len(u)
    down, right = problem.vertical.permute(1, 2, 0), problem.horizontal.permute(1, 2, 0)
    energies, counts = [], []
    for level in levels.split(len(levels) if u.is_cuda else 2):  # what a CPU can hold in its cache
        above = (u > level[:, None, None, None]).to(u.dtype)  # (c, layers, n, n, b)
        mask = above.sum(1)
        energy = (above * bias).sum((1, 2, 3))
        energy += (mask.diff(dim=1).square_() * down).sum((1, 2)) / layers**2
        energy += (mask.diff(dim=2).square_() * right).sum((1, 2)) / layers**2
        energies.append(energy)
        counts.append(mask.sum((1, 2)))
    return torch.cat(energies), torch.cat(counts)
