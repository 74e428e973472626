"""Moves the blocks of images over a square grid: the transport of puzzle-mix, applied.

A side of n blocks cuts an image into n x n blocks of h / n x w / n pixels, numbered row by row. ``moves[..., j] = i``
shows block i at the place of block j; each output of a pair has its own moves.
"""

from __future__ import annotations

from math import isqrt
from typing import TypeVar

import numpy as np
import torch
from jaxtyping import Int, Shaped
from torch import Tensor

Images = TypeVar("Images", Tensor, np.ndarray)


def move_blocks(images: Shaped[Images, "b ... h w"], moves: Int[np.ndarray, "b k n*n"] | Int[Tensor, "b k n*n"]) -> Images:
    """Rearranges the blocks of each image once per output: (b, ..., h, w) become (b, k, ..., h, w).

    Any dtype; torch images keep their device, and ``moves`` may then be a tensor. Raises ``ValueError`` unless the
    number of blocks is a square whose root n divides ``h`` and ``w`` and the batches agree.
    """
    b, k, blocks = moves.shape
    n = isqrt(blocks)
    if n * n != blocks or n == 0:
        raise ValueError(f"moves must have a square number of blocks, got {blocks}")
    h, w = images.shape[-2:]
    if h % n or w % n:
        raise ValueError(f"images must have sides divisible by the {n} blocks of moves, got {h}x{w}")
    if len(images) != b:
        raise ValueError(f"images and moves must have equally many rows, got {len(images)} and {b}")
    middle = tuple(images.shape[1:-2])
    # (b, c, n, h/n, n, w/n) -> (b, n, n, c, h/n, w/n)
    grid = _permute(images.reshape(b, -1, n, h // n, n, w // n), (0, 2, 4, 1, 3, 5))
    grid = grid.reshape(b, blocks, *grid.shape[3:])
    if isinstance(images, Tensor):
        index = (moves if isinstance(moves, Tensor) else torch.from_numpy(np.array(moves))).to(images.device).long()
        moved = grid[torch.arange(b, device=images.device)[:, None, None], index]
    else:
        moved = grid[np.arange(b)[:, None, None], np.asarray(moves)]
    # (b, k, n, n, c, h/n, w/n) -> (b, k, c, n, h/n, n, w/n)
    moved = _permute(moved.reshape(b, k, n, n, *moved.shape[3:]), (0, 1, 4, 2, 5, 3, 6))
    return moved.reshape(b, k, *middle, h, w)


def _permute(x: Images, axes: tuple[int, ...]) -> Images:
    return x.permute(axes) if isinstance(x, Tensor) else x.transpose(axes)
