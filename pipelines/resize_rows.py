"""Cuts, resizes and flips decoded images on the CPU, the rows of a batch in threads.

DALI's own CPU resize takes more time than its decoder does; the kernel of ``resize.py`` takes half of that, and its pixels
are Pillow's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import UInt8

from mixops.augment.crops import CropPlan
from mixops.runtime.buffers import empty
from mixops.runtime.threads import run_sliced


def resize_rows(images: Sequence[UInt8[np.ndarray, "h w 3"]], crops: CropPlan) -> UInt8[np.ndarray, "b oh ow 3"]:
    """The outputs that ``crops`` makes of decoded ``images``."""
    from .resize import resized_crop, workspace

    out = empty((len(images), *crops.size, 3), torch.uint8).numpy()

    def resize(start: int, stop: int) -> None:
        height, width = (max(image.shape[axis] for image in images[start:stop]) for axis in (0, 1))
        memory = workspace(height, width, crops.size)
        for i in range(start, stop):
            resized_crop(images[i], crops.windows[i], crops.spill, bool(crops.flips[i]), out[i], *memory)

    run_sliced(resize, len(images))
    return out


def already_cut(crops: CropPlan) -> CropPlan:
    """What is left of ``crops`` to do for images that are the windows themselves."""
    windows = np.concatenate([np.zeros_like(crops.windows[:, :2]), crops.windows[:, 2:]], 1)
    return replace(crops, windows=windows)
