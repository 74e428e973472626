"""The FFCV backend: has images decoded by libffcv and resized with Pillow's arithmetic, those of .beton files above all.

It runs the file format and the decoder of FFCV but not its ``Loader``: rows are read by position, checked, decoded and
resized by threads of this process. FFCV's loader compiles its pipeline anew in every process, delivers memory that it
overwrites later, cannot start in the middle of an epoch, and maps the file, so that a file that shrinks ends the process.
``pipelines.ffcv`` is for people who keep FFCV's loader.
"""

from __future__ import annotations

from collections.abc import Generator
from functools import partial
from typing import Any

from pipelines.bad_file import BadFile
from pipelines.crop_rows import crop_rows
from pipelines.ffcv.decode import RecordDecoder
from pipelines.scaled_decode import scaled_crops

from ..read_ahead import read_steps
from ..sources.plain import read_pixels, read_plain
from ..step import Shown, StepPlan
from .base import BackendConfig, Decoded
from .decoded import cropped_steps
from .rows import Pixels, crops_of, map_of, put_together, scale_of


class Ffcv:
    """Decodes and crops on the CPU, and augments unless that is for the device."""

    eager = False
    scales = True

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._decode = RecordDecoder(config.source.sizes)

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        if self._config.source.decoded:
            yield from cropped_steps(self._config, epoch, step)
            return
        for loaded in read_steps(self._config, epoch, step, self._load):
            yield put_together(loaded.plan, loaded.items, augmented=not self._config.augments_on_device)

    def close(self) -> None:
        """Nothing outlives an epoch."""

    def _load(self, plan: StepPlan, row: int) -> list[Pixels]:
        sample = int(plan.ids[row])
        image = self._pixels(sample, scale_of(self._config.planner, plan, row))
        seen = {"map": (map_of(self._config.source, sample), 1), "image": image}
        return crops_of(plan, row, partial(self._show, seen))

    def _pixels(self, sample: int, scale: int) -> tuple[Pixels, int]:
        """A decoded image, and how many times smaller than it is."""
        source = self._config.source
        image = read_plain(source, sample)
        if not isinstance(image, bytes):
            return image, 1
        height, width = source.sizes[sample].tolist()
        try:
            return self._decode(image, (height, width), scale), scale
        except BadFile:  # a file is bad or not whoever looks at it, so Pillow has the last word
            return read_pixels(source, sample), 1

    def _show(self, seen: dict[str, Any], shown: Shown, row: int) -> Pixels:
        augment = None if self._config.augments_on_device else shown.augment
        pixels, scale = seen[shown.of]
        output: Pixels = crop_rows([pixels], scaled_crops(shown.crops.row(row), scale), augment, row)[0]
        return output
