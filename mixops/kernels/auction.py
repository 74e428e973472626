"""The auction of puzzle-mix's transport on CUDA: all rounds of all problems in one launch.

A program is one problem, a lane a place that bids and a block that is bid for. Prices, owners and bids lie in memory that
only this program sees; barriers part the steps of a round: bids are made, the highest wins, of equal ones the first place,
the former owner gives the block up. Sums only, so that bids are those of ``transport.auction`` to the bit.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Bool, Float32, Int64
from torch import Tensor

from ..runtime.devices import current_device

_MOST_BLOCKS = 1024  # of a problem


@triton.jit(do_not_specialize=("n", "reach", "rounds"))
def bid(saliency, visible, cost, price, highest, source, taker, first, step, n, reach, rounds, BLOCK: tl.constexpr):
    """``cost`` (offsets,) of moving by each offset within ``reach``; ``price`` .. ``first`` as ``auction`` makes them."""
    blocks, side = n * n, 2 * reach + 1
    row = tl.program_id(0).to(tl.int64) * blocks
    me = tl.arange(0, BLOCK)
    there = me < blocks
    y, x = me // n, me % n
    seen = tl.load(visible + row + me, mask=there, other=0) != 0
    left, bidders = tl.zeros((), tl.int32) + rounds, tl.zeros((), tl.int32) + 1
    while (left > 0) & (bidders > 0):
        bidding = seen & (tl.load(source + row + me, mask=there, other=0) < 0)
        best, second = tl.full((BLOCK,), float("-inf"), tl.float32), tl.full((BLOCK,), float("-inf"), tl.float32)
        wanted = me
        for offset in range(side * side):
            oy, ox = y + offset // side - reach, x + offset % side - reach
            inside = bidding & (oy >= 0) & (oy < n) & (ox >= 0) & (ox < n)
            block = oy * n + ox
            worth = tl.load(saliency + row + block, mask=inside, other=0.0) - tl.load(cost + offset)
            net = tl.where(inside, worth - tl.load(price + row + block, mask=inside, other=0.0), float("-inf"))
            better = net > best
            second = tl.where(better, best, tl.maximum(second, net))
            wanted, best = tl.where(better, block, wanted), tl.where(better, net, best)
        second = tl.maximum(second, -1e3)  # a place may have one block
        mine = tl.load(price + row + wanted, mask=bidding, other=0.0) + best - second + step
        tl.atomic_max(highest + row + wanted, mine, mask=bidding, sem="relaxed", scope="cta")
        tl.debug_barrier()
        most = tl.load(highest + row + wanted, mask=bidding, other=0.0)
        tl.atomic_min(first + row + wanted, me, mask=bidding & (mine == most), sem="relaxed", scope="cta")
        tl.debug_barrier()
        winner = tl.load(first + row + me, mask=there, other=blocks)
        owner = tl.load(taker + row + me, mask=there, other=-1)
        sold = there & (winner < blocks)
        tl.store(source + row + owner, tl.zeros_like(owner) - 1, mask=sold & (owner >= 0))  # losers give their block up
        tl.debug_barrier()
        tl.store(source + row + winner, me, mask=sold)
        tl.store(taker + row + me, winner, mask=sold)
        tl.store(price + row + me, tl.load(highest + row + me, mask=sold, other=0.0), mask=sold)
        tl.store(highest + row + me, tl.full((BLOCK,), float("-inf"), tl.float32), mask=sold)
        tl.store(first + row + me, tl.zeros_like(me) + blocks, mask=sold)
        tl.debug_barrier()
        bidders = tl.sum(bidding.to(tl.int32))
        left -= 1


def fits(blocks: int) -> bool:
    """Whether ``auction`` takes problems of so many blocks."""
    return blocks <= _MOST_BLOCKS


def auction(
    saliency: Float32[Tensor, "p blocks"], visible: Bool[Tensor, "p blocks"], cost: Float32[Tensor, " offsets"],
    reach: int, step: float, rounds: int,
) -> Int64[Tensor, "p blocks"]:  # fmt: skip
    """A nearly best block of each visible place, -1 at the others; ``step`` is what a bid is raised by."""
    problems, blocks = saliency.shape
    price, highest = torch.zeros_like(saliency), torch.full_like(saliency, -torch.inf)
    source, taker, first = (
        torch.full((problems, blocks), value, dtype=torch.int32, device=saliency.device) for value in (-1, -1, blocks)
    )
    block = triton.next_power_of_2(blocks)
    with current_device(saliency.device):
        bid[(problems,)](
            saliency.contiguous(), visible.contiguous().view(torch.uint8), cost, price, highest, source, taker, first, step,
            round(blocks**0.5), reach, rounds, BLOCK=block, num_warps=min(max(block // 32, 1), 8),
        )  # fmt: skip
    return source.long()
