"""Decoding and cropping by Pillow: torchvision's own calls, then the flip."""

from __future__ import annotations

import numpy as np
import pytest
from support.images import encoded, picture

from pipelines import pillow

functional = pytest.importorskip("torchvision.transforms.functional", reason="torchvision is not installed")

IMAGE = picture(3, 53, 37)  # width, height


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_images_are_decoded_to_rgb(mode: str) -> None:
    image = IMAGE.convert(mode)
    decoded = pillow.decode(encoded(image))
    assert decoded.mode == "RGB" and decoded.size == (53, 37)
    assert np.abs(np.asarray(decoded, int) - np.asarray(image.convert("RGB"))).mean() < 6  # JPEG's loss


@pytest.mark.parametrize("flip", [False, True])
def test_a_window_is_cut_out_resized_and_mirrored(flip: bool) -> None:
    expected = np.asarray(functional.resized_crop(IMAGE, 4, 7, 20, 31, [12, 9], antialias=True))
    found = pillow.resized_crop(IMAGE, np.array([4.0, 7.0, 20.0, 31.0]), flip, (12, 9))
    np.testing.assert_array_equal(found, np.flip(expected, 1) if flip else expected)


@pytest.mark.parametrize("flip", [False, True])
def test_the_centre_of_a_resized_image(flip: bool) -> None:
    expected = np.asarray(functional.center_crop(functional.resize(IMAGE, 20, antialias=True), [16, 18]))
    found = pillow.resize_then_crop(IMAGE, 20, flip, (16, 18))
    np.testing.assert_array_equal(found, np.flip(expected, 1) if flip else expected)
