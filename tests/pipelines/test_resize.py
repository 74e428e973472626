"""The resize is Pillow's, byte for byte."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipelines.resize import resized_crop, workspace

BILINEAR = Image.Resampling.BILINEAR


def pillow(image: np.ndarray, box: tuple[float, float, float, float], size: tuple[int, int]) -> np.ndarray:
    """Pillow in the order that all its versions had before 13: first across, then down."""
    left, top, right, bottom = box
    across = Image.fromarray(image).resize((size[1], image.shape[0]), BILINEAR, (left, 0, right, image.shape[0]))
    return np.asarray(across.resize((size[1], size[0]), BILINEAR, (0, top, size[1], bottom)))


def run(
    image: np.ndarray, window: tuple[float, ...], size: tuple[int, int], *, spill: bool, flip: bool = False
) -> np.ndarray:
    out = np.full((*size, 3), 77, np.uint8)
    scratch = workspace(*image.shape[:2], size)
    for array in scratch:
        array[:] = 99  # whatever was there before must not show
    resized_crop(image, np.array(window, np.float64), spill, flip, out, *scratch)
    return out


sides = st.integers(1, 60)


@settings(deadline=None)
@given(st.data(), sides, sides, sides, sides, st.booleans())
def test_is_pillow_on_whole_windows(data: st.DataObject, h: int, w: int, oh: int, ow: int, flip: bool) -> None:
    image = np.random.default_rng(h * 100 + w).integers(0, 256, (h, w, 3), np.uint8)
    height, width = data.draw(st.integers(1, h)), data.draw(st.integers(1, w))
    top, left = data.draw(st.integers(0, h - height)), data.draw(st.integers(0, w - width))
    cut = np.ascontiguousarray(image[top : top + height, left : left + width])
    expected = pillow(cut, (0, 0, width, height), (oh, ow))
    found = run(image, (top, left, height, width), (oh, ow), spill=False, flip=flip)
    np.testing.assert_array_equal(found, expected[:, ::-1] if flip else expected)


@settings(deadline=None)
@given(st.data(), st.integers(2, 60), st.integers(2, 60), sides, sides)
def test_is_pillow_on_windows_with_fractions(data: st.DataObject, h: int, w: int, oh: int, ow: int) -> None:
    image = np.random.default_rng(h * 100 + w).integers(0, 256, (h, w, 3), np.uint8)
    quarters = [data.draw(st.integers(0, 4 * n - 4)) / 4 for n in (h, w)]
    top, left = quarters
    height, width = (data.draw(st.integers(4, int(4 * (n - q)))) / 4 for n, q in ((h, top), (w, left)))
    found = run(image, (top, left, height, width), (oh, ow), spill=True)
    np.testing.assert_array_equal(found, pillow(image, (left, top, left + width, top + height), (oh, ow)))


@pytest.mark.parametrize("size", [(300, 257), (257, 300), (512, 512), (64, 80)])
def test_is_torchvision_resize_and_centre_crop(size: tuple[int, int]) -> None:
    functional = pytest.importorskip("torchvision.transforms.functional", reason="torchvision is not installed")
    from mixops.augment.crops import CenterCrop

    image = np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)
    windows = CenterCrop(256, (224, 224)).windows(np.zeros((1, 24)), np.array([size]))
    expected = functional.center_crop(functional.resize(Image.fromarray(image), 256, antialias=True), [224, 224])
    found = run(image, tuple(windows[0]), (224, 224), spill=True)
    assert np.abs(found.astype(int) - np.asarray(expected)).max() <= 1  # positions are rounded in another order
    assert np.mean(found != np.asarray(expected)) < 0.01
