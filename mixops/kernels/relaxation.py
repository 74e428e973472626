"""The dual ascent of puzzle-mix's masks on CUDA: all sweeps of all pairs in one launch.

    flow <- clamp(flow + r / 2 (a - b), -w, w),   a <- a - change,   b <- b + change     edge by edge, colour by colour

Op by op a batch takes thousands of launches of some microseconds each, most of them spent on the host. A program is one
pair, whose blocks lie together in memory and so in the L1 cache; edges of a colour share no block, and a barrier parts the
colours. Each operation is rounded as torch rounds it (launches say ``enable_fp_fusion=False``), so masks are those of the
CPU.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from jaxtyping import Float32
from torch import Tensor

from ..runtime.devices import current_device

_MOST_LAYERS = 8  # each is unrolled
_MOST_LANES = 4096  # of a program
_COLOURS = 4
_NAN = tl.constexpr(tl.PropagateNan.ALL)


@triton.jit
def _edge(e, n, START: tl.constexpr, ACROSS: tl.constexpr):
    """The blocks at both ends of edge ``e`` of a colour, its weight's place, and whether there is such an edge."""
    m = (n - START) // 2  # pairs of a row or a column
    if ACROSS:
        each = tl.maximum(m, 1)
        y, x = e // each, START + 2 * (e % each)
        here, there, weight = y * n + x, y * n + x + 1, y * (n - 1) + x
    else:
        y, x = START + 2 * (e // n), e % n
        here, there, weight = y * n + x, (y + 1) * n + x, y * n + x
    return here, there, weight, e < m * n


@triton.jit(do_not_specialize=("sweeps", "n"))
def ascend(u, down, right, flow, half, sweeps, n, LAYERS: tl.constexpr, BLOCK: tl.constexpr):
    """Changes ``u`` (b, layers, n, n) by ``down`` (b, n - 1, n) and ``right`` (b, n, n - 1); ``flow`` begins as zeros."""
    pair = tl.program_id(0).to(tl.int64)
    edges = (n // 2) * n  # of the largest colour
    t = tl.arange(0, BLOCK)
    layer, e = t // edges, t % edges
    u += pair * LAYERS * n * n
    down += pair * (n - 1) * n
    right += pair * (n - 1) * n
    flow += pair * 4 * LAYERS * LAYERS * edges
    for _ in range(sweeps):
        for colour in tl.static_range(4):
            here, there, place, ok = _edge(e, n, colour // 2, colour % 2 == 1)
            ok = ok & (layer < LAYERS)
            if colour % 2 == 1:
                w = tl.load(right + place, mask=ok, other=0.0)
            else:
                w = tl.load(down + place, mask=ok, other=0.0)
            for shift in tl.static_range(LAYERS):  # layer i of a is tied to layer i + shift of b
                at = flow + (colour * LAYERS + shift) * LAYERS * edges + t
                first, second = u + layer * n * n + here, u + (layer + shift) % LAYERS * n * n + there
                a, b = tl.load(first, mask=ok, other=0.0), tl.load(second, mask=ok, other=0.0)
                before = tl.load(at, mask=ok, other=0.0)
                wanted = tl.maximum((a - b) * half + before, -w, propagate_nan=_NAN)
                wanted = tl.minimum(wanted, w, propagate_nan=_NAN)
                tl.store(at, wanted, mask=ok)
                tl.store(first, a - (wanted - before), mask=ok)
                tl.store(second, b + (wanted - before), mask=ok)
                tl.debug_barrier()


def fits(layers: int, n: int) -> bool:
    """Whether ``relax`` takes so many layers of n x n blocks."""
    return layers <= _MOST_LAYERS and layers * (n // 2) * n <= _MOST_LANES


def relax(
    u: Float32[Tensor, "layers n n b"], down: Float32[Tensor, "n-1 n b"], right: Float32[Tensor, "n n-1 b"],
    sweeps: int, relaxation: float,
) -> Float32[Tensor, "layers n n b"]:  # fmt: skip
    """``u`` after so many sweeps over all edges."""
    layers, n, _, b = u.shape
    mine, vertical, horizontal = (x.movedim(-1, 0).contiguous() for x in (u, down, right))
    mine = mine.clone() if mine.data_ptr() == u.data_ptr() else mine
    edges = (n // 2) * n
    flow = torch.zeros(b * _COLOURS * layers * layers * edges, dtype=torch.float32, device=u.device)
    block = triton.next_power_of_2(layers * edges)
    with current_device(u.device):
        ascend[(b,)](
            mine, vertical, horizontal, flow, relaxation / 2, sweeps, n, LAYERS=layers, BLOCK=block,
            num_warps=min(max(block // 64, 1), 8), enable_fp_fusion=False,
        )  # fmt: skip
    return mine.movedim(0, -1)
