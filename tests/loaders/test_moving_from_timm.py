"""What timm's training script asks of its loader: mixing switched off, evaluation preprocessed as timm does it."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from support.images import make_folder, make_jpeg_folder

from loaders import ImageLoader
from mixops import CenterCrop, CutMix, MixUp, Squash, Switch

BACKENDS = ("dali", "torchvision")


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    return make_jpeg_folder(tmp_path_factory.mktemp("timm") / "images", 24, classes=3)


def loader(root, backend="torchvision", **options):
    defaults = {"batch_size": 8, "size": 32, "device": "cpu", "num_threads": 2, "mean": None, "std": None}
    return ImageLoader(root, backend=backend, **defaults | options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_mixup_enabled(root, backend):
    """--mixup-off-epoch: from then on images as without a mixer, targets still smoothed weights; on again as before."""
    with loader(root, backend, mixer=CutMix(), smoothing=0.1) as mixing, loader(root, backend) as plain:
        assert mixing.mixup_enabled
        mixed = list(mixing)
        mixing.mixup_enabled = False
        off = list(mixing)
        plain.set_epoch(1)
        for (images, targets), (expected, labels) in zip(off, list(plain), strict=True):
            assert torch.equal(images, expected)
            one_hot = torch.nn.functional.one_hot(labels, 3) * 0.9 + 0.1 / 3
            torch.testing.assert_close(targets, one_hot.float())
        assert (mixing.plan(1, 0).weight == 1).all()
        mixing.mixup_enabled = True
        mixing.set_epoch(0)
        for (images, targets), (expected, weights) in zip(list(mixing), mixed, strict=True):
            assert torch.equal(images, expected) and torch.equal(targets, weights)


def test_switching_off_leaves_the_state_alone(root):
    """A run that goes on behind the epoch sets the switch again and gets the identical next batch."""
    with loader(root, mixer=Switch([MixUp(), CutMix()])) as one, loader(root, mixer=Switch([MixUp(), CutMix()])) as two:
        one.mixup_enabled = two.mixup_enabled = False
        one.set_epoch(3)
        batches = iter(one)
        next(batches)
        two.load_state_dict(one.state_dict())
        (images, targets), (others, weights) = next(batches), next(iter(two))
        assert torch.equal(images, others) and torch.equal(targets, weights)


def test_a_mixers_own_classes_and_smoothing(root):
    with loader(root, mixer=MixUp(num_classes=3, smoothing=0.3)) as one:
        _, targets = next(iter(one))
        assert targets.min().item() == pytest.approx(0.1)
    with loader(root, mixer=MixUp(smoothing=0.3), smoothing=0.0) as one:
        assert next(iter(one))[1].min().item() == 0
    with pytest.raises(ValueError, match="mixer must have the 3 classes of the images or leave num_classes out"):
        loader(root, mixer=MixUp(num_classes=1000))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    ("crop_pct", "interpolation", "mode"),
    [(0.875, "bilinear", "center"), (0.9, "bicubic", "center"), (0.95, "bicubic", "center"), (1.0, "bicubic", "squash")],
)
def test_evaluation_shows_timms_pixels(tmp_path, backend, crop_pct, interpolation, mode):
    data = pytest.importorskip("timm.data")
    make = make_folder if backend == "torchvision" else make_jpeg_folder
    root, size = make(tmp_path / "images", 17), 48
    transform = data.create_transform(
        size, is_training=False, crop_pct=crop_pct, interpolation=interpolation, crop_mode=mode, mean=(0,) * 3, std=(1,) * 3
    )
    crop = Squash(interpolation=interpolation)
    if mode == "center":
        crop = CenterCrop(math.floor(size / crop_pct), interpolation)
    with loader(root, backend, split="val", size=size, crop=crop, dtype=torch.uint8) as one:
        images = torch.cat([batch[0] for batch in one]).float()
        files = [path for path in sorted(root.rglob("*")) if path.is_file()]
        expected = torch.stack([transform(Image.open(path).convert("RGB")) for path in files]) * 255
    difference = (images - expected).abs().flatten(1).mean(1)
    assert difference.max() < 0.1, np.round(difference.numpy(), 2)
