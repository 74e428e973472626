"""Decoding at a fraction of the size: when it may be done, that it is done, and how close it is to decoding all of it."""

from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from support.images import encoded, picture

from loaders.bench.photos import photo
from mixops.augment.crop_plan import CropPlan
from pipelines import pillow
from pipelines.crop_rows import crop_rows
from pipelines.scaled_decode import decode_scale, scaled_crops, scaled_size


def crops(window: tuple[float, ...], size: tuple[int, int], **changes: Any) -> CropPlan:
    plan = CropPlan(np.array([window], float), np.zeros(1, bool), np.zeros(1, bool), ("bilinear",), size, False)
    return replace(plan, **changes)


@pytest.mark.parametrize(
    ("sides", "size", "scale"),
    [
        ((63, 64), (32, 32), 1), ((64, 64), (32, 32), 2), ((64, 63), (32, 32), 1), ((127, 500), (32, 32), 2),
        ((128, 128), (32, 32), 4), ((255.5, 256), (32, 32), 4), ((256, 256), (32, 32), 8), ((9000, 9000), (32, 32), 8),
        ((64, 128), (16, 64), 2), ((7, 7), (1, 1), 1), ((8, 8), (1, 1), 8),
    ],
)  # fmt: skip
def test_a_crop_must_be_twice_the_output_in_both_directions(sides: Any, size: Any, scale: int) -> None:
    assert decode_scale(crops((3, 5, *sides), size), 0) == scale


def test_margins_are_not_of_the_image() -> None:
    margins = np.array([[16, 0, 0, 0]])
    assert decode_scale(crops((0, 0, 64, 96), (48, 48), margins=margins, padding_mode="edge"), 0) == 2
    assert decode_scale(crops((0, 0, 64, 96), (48, 48)), 0) == 1


@pytest.mark.parametrize("scale", [2, 4, 8])
@pytest.mark.parametrize(("width", "height"), [(500, 375), (97, 61), (64, 64), (9, 8), (15, 23)])
def test_jpeg_is_made_so_many_times_smaller(width: int, height: int, scale: int) -> None:
    image = picture(1, width, height)
    for mode, options in (("RGB", {}), ("RGB", {"progressive": True}), ("L", {}), ("CMYK", {}), ("RGB", {"subsampling": 0})):
        small, size = pillow.decode_scaled(encoded(image.convert(mode), **options), scale)
        assert size == (height, width) and small.mode == "RGB"
        assert (small.height, small.width) == scaled_size((height, width), scale)
    whole, size = pillow.decode_scaled(encoded(image, "PNG"), scale)
    assert (whole.height, whole.width) == size == (height, width)


WINDOWS = [(0, 0, 375, 500), (11, 37, 300, 301), (75, 200, 300, 300), (60, 3, 256, 411)]


@pytest.mark.parametrize("scale", [1, 2, 4, 8])
@pytest.mark.parametrize("window", WINDOWS)
def test_it_shows_the_same_place(window: tuple[int, ...], scale: int) -> None:
    """Of a smooth photograph within one to three grey levels; a window off by one scaled pixel would be off by ten."""
    pixels = np.asarray(Image.fromarray(photo(3)).reduce(4).resize((500, 375), Image.Resampling.BICUBIC))
    data = encoded(Image.fromarray(pixels), quality=95)
    out = 256 // scale
    plan = crops(window, (out, out), flips=np.ones(1, bool))
    assert decode_scale(plan, 0) >= scale
    exact = pillow.crop(pillow.decode(data), plan, 0).astype(float)
    small = pillow.decode_scaled(data, scale)[0]
    ours = pillow.crop(small, plan, 0, scale).astype(float)
    assert np.abs(ours - exact).mean() < {1: 0.1, 2: 1.0, 4: 1.5, 8: 3.2}[scale] and np.abs((ours - exact).mean()) < 0.4
    rows = crop_rows([np.asarray(small)], scaled_crops(plan, scale))[0]
    np.testing.assert_array_equal(rows, ours.astype(np.uint8))  # Pillow's resize(box=)
    if window[1] >= scale > 1:
        moved = replace(plan, windows=plan.windows - [0, scale, 0, 0])
        assert np.abs(pillow.crop(small, moved, 0, scale) - exact).mean() > 8


def test_turbojpeg_scales_as_pillow_does() -> None:
    pytest.importorskip("ffcv", reason="ffcv is not installed")
    from pipelines.ffcv.decode import RecordDecoder

    for width, height in ((500, 375), (97, 61), (9, 8), (15, 23), (33, 64)):
        data = encoded(picture(2, width, height), subsampling=0)
        decode = RecordDecoder(np.array([[height, width]]))
        for scale in (2, 4, 8):
            small = np.asarray(pillow.decode_scaled(data, scale)[0], float)
            ours = decode(data, (height, width), scale)
            assert np.abs(ours - small).max() <= 3  # TurboJPEG is asked for its fast transform


def test_draft_is_what_is_asked_for() -> None:
    """Pillow's own words: the largest of 1/8, 1/4, 1/2 that is no smaller than the size asked for."""
    data = encoded(picture(4, 500, 375))
    with Image.open(io.BytesIO(data)) as image:
        image.draft(None, (250, 187))
        np.testing.assert_array_equal(np.asarray(image.convert("RGB")), np.asarray(pillow.decode_scaled(data, 2)[0]))
