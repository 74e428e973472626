"""The torchvision backend: the CPU reference, exactly what a torchvision user's Dataset and transforms compute.

Pillow decodes, ``resized_crop(antialias=True)`` cuts the drawn window out and resizes it, validation is ``Resize`` and
``CenterCrop`` to the letter. Threads of this process do it (Pillow releases the GIL); there are no worker processes.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from mixops.augment.crops import CenterCrop

from ..read_ahead import read_steps
from ..sources.folder import read_index
from ..sources.headers import check_bytes
from ..sources.pillow_decode import decode
from .base import Job, RawBatch


class Torchvision:
    """Decodes and crops with Pillow and torchvision on the CPU."""

    eager = True
    read_index = staticmethod(read_index)

    def __init__(self, job: Job) -> None:
        self._job = job
        self._crop = _crop(job)

    def open(self, epoch: int, step: int) -> Generator[RawBatch, None, None]:
        """The steps of an epoch from ``step`` on."""
        import torch

        for loaded in read_steps(self._job, epoch, step, self._load, self._job.prefetch):
            images = torch.from_numpy(np.stack(loaded.items))
            yield RawBatch(images, loaded.draw.ids, loaded.draw.rejected)

    def close(self) -> None:
        """Nothing outlives an epoch."""

    def _load(self, sample: int, window: Float64[np.ndarray, " 4"], flip: bool) -> UInt8[np.ndarray, "h w 3"]:
        job = self._job
        data = job.index.read(sample)
        check_bytes(data, tuple(job.index.sizes[sample].tolist()))
        image = self._crop(decode(data), window)
        pixels = np.asarray(image)
        return pixels[:, ::-1] if flip else pixels


def _crop(job: Job) -> Callable[[Any, Float64[np.ndarray, " 4"]], Any]:
    from torchvision.transforms import functional as F

    law, size = job.recipe.crop, [job.height, job.width]
    if isinstance(law, CenterCrop):
        resize = law.resize
        return lambda image, _: F.center_crop(F.resize(image, resize, antialias=True), size)
    return lambda image, window: F.resized_crop(image, *(int(x) for x in window), size, antialias=True)
