"""The masks of puzzle-mix for a whole batch: one total-variation problem a pair, solved in its dual, serves every lambda.

A mask has n x n blocks with values m in {0, 1/M, .., 1}, M = labels - 1, and minimises (arXiv 2009.06962, eq. 6)

    E(m) = sum_p m_p own_p + (1 - m_p) partner_p - eta / n^2 sum_p log Binom(M, lambda)(M m_p) + sum_pq w_pq (m_p - m_q)^2.

With M m = sum_i a_i for 0/1 layers a_0 >= a_1 >= .. all terms are sums of a_i and |a_ip - a_jq|, a binary cut, and lambda
only adds the constant -eta / n^2 logit(lambda) to each a_i. The level sets at t of the minimiser u of
1/2 |u - f|^2 + TV_w(u) are the best cuts of all constants t, so one u is enough: coordinate ascent on the dual (one variable
an edge, |y| <= w), edges coloured so that a colour is one tensor operation over all pairs, over-relaxed. After a fixed number
of sweeps u is near its limit and the exact levels of a few lambdas would cut it badly, so levels around them are compared by
their energy. All masks of a pair are level sets of one u and every level is a candidate of every lambda: they are nested.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from jaxtyping import Float, Float32
from torch import Tensor
from torch.nn.functional import pad

SWEEPS = 48
RELAXATION = 1.7
EPSILON = 1e-8  # the authors' guard of log(lambda)


@dataclass(frozen=True, eq=False)
class MaskProblem:
    """What a batch of masks is to minimise.

    ``own`` is the cost of showing a block of the own image (m = 1), ``partner`` that of the partner's (m = 0);
    ``vertical`` and ``horizontal`` >= 0 weigh the differences between blocks that are neighbours in a column or a row.
    """

    own: Float[Tensor, "b n n"]
    partner: Float[Tensor, "b n n"]
    vertical: Float[Tensor, "b n-1 n"]
    horizontal: Float[Tensor, "b n n-1"]


def solve_masks(
    problem: MaskProblem, lam: Float[Tensor, "b k"], labels: int = 3, eta: float = 0.2
) -> Float32[Tensor, "b k n n"]:
    """The masks of each pair for its k lambdas in [0, 1], nested: a larger lambda's mask is nowhere smaller.

    ``labels`` >= 2 values between 0 and 1, ``eta`` >= 0 the weight of the prior. Within .02 % of the least energy on average.
    """
    u, bias = _relax(problem, labels, eta)  # (layers, n, n, b)
    n, layers = u.shape[1], labels - 1
    nominal = eta / n**2 * (torch.log(1 - lam + EPSILON) - torch.log(lam + EPSILON)).T  # (k, b)
    offsets = torch.linspace(-0.15, 0.15, 7, device=u.device, dtype=u.dtype) / n**2
    levels = (nominal + offsets[:, None, None]).flatten(0, 1)  # (candidates, b)
    energy, count = _energies(problem, u, bias, levels, len(nominal))
    # E = energy + nominal * count: lambda moves the energy of a mask only through its count of layers
    total = energy + nominal[:, None] * count  # (k, candidates, b)
    # smallest mask among equals, so that lambdas of equal energies cannot cross
    levels, order = levels.sort(0, descending=True)
    best = total.gather(1, order.expand_as(total)).argmin(1)  # (k, b)
    level = levels.gather(0, best)
    mask = (u[:, None] > level[:, None, None]).sum(0, dtype=torch.float32) / layers  # (k, n, n, b)
    return mask.permute(3, 0, 1, 2).contiguous()


def _relax(problem: MaskProblem, labels: int, eta: float) -> tuple[Tensor, Tensor]:
    """The minimiser of the relaxed problem, layers first and pairs last, and the linear cost of each layer."""
    n, layers = problem.own.shape[-1], labels - 1
    gap = (problem.own - problem.partner).permute(1, 2, 0)  # (n, n, b)
    down = (problem.vertical / layers**2).permute(1, 2, 0).contiguous()
    right = (problem.horizontal / layers**2).permute(1, 2, 0).contiguous()
    degree = (
        pad(down, (0, 0, 0, 0, 0, 1)) + pad(down, (0, 0, 0, 0, 1, 0)) + pad(right, (0, 0, 0, 1)) + pad(right, (0, 0, 1, 0))
    )
    choose = [math.log(math.comb(layers, i)) for i in range(labels)]
    bias = torch.stack([gap / layers - eta / n**2 * (choose[i + 1] - choose[i]) for i in range(layers)])
    u = -torch.stack([bias[i] + (2 * i + 1 - layers) * degree for i in range(layers)])
    colours = []
    for start in range(min(2, n - 1)):
        a, b = slice(start, n - 1, 2), slice(start + 1, n, 2)
        colours.append((u[:, a], u[:, b], down[a]))
        colours.append((u[:, :, a], u[:, :, b], right[:, a]))
    colours = [(a, b, w, -w, [torch.zeros_like(a) for _ in range(layers)]) for a, b, w in colours]
    for _ in range(SWEEPS):
        for a, b, w, minus_w, flows in colours:
            for shift, y in enumerate(flows):  # layer i of a is tied to layer i + shift of b
                turned = b if shift == 0 else b.roll(-shift, 0)
                flow = torch.sub(a, turned).mul_(RELAXATION / 2).add_(y)
                torch.clamp(flow, minus_w, w, out=flow)
                change = flow - y
                a.sub_(change)
                b.add_(change if shift == 0 else change.roll(shift, 0))
                flows[shift] = flow
    return u.sort(0, descending=True).values if layers > 1 else u, bias


def _energies(problem: MaskProblem, u: Tensor, bias: Tensor, levels: Tensor, chunk: int) -> tuple[Tensor, Tensor]:
    """Energy without lambda's part, and number of layers above, of the cut of u at each level: both (levels, b)."""
    layers = len(u)
    down, right = problem.vertical.permute(1, 2, 0), problem.horizontal.permute(1, 2, 0)
    energies, counts = [], []
    for level in levels.split(chunk):
        above = (u > level[:, None, None, None]).to(u.dtype)  # (c, layers, n, n, b)
        mask = above.sum(1)
        energy = (above * bias).sum((1, 2, 3))
        energy += (mask.diff(dim=1).square_() * down).sum((1, 2)) / layers**2
        energy += (mask.diff(dim=2).square_() * right).sum((1, 2)) / layers**2
        energies.append(energy)
        counts.append(mask.sum((1, 2)))
    return torch.cat(energies), torch.cat(counts)
