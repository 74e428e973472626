"""The transport of puzzle-mix: which block is shown at which place, so that more of what matters is visible.

    maximise  sum over visible places j of  s_i(j) - t_eps * d(i(j), j)^2 / (n - 1)^2

over one-to-one maps i(j) (arXiv 2009.06962, section 3.3). What lies at an invisible place is never seen, so moving there
costs nothing here; the authors' code charges it, and their greedy rounds let blocks vanish or appear twice.
On the CPU the assignment is exact. On CUDA tensors places bid for blocks in a batched auction (Bertsekas 1988), all problems
at once, within ``AUCTION_REACH`` blocks and up to ``AUCTION_RAISE`` / blocks per place of the optimum.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from ...runtime.devices import has_triton

AUCTION_REACH = 3
AUCTION_RAISE = 0.1
_AUCTION_ROUNDS = 4096
_ROUNDS_A_LOOK = 16


def transport_blocks(
    saliency: Float[Tensor, "p n*n"], visible: Bool[Tensor, "p n*n"], t_eps: float
) -> Int64[Tensor, "p n*n"]:
    """The block to show at each place, a permutation of 0 .. n * n - 1 for each of p problems.

    ``saliency`` >= 0 of each block, ``visible`` places, ``t_eps`` >= 0 the cost of moving across the image. Invisible
    places keep their own block where it is left.
    """
    if t_eps < 0:
        raise ValueError(f"t_eps must be at least 0, got {t_eps}")
    find = auction if saliency.is_cuda else exact_assignment
    return complete(find(saliency, visible, t_eps))


def exact_assignment(
    saliency: Float[Tensor, "p n*n"], visible: Bool[Tensor, "p n*n"], t_eps: float
) -> Int64[Tensor, "p n*n"]:
    """The best block of each visible place, -1 at the others; CPU tensors, on ``torch.get_num_threads()`` threads."""
    from ...kernels.assignment import assign
    from ...runtime.threads import run_sliced

    n = _side(saliency)
    source = torch.empty(saliency.shape, dtype=torch.int64)
    arrays = saliency.double().numpy(), visible.numpy()
    run_sliced(assign, len(saliency), *arrays, n, t_eps / max(n - 1, 1) ** 2, source.numpy())
    return source


def auction(saliency: Float[Tensor, "p n*n"], visible: Bool[Tensor, "p n*n"], t_eps: float) -> Int64[Tensor, "p n*n"]:
    """A nearly best block of each visible place, -1 at the others; any device."""
    n, device = _side(saliency), saliency.device
    blocks = n * n
    reach = min(AUCTION_REACH, n - 1)
    step = torch.arange(-reach, reach + 1, device=device)
    y = torch.arange(n, device=device)[:, None, None, None] + step[:, None]  # (n, 1, r, 1)
    x = torch.arange(n, device=device)[:, None, None] + step  # (n, 1, r)
    inside = ((y >= 0) & (y < n) & (x >= 0) & (x < n)).reshape(blocks, -1)
    block = (y * n + x).reshape(blocks, -1).clamp(0, blocks - 1)  # (places, offsets)
    cost = t_eps * ((step[:, None] ** 2 + step**2).flatten() / max(n - 1, 1) ** 2)
    if saliency.is_cuda and has_triton():
        from ...kernels.auction import auction as fused
        from ...kernels.auction import fits

        if fits(blocks):
            return fused(saliency, visible, cost, reach, AUCTION_RAISE / blocks, _AUCTION_ROUNDS)
    worth = saliency[:, block].sub_(cost).masked_fill_(~inside, -torch.inf)  # (p, places, offsets)
    price = torch.zeros_like(saliency)
    source = torch.full_like(saliency, -1, dtype=torch.int64)
    place = torch.arange(blocks, device=device).expand_as(source)
    taker = torch.full_like(source, -1)
    for round_ in range(_AUCTION_ROUNDS):
        bidding = visible & (source < 0)
        if round_ % _ROUNDS_A_LOOK == 0 and not bidding.any():
            break
        net = worth - price[:, block]
        best, offset = net.max(-1)
        second = net.scatter_(-1, offset[..., None], -torch.inf).amax(-1).clamp_(min=-1e3)  # a place may have one block
        wanted = block.expand_as(net).gather(-1, offset[..., None])[..., 0]
        bid = (price.gather(1, wanted) + best - second + AUCTION_RAISE / blocks).masked_fill_(~bidding, -torch.inf)
        highest = torch.full_like(price, -torch.inf).scatter_reduce_(1, wanted, bid, "amax")
        won = bidding & (bid == highest.gather(1, wanted))
        first = torch.full_like(source, blocks).scatter_reduce_(1, wanted, place.where(won, blocks), "amin")
        sold = first < blocks
        # losers give their block up, winners take theirs; column `blocks` takes what is nobody's
        spare = torch.cat([source, source[:, :1]], 1)
        spare.scatter_(1, taker.where(sold & (taker >= 0), blocks), -1)
        spare.scatter_(1, first, place)
        source = spare[:, :blocks]
        taker = first.where(sold, taker)
        price = highest.where(sold, price)
    return source


def complete(source: Int64[Tensor, "p n*n"]) -> Int64[Tensor, "p n*n"]:
    """Fills the -1 of partial one-to-one maps so that they become permutations, with the own block where it is left."""
    own = torch.arange(source.shape[1], device=source.device).expand_as(source)
    source = own.where((source < 0) & ~_used(source), source)
    # the r-th place without a block takes the r-th block without a place
    empty, left = source < 0, ~_used(source)
    places, blocks = (~empty).long().argsort(dim=1, stable=True), (~left).long().argsort(dim=1, stable=True)
    return source.scatter(1, places, blocks.where(empty.gather(1, places), source.gather(1, places)))


def _used(source: Tensor) -> Tensor:
    """Which blocks a map shows already."""
    marks = torch.zeros(len(source), source.shape[1] + 1, dtype=torch.bool, device=source.device)
    return marks.scatter_(1, source.where(source >= 0, source.shape[1]), True)[:, :-1]


def _side(saliency: Tensor) -> int:
    n = round(saliency.shape[1] ** 0.5)
    if n * n != saliency.shape[1]:
        raise ValueError(f"saliency must have a square number of blocks, got {saliency.shape[1]}")
    return n
