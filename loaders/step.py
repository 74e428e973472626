"""The plan of a step: samples, crops and flips, who is mixed with whom, as a pure function of (seed, epoch, step, rank).

    schedule  ->  ids  ->  windows, flips  ->  mix     =  StepPlan, which a backend executes and which draws nothing itself

Where a sample is bad its row gets another one, drawn from (seed, epoch, step, row, attempt) until it is a good one. A file
is bad or not whoever looks at it, so every rank, backend and resumed run arrives at the same plan, and the list of bad files
need not be saved.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mixops.augment.crops import CropLaw, CropPlan, draw_crops
from mixops.key import Key, Stream
from mixops.mixers.base import Mixer
from mixops.pairing.blocks import shorten
from mixops.plan import MixPlan, concatenate

from .schedule import Schedule

_ATTEMPTS = 1000


@dataclass(frozen=True, eq=False)
class StepPlan:
    """What a rank shows in one step: for each of b rows a sample, a window of it, whether it is flipped, and the mix.

    ``rows`` are the positions in the global batch. ``mix`` is None without a mixer, and for one that has to see the images
    (``StepPlanner.mix`` draws it then). ``rejected`` are the bad samples that were to be shown or to replace one.
    """

    epoch: int
    step: int
    rows: Int64[np.ndarray, " b"]
    ids: Int64[np.ndarray, " b"]
    crops: CropPlan
    mix: MixPlan | None
    rejected: tuple[int, ...]

    @property
    def windows(self) -> Float64[np.ndarray, "b 4"]:
        """(top, left, height, width) in pixels of the stored images, whole numbers in training."""
        return self.crops.windows

    @property
    def flips(self) -> Bool[np.ndarray, " b"]:
        """Which rows are mirrored left to right."""
        return self.crops.flips


@dataclass(frozen=True, eq=False)
class StepPlanner:
    """Draws any step. ``sizes`` are (height, width) of the stored images, 0 where unknown; ``size`` is the output's."""

    schedule: Schedule
    sizes: Int64[np.ndarray, "n 2"]
    size: tuple[int, int]
    crop: CropLaw
    flip: float = 0.0
    mixer: Mixer | None = None

    def draw(self, epoch: int, step: int, bad: Container[int] = ()) -> StepPlan:
        """The plan of a step that shows no sample of ``bad``.

        Raises ``RuntimeError`` if a row finds no good sample in a thousand attempts.
        """
        ids, rejected = self._samples(epoch, step, bad)
        mix = None if self.looks_at_images else self.mix(epoch, step)
        return StepPlan(epoch, step, self.schedule.rows(step), ids, self._crops(epoch, step, ids), mix, rejected)

    def redraw(self, plan: StepPlan, bad: Container[int]) -> StepPlan:
        """``plan`` as it is drawn now that more samples are known to be bad."""
        ids, rejected = self._samples(plan.epoch, plan.step, bad)
        if np.array_equal(ids, plan.ids):
            return replace(plan, rejected=rejected)
        return replace(plan, ids=ids, crops=self._crops(plan.epoch, plan.step, ids), rejected=rejected)

    @property
    def looks_at_images(self) -> bool:
        """Whether the mix can be drawn only when the images are there."""
        return self.mixer is not None and self.mixer.matching is not None

    def mix(self, epoch: int, step: int, images: Any = None) -> MixPlan | None:
        """The mixing of a step on this rank: each group of rows by a key of its own, whatever rank has it.

        A matching needs the step's ``images`` (b, 3, h, w) as decoded.
        """
        if self.mixer is None:
            return None
        plans, at = [], 0
        height, width = self.size
        for group in self.schedule.groups(step):
            key = Key(self.schedule.seed, epoch, step, group.index)
            seen = None if images is None else images[at : at + group.size]
            mixer = shorten(self.mixer, group.size)
            plans.append(mixer.plan(key, batch_size=group.size, height=height, width=width, images=seen))
            at += group.size
        return concatenate(plans)

    def _samples(self, epoch: int, step: int, bad: Container[int]) -> tuple[Int64[np.ndarray, " b"], tuple[int, ...]]:
        """The samples of a step, and the bad ones that they stand for."""
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
        return ids, tuple(dict.fromkeys(rejected))

    def _crops(self, epoch: int, step: int, ids: Int64[np.ndarray, " b"]) -> CropPlan:
        sizes = np.maximum(self.sizes[ids], 1)
        key, rows = Key(self.schedule.seed, epoch, step), self.schedule.rows(step)
        return draw_crops(key, rows, sizes, self.crop, self.flip, self.size)


def replacement(row: Key, attempt: int, length: int) -> int:
    """The sample in the place of a bad one at an attempt; ``row`` is Key(seed, epoch, step, row of the global batch)."""
    return int(row.uniform(Stream.REPLACEMENT, (1,), start=attempt)[0] * length)
