"""The dual ascent of puzzle-mix's masks on the CPU: all sweeps of all pairs in one call that needs no interpreter.

    flow <- clamp(flow + r / 2 (a - b), -w, w),   a <- a - change,   b <- b + change     edge by edge, colour by colour

Pairs lie side by side in memory, so vectors are of pairs, and what an edge of the grid needs stays in the L2 cache. Op by op
it is two thousand operations of torch on a few thousand numbers each, which take seven times as long and hold up the
training loop. Every operation is rounded as torch rounds it, in torch's order: the masks are the same to the bit.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32
from numba import float32
from torch import Tensor

from ..runtime.jit import njit


@njit()
def _ascend(u, down, right, flow, half, sweeps):  # type: ignore[no-untyped-def]
    """Changes ``u``; ``flow`` (2, layers, layers, n, n, b) begins as zeros."""
    layers, n, _, b = u.shape
    for _ in range(sweeps):
        for first in range(min(2, n - 1)):
            for across in range(2):
                weights = right if across else down
                beside, below = across, 1 - across
                for shift in range(layers):  # layer i of a is tied to layer i + shift of b
                    for i in range(layers):
                        k = (i + shift) % layers
                        for y in range(first * below, n - below, 1 + below):
                            for x in range(first * beside, n - beside, 1 + beside):
                                for p in range(b):
                                    w = weights[y, x, p]
                                    before = flow[across, shift, i, y, x, p]
                                    wanted = (u[i, y, x, p] - u[k, y + below, x + beside, p]) * half + before
                                    wanted = -w if wanted < -w else w if wanted > w else wanted
                                    flow[across, shift, i, y, x, p] = wanted
                                    u[i, y, x, p] -= wanted - before
                                    u[k, y + below, x + beside, p] += wanted - before


def relax(
    u: Float32[Tensor, "layers n n b"], down: Float32[Tensor, "n-1 n b"], right: Float32[Tensor, "n n-1 b"],
    sweeps: int, relaxation: float,
) -> Float32[Tensor, "layers n n b"]:  # fmt: skip
    """``u``, in place, after so many sweeps over all edges."""
    layers, n, _, b = u.shape
    flow = np.zeros((2, layers, layers, n, n, b), np.float32)
    _ascend(u.numpy(), down.numpy(), right.numpy(), flow, float32(relaxation / 2), sweeps)
    return u
