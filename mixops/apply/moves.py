"""Moves the blocks of images over a square grid: the transport of puzzle-mix, applied.

A side of n blocks cuts an image into n x n blocks of h / n x w / n pixels, numbered row by row. ``moves[i, j] = m`` shows
block m of image i at the place of block j.
"""

from __future__ import annotations

from dataclasses import replace
from math import isqrt
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

from ..plan import MixPlan
from ..runtime.devices import to_device

Images = TypeVar("Images", Tensor, np.ndarray)


def move_blocks(images: Shaped[Images, "b ... h w"], moves: Int[Images, "b n*n"]) -> Images:
    """Rearranges the blocks of each image (b, ..., h, w), any dtype; both arguments torch, on one device, or both NumPy.

    Raises ``ValueError`` unless the number of blocks is a square whose root n divides ``h`` and ``w`` and both arguments
    have b rows.
    """
    b, blocks = moves.shape
    n = isqrt(blocks)
    if n * n != blocks or n == 0:
        raise ValueError(f"moves must have a square number of blocks, got {blocks}")
    h, w = images.shape[-2:]
    if h % n or w % n:
        raise ValueError(f"images must have sides divisible by the {n} blocks of moves, got {h}x{w}")
    if len(images) != b:
        raise ValueError(f"images and moves must have equally many rows, got {len(images)} and {b}")
    # (b, c, n, h/n, n, w/n) -> (b, n, n, c, h/n, w/n)
    grid = _permute(images.reshape(b, -1, n, h // n, n, w // n), (0, 2, 4, 1, 3, 5))
    rows = torch.arange(b, device=images.device) if isinstance(images, Tensor) else np.arange(b)
    moved = grid.reshape(b, blocks, *grid.shape[3:])[rows[:, None], moves].reshape(grid.shape)
    return _permute(moved, (0, 3, 1, 4, 2, 5)).reshape(images.shape)


def apart(images: Shaped[Tensor, "b c h w"], plan: MixPlan) -> tuple[Tensor, Tensor, MixPlan]:
    """The own and the partner image of each output with their blocks moved, (b k, c, h, w) both, and a plan of those.

    It has a row for each output, whose partner is in the other batch as if that had been mixed before.
    """
    assert plan.moves is not None
    b, k = plan.weight.shape
    moves = to_device(plan.moves.reshape(b * k, 2, -1), images.device).long()
    rows = (np.arange(b), plan.partner)
    own, other = (move_blocks(images[to_device(row.repeat(k), images.device)], moves[:, i]) for i, row in enumerate(rows))
    alone = replace(
        plan, partner=np.arange(b * k), weight=plan.weight.reshape(-1, 1), lam=plan.lam.reshape(-1, 1),
        params=plan.params.reshape(b * k, 1, -1), moves=None, past=np.ones(b * k, np.bool_),
        dense=None if plan.dense is None else plan.dense.reshape(b * k, 1, *plan.dense.shape[2:]),
    )  # fmt: skip
    return own, other, alone


def _permute(x: Images, axes: tuple[int, ...]) -> Images:
    return x.permute(axes) if isinstance(x, Tensor) else x.transpose(axes)
