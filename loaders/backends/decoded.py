"""What the backends that crop on the CPU do with pixels that need no decoder: the crop, a whole batch at a time.

Samples of ``Arrays`` are not read one by one: none of them can be bad.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np

from pipelines.crop_arrays import crop_array, crop_tensor

from ..read_ahead import read_steps
from ..sources.arrays import Arrays
from ..sources.plain import read_pixels
from ..step import StepPlan
from .base import BackendConfig, Decoded
from .rows import Pixels, crop_batch, map_of, with_augmentation


def cropped_steps(config: BackendConfig, epoch: int, step: int) -> Generator[Decoded, None, None]:
    """The steps of an epoch from ``step`` on, of a source that gives pixels."""
    if isinstance(config.source, Arrays):
        yield from _array_steps(config, config.source, epoch, step)
        return

    def load(plan: StepPlan, row: int) -> tuple[Pixels, Pixels | None]:
        sample = int(plan.ids[row])
        return read_pixels(config.source, sample), map_of(config.source, sample)

    for loaded in read_steps(config, epoch, step, load):
        images, maps = zip(*loaded.items, strict=True)
        batches = [crop_batch(images, maps, shown, augmented=True) for shown in loaded.plan.shown]
        yield with_augmentation(loaded.plan, batches, augmented=True)


def _array_steps(config: BackendConfig, source: Arrays, epoch: int, step: int) -> Generator[Decoded, None, None]:
    import torch

    images = source.images
    for coming in range(step, len(config.planner.schedule_of(epoch))):
        plan = config.planner.draw(epoch, coming)
        batches = []
        for one in plan.shown:
            ids = np.tile(plan.ids, len(one.crops.flips) // len(plan.ids))
            if isinstance(images, torch.Tensor):
                batches.append(crop_tensor(images, ids, one.crops))
            else:
                batches.append(torch.from_numpy(crop_array(images, ids, one.crops, one.augment)))
        yield with_augmentation(plan, batches, augmented=not isinstance(images, torch.Tensor))
