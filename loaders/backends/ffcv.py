"""The FFCV backend: has images decoded by libffcv and resized with Pillow's arithmetic, those of .beton files above all.

It runs the file format and the decoder of FFCV but not its ``Loader``: rows are read by position, checked, decoded and
resized by threads of this process. FFCV's loader compiles its pipeline anew in every process, delivers memory that it
overwrites later, cannot start in the middle of an epoch, and maps the file, so that a file that shrinks ends the process.
``pipelines.ffcv`` is for people who keep FFCV's loader.
"""

from __future__ import annotations

from collections.abc import Generator

import numpy as np
from jaxtyping import UInt8

from pipelines.bad_file import BadFile
from pipelines.ffcv.decode import RecordDecoder

from ..read_ahead import read_steps
from ..sources.plain import read_pixels, read_plain
from ..step import StepPlan
from .base import BackendConfig, Decoded
from .decoded import cropped_steps


class Ffcv:
    """Decodes and crops on the CPU, and augments unless that is for the device."""

    eager = False

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._decode = RecordDecoder(config.source.sizes)

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        import torch

        if self._config.source.decoded:
            yield from cropped_steps(self._config, epoch, step)
            return
        for loaded in read_steps(self._config, epoch, step, self._load):
            left = loaded.plan.augment if self._config.augments_on_device else None
            yield Decoded(torch.from_numpy(np.stack(loaded.items)), loaded.plan, left)

    def close(self) -> None:
        """Nothing outlives an epoch."""

    def _load(self, plan: StepPlan, row: int) -> UInt8[np.ndarray, "h w 3"]:
        source, sample = self._config.source, int(plan.ids[row])
        size = tuple(source.sizes[sample].tolist())
        augment = None if self._config.augments_on_device else plan.augment
        image = read_plain(source, sample)
        try:
            return self._decode(image, size, plan.crops, augment, row)
        except BadFile:  # a file is bad or not whoever looks at it, so Pillow has the last word
            return self._decode(read_pixels(source, sample), size, plan.crops, augment, row)
