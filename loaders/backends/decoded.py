"""What the backends that crop on the CPU do with pixels that need no decoder: the crop, a whole batch at a time."""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import UInt8

from pipelines.crop_rows import crop_rows

from ..read_ahead import read_steps
from ..sources.plain import read_pixels
from ..step import StepPlan
from .base import BackendConfig, Decoded


def cropped_steps(config: BackendConfig, epoch: int, step: int) -> Generator[Decoded, None, None]:
    """The steps of an epoch from ``step`` on, of a source that gives pixels."""
    import torch

    def load(plan: StepPlan, row: int) -> UInt8[np.ndarray, "h w 3"]:
        return read_pixels(config.source, int(plan.ids[row]))

    for loaded in read_steps(config, epoch, step, load):
        plan = loaded.plan
        yield Decoded(torch.from_numpy(crop_rows(loaded.items, plan.crops, plan.augment)), plan)
