"""The torchvision backend: the CPU reference, exactly what a torchvision user's Dataset and transforms compute.

Both are Pillow's work, so torchvision itself need not be installed. Threads of this process do it (Pillow releases the GIL);
there are no worker processes.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import UInt8

from mixops.kernels.augment.eager import augment_row
from pipelines import pillow

from ..read_ahead import read_steps
from ..sources.plain import read_image
from ..step import StepPlan
from .base import BackendConfig, Decoded


class Torchvision:
    """Decodes and crops with Pillow on the CPU."""

    eager = True

    def __init__(self, config: BackendConfig) -> None:
        self._config = config

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        import torch

        for loaded in read_steps(self._config, epoch, step, self._load):
            yield Decoded(torch.from_numpy(np.stack(loaded.items)), loaded.plan)

    def close(self) -> None:
        """Nothing outlives an epoch."""

    def _load(self, plan: StepPlan, row: int) -> UInt8[np.ndarray, "h w 3"]:
        pixels = pillow.crop(read_image(self._config.source, int(plan.ids[row])), plan.crops, row)
        return pixels if plan.augment is None else augment_row(pixels, plan.augment, row)
