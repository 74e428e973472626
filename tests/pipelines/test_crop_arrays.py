"""Crops of the images of one array, compiled and by torch: those of the images one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from mixops import CenterCrop, Key, PaddedRandomCrop, RandomResizedCrop, ResizeRandomCrop, Squash, TrivialAugmentWide
from mixops.augment.composition import as_augmentation
from mixops.augment.crop_plan import CropPlan, draw_crops
from mixops.augment.flips import Flip
from pipelines import resize, resize_tensor
from pipelines.crop_arrays import crop_array, crop_tensor
from pipelines.crop_rows import crop_rows
from pipelines.resize_kernel import DOWN_FIRST_IF_LESS, DOWN_FIRST_IF_TALL

IMAGES = np.random.default_rng(0).integers(0, 256, (9, 12, 10, 3), np.uint8)
IDS = np.array([3, 3, 0, 8, 5, 1, 7])
LAWS = [
    (PaddedRandomCrop(4), (12, 10)), (PaddedRandomCrop(4), (15, 13)), (PaddedRandomCrop(3, "edge"), (8, 9)),
    (PaddedRandomCrop(4, "reflect"), (12, 10)), (PaddedRandomCrop(0), (7, 10)), (CenterCrop(0), (9, 4)),
    (CenterCrop(10, "bicubic"), (10, 10)),
]  # fmt: skip


def drawn(law: Any, size: tuple[int, int], images: np.ndarray = IMAGES, step: int = 0) -> CropPlan:
    sizes = np.broadcast_to(np.array(images.shape[1:3]), (len(IDS), 2))
    return draw_crops(Key(1, 0, step), np.arange(len(IDS)), sizes, law, Flip(0.5, 0.5), size)


@pytest.mark.parametrize(("law", "size"), LAWS, ids=str)
def test_rows_of_an_array_are_those_of_its_images(law: Any, size: tuple[int, int]) -> None:
    for step in range(4):
        crops = drawn(law, size, step=step)
        assert not crops.resized
        expected = crop_rows(list(IMAGES[IDS]), crops)
        for images in (IMAGES, np.asfortranarray(IMAGES), np.repeat(IMAGES, 2, 2)[:, :, ::2]):
            np.testing.assert_array_equal(crop_array(images, IDS, crops), expected)
            tensor = crop_tensor(torch.from_numpy(images), IDS, crops)
            np.testing.assert_array_equal(tensor.numpy(), expected)


RESIZED = [
    *(RandomResizedCrop((0.05, 1), interpolation=name) for name in ("nearest", "bilinear", "bicubic", "lanczos", "random")),
    ResizeRandomCrop(), ResizeRandomCrop(18, 5, "constant", "bilinear"), ResizeRandomCrop(17, 3, "edge", "nearest"),
    CenterCrop(), CenterCrop(40, "lanczos"), Squash(), Squash(interpolation="nearest"),
]  # fmt: skip


@pytest.mark.parametrize("law", RESIZED, ids=repr)
@pytest.mark.parametrize("stored", [(12, 10), (31, 64), (11, 40)], ids=str)
def test_what_is_resized_is_pillows_to_the_byte(law: Any, stored: tuple[int, int]) -> None:
    images = np.random.default_rng(3).integers(0, 256, (9, *stored, 3), np.uint8)
    for step, size in enumerate([(8, 8), (16, 9), (12, 15)]):
        crops = drawn(law, size, images, step)
        assert crops.resized
        expected = crop_rows(list(images[IDS]), crops)
        np.testing.assert_array_equal(crop_array(images, IDS, crops), expected)
        np.testing.assert_array_equal(crop_tensor(torch.from_numpy(images), IDS, crops).numpy(), expected)


@pytest.mark.parametrize("order", [DOWN_FIRST_IF_TALL, DOWN_FIRST_IF_LESS])
def test_the_order_of_passes_is_pillows(order: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (resize, resize_tensor):
        monkeypatch.setattr(module, "pillow_order", lambda: order)
    images = np.random.default_rng(3).integers(0, 256, (9, 404, 3, 3), np.uint8)
    crops = drawn(RandomResizedCrop((0.5, 1), (0.001, 1000), interpolation="bicubic"), (40, 8), images)
    found = crop_tensor(torch.from_numpy(images), IDS, crops).numpy()
    np.testing.assert_array_equal(found, crop_rows(list(images[IDS]), crops))


def test_large_images_are_resized_some_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    crops = drawn(RandomResizedCrop(interpolation="bicubic"), (8, 8))
    expected = crop_rows(list(IMAGES[IDS]), crops)
    monkeypatch.setattr(resize_tensor, "_CHUNK", 3 * IMAGES[0].size * 8)
    np.testing.assert_array_equal(crop_tensor(torch.from_numpy(IMAGES), IDS, crops).numpy(), expected)


def test_rows_are_augmented() -> None:
    crops, mean = drawn(PaddedRandomCrop(4), (12, 10)), (0.5, 0.5, 0.5)
    composition = as_augmentation(TrivialAugmentWide())
    assert composition is not None
    augment = composition.draw(Key(1), np.arange(len(IDS)), (12, 10), mean, mean)
    found = crop_array(IMAGES, IDS, crops, augment)
    np.testing.assert_array_equal(found, crop_rows(list(IMAGES[IDS]), crops, augment))
    assert (found != crop_array(IMAGES, IDS, crops)).any()


@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32])
@pytest.mark.parametrize("channels", [1, 2, 5])
def test_planes_of_any_number(dtype: Any, channels: int) -> None:
    """Each plane is cut as a picture of one channel is, and keeps its bits; planes stay planes in memory."""
    planes = np.random.default_rng(1).normal(0, 60, (9, channels, 11, 13)).astype(dtype)
    images = planes.transpose(0, 2, 3, 1)
    for law, size in ((PaddedRandomCrop(3, "reflect"), (12, 11)), (PaddedRandomCrop(2), (11, 13)), (CenterCrop(0), (4, 5))):
        crops = drawn(law, size, images)
        found = crop_array(images, IDS, crops)
        assert found.dtype == dtype and (channels == 1 or found.transpose(0, 3, 1, 2).flags.c_contiguous)
        for row, sample in enumerate(IDS):
            np.testing.assert_array_equal(found[row], _slow(images[sample], crops, row))
        np.testing.assert_array_equal(crop_tensor(torch.from_numpy(images), IDS, crops).numpy(), found)


def _slow(image: np.ndarray, crops: CropPlan, row: int) -> np.ndarray:
    top, left, height, width = crops.windows[row].astype(int)
    above, before, below, behind = (0, 0, 0, 0) if crops.margins is None else crops.margins[row]
    mode: Any = crops.padding_mode or "constant"
    inner = np.pad(image[top : top + height, left : left + width], ((above, below), (before, behind), (0, 0)), mode=mode)
    inner = inner[:, ::-1] if crops.flips[row] else inner
    return inner[::-1] if crops.vertical_flips[row] else inner


def test_what_is_not_there_is_not_read() -> None:
    crops = drawn(PaddedRandomCrop(0), (12, 10))
    for wrong, message in (
        (IMAGES[:, :5], "windows must be inside of images of 5 x 10"),
        (IMAGES[:8], "ids must be of 0 to 7"),
    ):
        with pytest.raises(ValueError, match=message):
            crop_array(wrong, IDS, crops)
        with pytest.raises(ValueError, match=message):
            crop_tensor(torch.from_numpy(wrong), IDS, crops)
