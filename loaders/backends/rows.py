"""What is common to backends that make a step row by row: all crops of an image, and of these the batches.

crops_of(plan, row, make)  ->  [crop, crop, ...] of one image, which was decoded once      in threads
put_together(plan, rows)   ->  Decoded: a batch for each size                             when all rows are there
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from pipelines.crop_rows import crop_rows
from pipelines.scaled_decode import decode_scale

from ..sources.base import Opened
from ..sources.label_maps import LabelMaps
from ..step import Shown, StepPlan, StepPlanner
from .base import Decoded

Pixels: TypeAlias = UInt8[np.ndarray, "h w 3"]


def crops_of(plan: StepPlan, row: int, make: Callable[[Shown, int], Pixels]) -> list[Pixels]:
    """What ``make(shown, i)`` makes of an image for each row ``i`` of the plan's batches that shows it."""
    images = len(plan.ids)
    return [make(shown, i) for shown in plan.shown for i in range(row, len(shown.crops.flips), images)]


def scale_of(planner: StepPlanner, plan: StepPlan, row: int) -> int:
    """How many times smaller an image may be decoded for all that is shown of it; 1 but with ``decode="fast"``."""
    if not planner.fast:
        return 1
    return min(
        decode_scale(shown.crops, i)
        for shown in plan.shown if shown.of == "image"
        for i in range(row, len(shown.crops.flips), len(plan.ids))
    )  # fmt: skip


def map_of(source: Opened, sample: int) -> Pixels | None:
    """The label map of a sample, where it has one. Raises ``BadFile``."""
    return source.read_map(sample) if isinstance(source, LabelMaps) else None


def crop_batch(images: Sequence[Pixels], maps: Sequence[Pixels | None], shown: Shown, *, augmented: bool) -> Tensor:
    """A batch of decoded images or of their label maps, cropped in threads."""
    seen: list[Any] = list(images if shown.of == "image" else maps)
    copies = len(shown.crops.flips) // len(seen)
    return torch.from_numpy(crop_rows(seen * copies, shown.crops, shown.augment if augmented else None))


def put_together(plan: StepPlan, rows: Sequence[list[Pixels]], *, augmented: bool) -> Decoded:
    """The batches of a step whose rows ``crops_of`` has made, ``augmented`` or not yet."""
    batches, at = [], 0
    for shown in plan.shown:
        end = at + len(shown.crops.flips) // len(plan.ids)
        batches.append(torch.from_numpy(np.stack([row[crop] for crop in range(at, end) for row in rows])))
        at = end
    return with_augmentation(plan, batches, augmented=augmented)


def with_augmentation(plan: StepPlan, batches: Sequence[Tensor], *, augmented: bool) -> Decoded:
    """The batches of a step with what is left to be done to them: nothing where they are ``augmented``."""
    left = [None if augmented else shown.augment for shown in plan.shown]
    return Decoded(batches[0], plan, left[0], tuple(zip(batches[1:], left[1:], strict=True)))
