"""``dali.augment``: a plan by DALI's own operators, and how far their grey levels are from Pillow's."""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
from support.augmentations import VARIANTS, magnitudes, plan_of
from support.images import picture

pytest.importorskip("nvidia.dali", reason="DALI is not installed")
from nvidia.dali import fn, pipeline_def

from mixops import (
    AugMix,
    AutoAugment,
    ColorJitter,
    RandAugment,
    RandomErasing,
    ThreeAugment,
    TrivialAugmentWide,
    augment_images,
)
from mixops.augment.operations import WARPS, Filter, Op
from mixops.augment.plan import AugmentPlan
from pipelines import dali

H, W = 96, 112
EXACT, ROUNDED = (0, 0.0), (1, 0.02)
# the most levels that an operation is away from Pillow, and the mean of the worst image
APART: dict[tuple[Op, Filter] | Op, tuple[int, float]] = {
    **dict.fromkeys((Op.POSTERIZE, Op.SOLARIZE, Op.INVERT, Op.SOLARIZE_ADD), EXACT),
    **dict.fromkeys([(op, Filter.NEAREST) for op in (Op.TRANSLATE_X, Op.TRANSLATE_Y)], (255, 0.2)),  # halves of a pixel
    **dict.fromkeys([(op, Filter.NEAREST) for op in (Op.SHEAR_X, Op.SHEAR_Y)], (255, 3.0)),  # 16 bits of a fraction there
    **dict.fromkeys([(op, Filter.BILINEAR) for op in (Op.SHEAR_X, Op.SHEAR_Y)], (255, 0.4)),  # pixels on the very edge
    (Op.ROTATE, Filter.NEAREST): (255, 0.1),
    **dict.fromkeys([(op, Filter.BILINEAR) for op in (Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE)], (2, 0.1)),
    **dict.fromkeys([(op, Filter.BICUBIC) for op in WARPS], (255, 3.0)),  # DALI warps with two pixels a side
    **dict.fromkeys((Op.COLOR, Op.GRAYSCALE), (4, 0.05)),
    Op.EQUALIZE: (4, 1.0),
    Op.BLUR: (45, 3.0),
    Op.HUE: (200, 45.0),
}
PICTURES = np.stack([np.asarray(picture(i, W, H)) for i in range(6)])


def source(augment: Any, batch_size: int, **options: Any) -> dali.AugmentSource:
    return dali.augment_source(
        augment, **{"batch_size": batch_size, "height": H, "width": W, "steps_per_epoch": 3} | options
    )


def pipeline(plans: dali.AugmentSource, images: np.ndarray, **options: Any) -> Any:
    gpu = options.get("device_id") is not None

    @pipeline_def(batch_size=len(images), num_threads=2, **{"device_id": None, "enable_conditionals": True} | options)
    def graph() -> Any:
        x = fn.external_source(lambda: list(images), batch=True, layout="HWC")
        return dali.augment(x.gpu(), plans).cpu() if gpu else dali.augment(x, plans)

    return graph()


def batches(plans: dali.AugmentSource, images: np.ndarray, count: int = 1, **options: Any) -> list[np.ndarray]:
    pipe = pipeline(plans, images, **options)
    pipe.build()
    return [np.stack([np.asarray(out.at(i)) for i in range(len(images))]) for (out,) in (pipe.run() for _ in range(count))]


def fixed(plan: AugmentPlan, images: np.ndarray) -> np.ndarray:
    """One batch by a plan of our own."""
    with mock.patch.object(dali.AugmentSource, "plan", lambda self, epoch, step: plan):
        return batches(source(RandAugment(1), len(images)), images)[0]


def by_night(op: Op, filter: Filter) -> Any:
    """DALI is told of a filter in one place: one of them is enough for every change."""
    return pytest.param(op, filter, marks=pytest.mark.nightly if op in WARPS and filter != Filter.BILINEAR else ())


