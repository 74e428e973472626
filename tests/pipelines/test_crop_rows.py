"""Plans of crops executed: torchvision's own calls, and the compiled path equal to Pillow's to the byte."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from torchvision.transforms import functional as F

from mixops.augment.crop_plan import concatenate_crops, draw_crops
from mixops.augment.crops import CenterCrop, PaddedRandomCrop, RandomResizedCrop, ResizeRandomCrop, Squash
from mixops.augment.flips import Flip
from mixops.key import Key
from pipelines import pillow
from pipelines.crop_rows import already_cut, crop_rows

FLIP = Flip(0.5, 0.5)
SIZES = np.array([(61, 47), (33, 90), (40, 40), (128, 97), (35, 36), (300, 211)])
LAWS = [
    *(RandomResizedCrop(interpolation=name) for name in ("nearest", "bilinear", "bicubic", "lanczos", "random")),
    PaddedRandomCrop(4), PaddedRandomCrop(3, "edge"), PaddedRandomCrop(5, "reflect"), PaddedRandomCrop(0),
    ResizeRandomCrop(), ResizeRandomCrop(40, 6, "constant", "bilinear"), ResizeRandomCrop(64, 0, interpolation="random"),
    CenterCrop(), CenterCrop(48, "bicubic"), Squash(), Squash(interpolation="lanczos"),
]  # fmt: skip


def pictures() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, 256, (*size, 3), np.uint8) for size in SIZES]


def drawn(law, step=0, size=(32, 28), flip=FLIP):
    return draw_crops(Key(3, 0, step), np.arange(len(SIZES)), SIZES, law, flip, size)


@pytest.mark.parametrize("law", LAWS, ids=repr)
def test_the_compiled_path_gives_pillows_bytes(law):
    images = pictures()
    for step in range(6):
        crops = drawn(law, step)
        expected = [pillow.crop(Image.fromarray(image), crops, row) for row, image in enumerate(images)]
        np.testing.assert_array_equal(crop_rows(images, crops), np.stack(expected))


@pytest.mark.parametrize("law", [law for law in LAWS if not law.spill], ids=repr)
def test_windows_that_are_cut_out_already(law):
    images, crops = pictures(), drawn(law)
    top, left, height, width = crops.windows.astype(int).T
    cut = [x[t : t + h, k : k + w] for x, t, k, h, w in zip(images, top, left, height, width, strict=True)]
    np.testing.assert_array_equal(crop_rows(cut, already_cut(crops)), crop_rows(images, crops))


@pytest.mark.parametrize(("padding", "mode"), [(4, "constant"), (4, "reflect"), (3, "edge")])
def test_padding_is_torchvisions(padding, mode):
    for step in range(8):
        crops = drawn(PaddedRandomCrop(padding, mode), step, flip=Flip(0.0))
        for row, image in enumerate(pictures()):
            first = (crops.windows[row, :2].astype(int) - crops.margins[row, :2] + padding).tolist()
            padded = F.pad(Image.fromarray(image), [padding], padding_mode=mode)
            np.testing.assert_array_equal(pillow.crop(Image.fromarray(image), crops, row), F.crop(padded, *first, 32, 28))


@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_validation_is_torchvisions_to_the_letter(interpolation):
    filter = F.InterpolationMode(interpolation)
    for size, resize in (((32, 28), 40), ((48, 48), 55), ((224, 224), 256)):
        crops = drawn(CenterCrop(resize, interpolation), size=size, flip=Flip(0.0))
        rows = crop_rows(pictures(), crops)
        for row, image in enumerate(pictures()):
            resized = F.resize(Image.fromarray(image), resize, interpolation=filter, antialias=True)
            np.testing.assert_array_equal(rows[row], F.center_crop(resized, list(size)))


def test_deit_3s_simple_crop_is_torchvisions_steps():
    law = ResizeRandomCrop()
    for step in range(6):
        crops = drawn(law, step, size=(48, 48), flip=Flip(0.0))
        for row, image in enumerate(pictures()):
            resized = F.resize(Image.fromarray(image), 48, interpolation=F.InterpolationMode.BICUBIC, antialias=True)
            scale = SIZES[row] / (resized.height, resized.width)
            first = np.rint(crops.windows[row, :2] / scale).astype(int) - crops.margins[row, :2] + 4
            padded = F.pad(resized, [4], padding_mode="reflect")
            expected = F.crop(padded, *first.tolist(), 48, 48)
            np.testing.assert_array_equal(crop_rows(pictures(), crops)[row], expected)


def test_joined_plans():
    images = pictures()
    for law in (RandomResizedCrop(interpolation="random"), PaddedRandomCrop(4)):
        plans = [drawn(law, step) for step in range(3)]
        joined = crop_rows(images * 3, concatenate_crops(plans))
        np.testing.assert_array_equal(joined, np.concatenate([crop_rows(images, plan) for plan in plans]))
