"""Erased boxes: torchvision's and timm's laws of boxes, what fills them, and Cutout."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy import stats
from torchvision import transforms as T

from mixops import Key
from mixops.augment import Augmentation, Cutout, RandomErasing, augment_images


@pytest.mark.parametrize("size", [(224, 224), (60, 200)])
def test_boxes_are_torchvisions(size):
    n, options = 4000, {"scale": (0.02, 0.33), "ratio": (0.3, 3.3)}
    plan = Augmentation([RandomErasing(1.0, **options)]).draw(Key(3), np.arange(n), size)
    image = torch.empty(3, *size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        found = np.array([T.RandomErasing.get_params(image, *options.values(), [0.0])[:4] for _ in range(n)])
    assert (plan.box[:, 0, 2] > 0).mean() > 0.99
    for column in range(4):
        assert stats.ks_2samp(plan.box[:, 0, column], found[:, column]).pvalue > 1e-4, column
    assert stats.ks_2samp(*(x[:, 2] * x[:, 3] for x in (plan.box[:, 0], found))).pvalue > 1e-4
    assert (plan.colour == np.rint(255 * np.array(plan.mean)).astype(np.uint8)).all()
    some = Augmentation([RandomErasing(0.2)]).draw(Key(3), np.arange(20_000), size).box[:, 0, 2] > 0
    assert abs(some.mean() - 0.2) < 5 * 0.4 / 20_000**0.5


@pytest.mark.parametrize("count", [1, 3])
def test_boxes_are_timms(count):
    """Number and sizes of boxes as timm's RandomErasing leaves them, where they can be told apart."""
    theirs = pytest.importorskip("timm.data.random_erasing", reason="timm is not installed")
    n, size = 1500, (64, 80)
    its = theirs.RandomErasing(0.4, mode="const", max_count=count, device="cpu")
    random.seed(0)
    erased = np.zeros(n)
    for i in range(n):
        image = torch.ones(3, *size)
        its._erase(image, 3, *size, torch.float32)
        erased[i] = float((image[0] == 0).float().mean())
    ours = RandomErasing(0.4, (0.02, 1 / 3), (0.3, 1 / 0.3), count=count)
    plan = Augmentation([ours]).draw(Key(4), np.arange(n), size)
    found = np.zeros(n)
    for i, boxes in enumerate(plan.box.tolist()):
        mask = np.zeros(size, bool)
        for top, left, height, width in boxes:
            mask[top : top + height, left : left + width] = True
        found[i] = mask.mean()
    assert abs((found > 0).mean() - 0.4) < 5 * 0.5 / n**0.5
    assert stats.ks_2samp(erased, found).pvalue > 1e-4
    assert {1, count} <= set((plan.box[plan.box[:, :, 2].any(1)][:, :, 2] > 0).sum(1).tolist())


@pytest.mark.parametrize("value", ["random", "pixel"])
def test_erased_pixels_are_normal_around_the_mean(value):
    size, mean, std = (40, 50), (0.5, 0.4, 0.6), (0.1, 0.12, 0.08)
    augment = Augmentation([RandomErasing(1.0, (0.2, 0.3), value=value)])
    plan = augment.draw(Key(4), np.arange(300), size, mean, std)
    out = augment_images(np.zeros((300, *size, 3), np.uint8), plan)
    per_image = []
    for image, boxes in zip(out, plan.box, strict=True):
        top, left, height, width = boxes[0]
        per_image.append(((image[top : top + height, left : left + width] / 255 - mean) / std).reshape(-1, 3))
    if value == "random":
        assert all((x == x[0]).all() for x in per_image)
        per_image = [x[:1] for x in per_image]
    z = np.concatenate(per_image)
    assert np.abs(z.mean(0)).max() < 0.2 and np.abs(z.std(0) - 1).max() < 0.1
    if value == "pixel":
        assert np.abs(np.corrcoef(z.T) - np.eye(3)).max() < 0.02
        assert not np.array_equal(per_image[0][:100], per_image[1][:100])


def test_a_constant_is_in_units_of_the_normalised_image():
    """What torchvision leaves of a normalised image, to half a level; cut off at black and white."""
    size, mean, std = (16, 20), (0.5, 0.4, 0.6), (0.1, 0.12, 0.08)
    for value in (0.0, 1.5, (-1.0, 0.5, 2.0), 50.0, -50.0):
        augment = Augmentation([RandomErasing(1.0, (0.3, 0.3), (1.0, 1.0), value=value)])
        plan = augment.draw(Key(1), np.arange(1), size, mean, std)
        out = augment_images(np.full((1, *size, 3), 200, np.uint8), plan)[0]
        top, left, height, width = plan.box[0, 0]
        inside = out[top : top + height, left : left + width] / 255
        expected = np.clip(np.array(mean) + np.array(std) * np.broadcast_to(value, 3), 0, 1)
        assert np.abs(inside - expected).max() <= 0.5 / 255 + 1e-9
        assert (out == 200).all(-1).sum() >= size[0] * size[1] - height * width


@pytest.mark.parametrize(
    ("length", "holes", "size"), [(16, 1, (32, 32)), (5, 3, (20, 31)), (40, 2, (17, 60)), (1, 1, (8, 8))]
)
def test_cutout_is_the_authors(length, holes, size):
    """Squares around uniform pixels, [c - length // 2, c + length // 2) cut off at the border, one on another."""
    n = 20_000
    plan = Augmentation([Cutout(length, holes)]).draw(Key(2), np.arange(n), size)
    assert plan.box.shape == (n, holes, 4) and plan.chains is None and plan.op.shape == (n, 0)
    half = length // 2
    for axis, side in enumerate(size):
        centres = np.arange(side)
        low, high = np.clip(centres - half, 0, side), np.clip(centres + half, 0, side)
        expected = np.zeros((side + 1, side + 1))
        np.add.at(expected, (low, high - low), n * holes / side)
        found = np.zeros_like(expected)
        np.add.at(found, (plan.box[..., axis].ravel(), plan.box[..., axis + 2].ravel()), 1)
        assert (found[expected == 0] == 0).all()
        if (expected > 0).sum() > 1:
            assert stats.chisquare(found[expected > 0], expected[expected > 0]).pvalue > 1e-4
    assert (plan.colour == np.rint(255 * np.array(plan.mean)).astype(np.uint8)).all() and not plan.noisy.any()
