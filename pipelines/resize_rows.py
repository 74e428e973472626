"""Cuts, resizes and flips decoded images on the CPU, the rows of a batch in threads.

DALI's own CPU resize takes more time than its decoder does; that of ``resize.py`` takes a tenth of it, and its pixels are
Pillow's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import UInt8

from mixops.augment.crops import CropPlan


def resize_rows(images: Sequence[UInt8[np.ndarray, "h w 3"]], crops: CropPlan) -> UInt8[np.ndarray, "b oh ow 3"]:
    """The outputs that ``crops`` makes of decoded ``images``."""
    from . import resize

    return resize.resize_rows(images, crops.windows, crops.flips, crops.size, spill=crops.spill)


def already_cut(crops: CropPlan) -> CropPlan:
    """What is left of ``crops`` to do for images that are the windows themselves."""
    windows = np.concatenate([np.zeros_like(crops.windows[:, :2]), crops.windows[:, 2:]], 1)
    return replace(crops, windows=windows)
