"""Blocks moved over a grid, against a loop over blocks."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mixops.apply.moves import move_blocks


def slow_move(images: np.ndarray, moves: np.ndarray, n: int) -> np.ndarray:
    h, w = images.shape[-2] // n, images.shape[-1] // n
    out = np.zeros_like(images)
    for i in range(len(images)):
        for place in range(n * n):
            y, x = divmod(place, n)
            v, u = divmod(int(moves[i, place]), n)
            block = images[i, ..., v * h : v * h + h, u * w : u * w + w]
            out[i, ..., y * h : y * h + h, x * w : x * w + w] = block
    return out


@given(
    b=st.integers(1, 3), n=st.sampled_from([1, 2, 3, 4]), bh=st.integers(1, 3), bw=st.integers(1, 3),
    middle=st.sampled_from([(), (1,), (3,), (2, 2)]), seed=st.integers(0, 99),
)  # fmt: skip
def test_moves_equal_a_loop_over_blocks(b, n, bh, bw, middle, seed):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 255, (b, *middle, n * bh, n * bw)).astype(np.uint8)
    moves = rng.integers(0, n * n, (b, n * n)).astype(np.int32)
    expected = slow_move(images, moves, n)
    np.testing.assert_array_equal(move_blocks(images, moves), expected)
    moved = move_blocks(torch.from_numpy(images), torch.from_numpy(moves))
    np.testing.assert_array_equal(moved.numpy(), expected)


@pytest.mark.parametrize(
    ("shape", "blocks", "message"),
    [
        ((2, 3, 8, 8), 5, "moves must have a square number of blocks, got 5"),
        ((2, 3, 8, 8), 9, "images must have sides divisible by the 3 blocks of moves, got 8x8"),
        ((3, 3, 8, 8), 4, "images and moves must have equally many rows, got 3 and 2"),
    ],
)
def test_bad_arguments(shape, blocks, message):
    with pytest.raises(ValueError, match=message):
        move_blocks(np.zeros(shape), np.zeros((2, blocks), np.int32))