@pytest.mark.parametrize(
    ("op", "filter"), [by_night(*v) for v in VARIANTS if v[0] not in (Op.AUGMIX, Op.KEEP)], ids=lambda x: x.name
)
def test_operations_are_this_far_from_pillows(op: Op, filter: Filter) -> None:
    args = magnitudes(op)[::5]
    images = np.stack([PICTURES[i % 6] for i in range(len(args))])
    plan = plan_of(op, args, H, W, filter, (9, 99, 199) if op in WARPS else (0, 0, 0))
    difference = np.abs(fixed(plan, images).astype(int) - augment_images(images, plan))
    most, mean = APART.get((op, filter), APART.get(op, ROUNDED))
    assert difference.max() <= most and difference.mean((1, 2, 3)).max() <= mean


POLICIES = [
    [TrivialAugmentWide(), RandomErasing(0.5, value="pixel", count=2)], RandAugment(2, 9), AutoAugment("cifar10"),
    [ThreeAugment(), RandomErasing(1.0)],
]  # fmt: skip


@pytest.mark.parametrize("augment", POLICIES, ids=str)
def test_each_batch_has_the_plan_of_its_step(augment: Any) -> None:
    """Over the end of an epoch; what no operation changes is exact, boxes and noise above all."""
    plans = source(augment, 12, seed=3, rank=1)
    images = np.concatenate([PICTURES, PICTURES])
    for i, found in enumerate(batches(plans, images, 5)):
        plan = plans.plan(i // 3, i % 3)
        expected = augment_images(images, plan)
        difference = np.abs(found.astype(int) - expected)
        same = (plan.op == Op.KEEP).all(1) if plan.op.shape[1] else np.ones(12, bool)
        assert (difference[same] == 0).all()
        for row, boxes in enumerate(plan.box.tolist()):
            for top, left, height, width in boxes:
                assert (difference[row, top : top + height, left : left + width] == 0).all()
        assert np.median(difference.mean((1, 2, 3))) < 1
        others = augment_images(images, plans.plan(i // 3, (i + 1) % 3))
        assert np.median(np.abs(others.astype(int) - found).mean((1, 2, 3))) > 3


@pytest.mark.gpu
@pytest.mark.parametrize("augment", POLICIES, ids=str)
def test_a_device_is_near_the_cpu(augment: Any) -> None:
    plans, images = source(augment, 12, seed=3), np.concatenate([PICTURES, PICTURES])
    here, there = (batches(plans, images, 3, **options) for options in ({}, {"device_id": 0}))
    for a, b in zip(here, there, strict=True):
        assert np.median(np.abs(a.astype(int) - b).mean((1, 2, 3))) < 0.5


def test_the_plan_is_that_of_a_loader(jpeg_folder: Any) -> None:
    from loaders import ImageLoader

    plans = source(TrivialAugmentWide(), 8, seed=5, rank=1, steps_per_epoch=6)
    with ImageLoader(jpeg_folder, batch_size=8, size=(H, W), seed=5, rank=1, world_size=2, augment=TrivialAugmentWide(),
                     device="cpu") as one:  # fmt: skip
        assert one.draw(2, 1).augment.to_json() == plans.plan(2, 1).to_json()


def test_it_is_built_for_a_gpu() -> None:
    """The graph is made, which no device is needed for; every operator has to be there for images on one."""

    @pipeline_def(batch_size=4, num_threads=1, device_id=0, enable_conditionals=True)
    def graph() -> Any:
        x = fn.external_source(lambda: list(PICTURES[:4]), batch=True, layout="HWC").gpu()
        return dali.augment(x, source([RandAugment(2), RandomErasing()], 4))

    assert graph() is not None


def test_what_cannot_be_said_in_dalis_operators_is_refused() -> None:
    with pytest.raises(ValueError, match="augment must not hold AugMix"):
        source([AugMix()], 4)
    with pytest.raises(TypeError, match="augment must be a policy"):
        source(None, 4)
    with pytest.raises(ValueError, match=r"steps_per_epoch must be in .*, got 0"):
        source(ColorJitter(0.4), 4, steps_per_epoch=0)
    with pytest.raises(TypeError, match="plans must be an augment_source, got 3"):
        pipeline(3, PICTURES)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="enable_conditionals=True"):
        pipeline(source(ColorJitter(0.4), 6), PICTURES, enable_conditionals=False)
    with pytest.raises(ValueError, match=r"plans must have the pipeline's batch_size = 6, got 4"):
        pipeline(source(ColorJitter(0.4), 4), PICTURES)
