"""The draw of a step: samples, windows and flips, as a pure function of (seed, epoch, step), the data set and its bad files.

Where a sample is bad its row gets another one, drawn from (seed, epoch, step, row, attempt) until it is a good one. A file
is bad or not whoever looks at it, so every rank, backend and resumed run arrives at the same draw, and the list of bad files
need not be saved.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mixops.augment.crops import CropLaw
from mixops.key import Key, Stream

from .schedule import Schedule

_ATTEMPTS = 1000


@dataclass(frozen=True, eq=False)
class Draw:
    """What a backend shows in one step: for each of b rows a sample, a window of it, and whether it is flipped.

    ``rows`` are the positions in the global batch. ``windows`` are (top, left, height, width) in pixels of the stored image,
    whole numbers in training. ``rejected`` are the bad samples that were to be shown or to replace one.
    """

    rows: Int64[np.ndarray, " b"]
    ids: Int64[np.ndarray, " b"]
    windows: Float64[np.ndarray, "b 4"]
    flips: Bool[np.ndarray, " b"]
    rejected: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Recipe:
    """Draws any step. ``sizes`` are (height, width) of the stored images, 0 where unknown."""

    schedule: Schedule
    crop: CropLaw
    sizes: Int64[np.ndarray, "n 2"]

    def draw(self, epoch: int, step: int, bad: Container[int] = ()) -> Draw:
        """The draw of a step that shows no sample of ``bad``.

        Raises ``RuntimeError`` if a row finds no good sample in a thousand attempts.
        """
        schedule = self.schedule
        rows, ids = schedule.rows(step), schedule.ids(epoch, step).copy()
        rejected = []
        for i, sample in enumerate(ids.tolist()):
            attempt = 0
            while sample in bad:
                rejected.append(sample)
                sample = replacement(Key(schedule.seed, epoch, step, int(rows[i])), attempt, schedule.length)
                attempt += 1
                if attempt > _ATTEMPTS:
                    raise RuntimeError(f"found no good sample for row {rows[i]} of step {step} in {_ATTEMPTS} attempts")
            ids[i] = sample
        sizes = np.maximum(self.sizes[ids], 1)
        windows, flips = self.crop.draw(Key(schedule.seed, epoch, step), rows, sizes)
        return Draw(rows, ids, windows, flips, tuple(dict.fromkeys(rejected)))


def replacement(row: Key, attempt: int, length: int) -> int:
    """The sample in the place of a bad one at an attempt; ``row`` is Key(seed, epoch, step, row of the global batch)."""
    return int(row.uniform(Stream.REPLACEMENT, (1,), start=attempt)[0] * length)
