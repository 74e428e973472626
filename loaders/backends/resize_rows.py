"""Resizes decoded images on the CPU, the rows of a batch in threads.

DALI's own CPU resize takes more time than its decoder does; the kernel of ``pipelines/resize.py`` takes half of that,
and its pixels are Pillow's.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, UInt8

from mixops.runtime.buffers import empty
from mixops.runtime.threads import run_sliced


def resize_rows(
    images: Sequence[UInt8[np.ndarray, "h w 3"]],
    windows: Float64[np.ndarray, "b 4"],
    flips: Bool[np.ndarray, " b"],
    size: tuple[int, int],
    *,
    spill: bool,
) -> UInt8[np.ndarray, "b oh ow 3"]:
    """The windows (top, left, height, width) of ``images``, resized to ``size`` and flipped; ``spill`` as in the kernel."""
    from pipelines.resize import resized_crop, workspace

    out = empty((len(images), *size, 3), torch.uint8).numpy()

    def resize(start: int, stop: int) -> None:
        height, width = (max(image.shape[axis] for image in images[start:stop]) for axis in (0, 1))
        memory = workspace(height, width, size)
        for i in range(start, stop):
            resized_crop(images[i], windows[i], spill, bool(flips[i]), out[i], *memory)

    run_sliced(resize, len(images))
    return out
