"""The torchvision backend: the CPU reference, exactly what a torchvision user's Dataset and transforms compute.

Both are Pillow's work, so torchvision itself need not be installed. Threads of this process do it (Pillow releases the GIL);
there are no worker processes.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from mixops.kernels.augment.eager import augment_row
from pipelines import pillow

from ..array_limits import is_planes
from ..read_ahead import read_steps
from ..sources.plain import read_scaled
from ..step import Shown, StepPlan
from .base import BackendConfig, Decoded
from .decoded import cropped_steps
from .rows import Pixels, crops_of, map_of, put_together, scale_of


class Torchvision:
    """Decodes and crops with Pillow on the CPU."""

    eager = True
    scales = True

    def __init__(self, config: BackendConfig) -> None:
        self._config = config

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        if is_planes(self._config.source):  # no image of Pillow's
            yield from cropped_steps(self._config, epoch, step)
            return
        for loaded in read_steps(self._config, epoch, step, self._load):
            yield put_together(loaded.plan, loaded.items, augmented=True)

    def close(self) -> None:
        """Nothing outlives an epoch."""

    def _load(self, plan: StepPlan, row: int) -> list[Pixels]:
        source, sample = self._config.source, int(plan.ids[row])
        label_map = map_of(source, sample)
        image = read_scaled(source, sample, scale_of(self._config.planner, plan, row))
        seen = {"image": image, "map": (None if label_map is None else pillow.from_pixels(label_map), 1)}
        return crops_of(plan, row, partial(_show, seen))


def _show(seen: dict[str, Any], shown: Shown, row: int) -> Pixels:
    image, scale = seen[shown.of]
    pixels = pillow.crop(image, shown.crops, row, scale)
    return pixels if shown.augment is None else augment_row(pixels, shown.augment, row)
