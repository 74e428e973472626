"""What becomes of a decoded batch: the images and labels of its samples, mixed by the plan of its step."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from support import reference

from loaders.backends.base import Decoded
from loaders.output import Output
from loaders.schedule import Schedule
from loaders.step import StepPlanner
from mixops import CutMix, MixUp, OptimalMatching
from mixops.augment.crops import RandomResizedCrop
from mixops.augment.flips import Flip

N, ROWS, SIZE, CLASSES = 40, 8, (9, 7), 5
LABELS = torch.arange(N) * 3 % CLASSES
MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)


def finish(mixer, epoch=1, step=2, **form):
    planner = StepPlanner(Schedule(N, ROWS, 5), np.full((N, 2), 50), SIZE, RandomResizedCrop(), Flip(0.5), mixer)
    images = np.random.default_rng(0).integers(0, 256, (ROWS, *SIZE, 3), np.uint8)
    options = {"mean": MEAN, "std": STD, "dtype": torch.float32, "memory_format": torch.contiguous_format, "smoothing": 0.0}
    output = Output(LABELS, CLASSES, torch.device("cpu"), **options | form)
    decoded = Decoded(torch.from_numpy(images), planner.draw(epoch, step))
    planes = images.transpose(0, 3, 1, 2)
    return planes, decoded.plan, planner, output.shown(output.finish(decoded, planner, eager=False))


def test_labels_are_those_of_the_samples():
    planes, step, _, (images, labels) = finish(None, mean=None, std=None, dtype=torch.uint8)
    np.testing.assert_array_equal(images, planes)
    assert labels.dtype == torch.int64 and labels.tolist() == LABELS[step.ids].tolist()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("mixer", [CutMix(interpolations=2), MixUp(matching=OptimalMatching(k=2))], ids=repr)
def test_images_and_targets_are_mixed_by_one_plan(mixer, smoothing):
    planes, step, planner, (images, targets) = finish(mixer, smoothing=smoothing)
    plan = planner.mix(1, 2, torch.from_numpy(planes))
    np.testing.assert_allclose(images, reference.mix_images(planes, plan, MEAN, STD), atol=2e-5)
    expected = reference.mix_targets(LABELS[step.ids].numpy(), plan, CLASSES, smoothing)
    np.testing.assert_allclose(targets, expected, atol=1e-6)


def test_the_form_is_that_asked_for():
    _, _, _, (images, _) = finish(CutMix(), dtype=torch.bfloat16, memory_format=torch.channels_last)
    assert images.dtype == torch.bfloat16 and images.is_contiguous(memory_format=torch.channels_last)
