"""Rows of a batch resized in threads: each by its own window and flip, and what is left to do for images already cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from pipelines.resize_rows import already_cut, resize_rows

from mixops.augment.crops import CropPlan

RNG = np.random.default_rng(0)
SHAPES = [(40, 31), (17, 60), (33, 33), (64, 20), (9, 12)]
IMAGES = [RNG.integers(0, 256, (*shape, 3), np.uint8) for shape in SHAPES]
WINDOWS = np.array([[3, 2, 30, 20], [0, 5, 17, 40], [8, 8, 16, 16], [10, 0, 50, 20], [2, 3, 5, 9]], np.float64)
FLIPS = np.array([True, False, True, False, False])
SIZE = (12, 10)
PLAN = CropPlan(WINDOWS, FLIPS, SIZE, spill=False)


def by_pillow(image: np.ndarray, window: np.ndarray, flip: bool) -> np.ndarray:
    top, left, height, width = window.astype(int)
    cut = Image.fromarray(image[top : top + height, left : left + width].copy())
    # first across, then down, as in every version of Pillow before 13
    across = cut.resize((SIZE[1], height), Image.Resampling.BILINEAR)
    pixels = np.asarray(across.resize(SIZE[::-1], Image.Resampling.BILINEAR))
    return pixels[:, ::-1] if flip else pixels


@pytest.mark.parametrize("threads", [1, 3])
def test_each_row_has_its_own_window_and_flip(threads: int) -> None:
    expected = np.stack([by_pillow(*row) for row in zip(IMAGES, WINDOWS, FLIPS, strict=True)])
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        np.testing.assert_array_equal(resize_rows(IMAGES, PLAN), expected)
    finally:
        torch.set_num_threads(before)


def test_what_was_cut_by_the_decoder_is_only_resized() -> None:
    cut = [
        np.ascontiguousarray(image[int(t) : int(t + h), int(left) : int(left + w)])
        for image, (t, left, h, w) in zip(IMAGES, WINDOWS, strict=True)
    ]
    np.testing.assert_array_equal(resize_rows(cut, already_cut(PLAN)), resize_rows(IMAGES, PLAN))
