"""The plan of a step: samples, crops, augmentation, who is mixed with whom, as a pure function of (seed, epoch, step, rank).

    schedule  ->  ids  ->  crops, flips  ->  augment  ->  mix  =  StepPlan, which a backend executes, drawing nothing

Where a sample is bad its row gets another one, drawn from (seed, epoch, step, row, attempt) until it is a good one. A file
is bad or not whoever looks at it, so every rank, backend and resumed run arrives at the same plan, and the list of bad files
need not be saved.
"""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD, Augmentation
from mixops.augment.crop_plan import CropLaw, CropPlan, concatenate_crops, draw_crops
from mixops.augment.flips import Flip
from mixops.augment.plan import AugmentPlan
from mixops.augment.policies.base import RGB
from mixops.key import Key, Stream
from mixops.mixers.base import Mixer
from mixops.mixers.mixup import MixUp
from mixops.plan import MixPlan, concatenate

from .multi_crop import NamedCrops
from .schedule import Schedule
from .segmentation import augment_of_maps, crops_of_maps
from .sizes import BatchSizes, Sizes

_ATTEMPTS = 1000
UNMIXED = MixUp(1.0, prob=0.0)  # in the place of a mixer that is switched off: targets stay weights


@dataclass(frozen=True, eq=False)
class Shown:
    """One batch of pixels of a step: what is cut out of its images, and what is done to it.

    Of b images there are a multiple of b rows: the first crop of every image, then the second, and so on. ``of`` says
    whether it is the images or their label maps that are shown.
    """

    crops: CropPlan
    augment: AugmentPlan | None
    of: Literal["image", "map"] = "image"


@dataclass(frozen=True, eq=False)
class StepPlan:
    """What a rank shows in one step: for each of b rows a sample, what is cut out and done to it, and the mix.

    ``rows`` are the positions in the global batch. ``mix`` is None without a mixer, and for one that has to see the images
    (``StepPlanner.mix`` draws it then). ``rejected`` are the bad samples that were to be shown or to replace one. ``more``
    are batches of the same images beside the first: crops of other names, label maps.
    """

    epoch: int
    step: int
    rows: Int64[np.ndarray, " b"]
    ids: Int64[np.ndarray, " b"]
    crops: CropPlan
    augment: AugmentPlan | None
    mix: MixPlan | None
    rejected: tuple[int, ...]
    more: tuple[Shown, ...] = ()

    @property
    def shown(self) -> tuple[Shown, ...]:
        """All batches of pixels."""
        return Shown(self.crops, self.augment), *self.more

    @property
    def windows(self) -> Float64[np.ndarray, "b 4"]:
        """(top, left, height, width) in pixels of the stored images, whole numbers in training."""
        return self.crops.windows

    @property
    def flips(self) -> Bool[np.ndarray, " b"]:
        """Which rows are mirrored left to right."""
        return self.crops.flips

    @property
    def vertical_flips(self) -> Bool[np.ndarray, " b"]:
        """Which rows are turned upside down."""
        return self.crops.vertical_flips


@dataclass(frozen=True, eq=False)
class StepPlanner:
    """Draws any step of a run.

    ``sizes`` are (height, width) of the stored images, 0 where unknown; ``size`` is the output's (height, width), or what it
    is in the course of the epochs, as ``batch_sizes`` are those of one rank. ``candidates`` are the samples to choose from,
    by default all. Of each row ``views`` are shown, which differ in what is drawn for the image alone. ``mean`` and ``std``
    are the data's, the colours of what is erased. ``named`` are several crops of each image; ``size``, ``crop`` and
    ``augmentation`` are then those of the first. ``maps`` says that images have label maps. ``fast`` is for backends:
    large crops may be decoded at a fraction.
    """

    schedule: Schedule
    sizes: Int64[np.ndarray, "n 2"]
    size: tuple[int, int] | Sizes
    crop: CropLaw
    flip: Flip = Flip(0.0)  # noqa: RUF009 (frozen)
    mixer: Mixer | None = None
    candidates: Int64[np.ndarray, " m"] | None = None
    batch_sizes: BatchSizes | None = None
    views: int = 1
    augmentation: Augmentation | None = None
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    named: tuple[NamedCrops, ...] = ()
    maps: bool = False
    fast: bool = False

    def schedule_of(self, epoch: int) -> Schedule:
        """The schedule of an epoch: ``schedule``, with the batch size of its stage."""
        if self.batch_sizes is None:
            return self.schedule
        return replace(self.schedule, batch_size=self.batch_sizes.at(epoch) * self.schedule.world_size)

    @property
    def most_rows(self) -> int:
        """The most images that a step of this rank has."""
        largest = self.schedule
        if self.batch_sizes is not None:
            largest = replace(largest, batch_size=self.batch_sizes.largest * largest.world_size)
        return len(largest.rows(0)) * self.views

    def size_at(self, epoch: int, step: int) -> tuple[int, int]:
        """(height, width) of the output of a step."""
        if not isinstance(self.size, Sizes):
            return self.size
        side = self.size.at(epoch, step, len(self.schedule_of(epoch)))
        return side, side

    def draw(self, epoch: int, step: int, bad: Container[int] = ()) -> StepPlan:
        """The plan of a step that shows no sample of ``bad``.

        Raises ``RuntimeError`` if a row finds no good sample in a thousand attempts.
        """
        rows, ids, rejected = self._samples(epoch, step, bad)
        mix = None if self.looks_at_images else self.mix(epoch, step)
        first, *more = self._shown(epoch, step, ids)
        return StepPlan(epoch, step, rows, ids, first.crops, first.augment, mix, rejected, tuple(more))

    def redraw(self, plan: StepPlan, bad: Container[int]) -> StepPlan:
        """``plan`` as it is drawn now that more samples are known to be bad."""
        _, ids, rejected = self._samples(plan.epoch, plan.step, bad)
        if np.array_equal(ids, plan.ids):
            return replace(plan, rejected=rejected)
        first, *more = self._shown(plan.epoch, plan.step, ids)
        return replace(plan, ids=ids, crops=first.crops, more=tuple(more), rejected=rejected)

    @property
    def looks_at_images(self) -> bool:
        """Whether the mix can be drawn only when the images are there."""
        return self.mixer is not None and "images" in self.mixer.needs

    def groups(self, epoch: int, step: int) -> list[tuple[Key, int]]:
        """Key and number of rows of each group of this rank's rows in a step that are mixed with one another."""
        groups = self.schedule_of(epoch).groups(step)
        return [(Key(self.schedule.seed, epoch, step, group.index), group.size) for group in groups]

    def mix(self, epoch: int, step: int, images: Any = None) -> MixPlan | None:
        """The mixing of a step on this rank: each group of rows by a key of its own, whatever rank has it.

        A matching needs the step's ``images`` (b, 3, h, w) as decoded. All views are mixed alike.
        """
        if self.mixer is None:
            return None
        plans, at = [], 0
        height, width = self.size_at(epoch, step)
        for key, size in self.groups(epoch, step):
            seen = None if images is None else images[at : at + size]
            plans.append(self.mixer.plan(key, batch_size=size, height=height, width=width, images=seen))
            at += size
        return concatenate(plans * self.views)

    def _samples(
        self, epoch: int, step: int, bad: Container[int]
    ) -> tuple[Int64[np.ndarray, " b"], Int64[np.ndarray, " b"], tuple[int, ...]]:
        """Rows and samples of a step, and the bad ones that some of them stand for."""
        schedule = self.schedule_of(epoch)
        rows, chosen = schedule.rows(step), schedule.ids(epoch, step)
        ids = chosen.copy() if self.candidates is None else self.candidates[chosen]
        rejected: list[int] = []
        for i, sample in enumerate(ids.tolist()):
            if sample in bad:
                drawn = replacements(Key(schedule.seed, epoch, step, int(rows[i])), schedule.samples)
                others = (drawn if self.candidates is None else self.candidates[drawn]).tolist()
                good = next((at for at, other in enumerate(others) if other not in bad), None)
                if good is None:
                    raise RuntimeError(f"found no good sample for row {rows[i]} of step {step} in {_ATTEMPTS} attempts")
                rejected += [sample, *others[:good]]
                ids[i] = others[good]
        return np.tile(rows, self.views), np.tile(ids, self.views), tuple(dict.fromkeys(rejected))

    def _shown(self, epoch: int, step: int, ids: Int64[np.ndarray, " b"]) -> list[Shown]:
        """All batches of pixels; crops after the first of an image are drawn for rows beyond the global batch."""
        plain = NamedCrops("", self.views, self.size_at(epoch, step), self.crop, self.augmentation)
        shown, first = [], 0
        for named in self.named or (plain,):
            drawn = range(first, first + named.count)
            shown.append(Shown(self._crops(epoch, step, ids, named, drawn), self._augment(epoch, step, named, drawn)))
            first += named.count
        if self.maps:
            shown.append(Shown(crops_of_maps(shown[0].crops), augment_of_maps(shown[0].augment), "map"))
        return shown

    def _crops(self, epoch: int, step: int, ids: Int64[np.ndarray, " b"], named: NamedCrops, drawn: range) -> CropPlan:
        """Crops number ``drawn`` of every image."""
        schedule = self.schedule_of(epoch)
        key, rows = Key(schedule.seed, epoch, step), schedule.rows(step)
        sizes = np.maximum(self.sizes[ids[: len(rows)]], 1)
        return concatenate_crops(
            [draw_crops(key, rows + crop * schedule.batch_size, sizes, named.law, self.flip, named.size) for crop in drawn]
        )

    def _augment(self, epoch: int, step: int, named: NamedCrops, drawn: range) -> AugmentPlan | None:
        """The augmentation of all of them, drawn as they are."""
        if named.augmentation is None:
            return None
        schedule = self.schedule_of(epoch)
        rows = np.concatenate([schedule.rows(step) + crop * schedule.batch_size for crop in drawn])
        return named.augmentation.draw(Key(schedule.seed, epoch, step), rows, named.size, self.mean, self.std)


def replacements(row: Key, length: int) -> Int64[np.ndarray, " attempts"]:
    """The samples to take in the place of a bad one, one after the other until one is good.

    ``row`` is Key(seed, epoch, step, row of the global batch), ``length`` the number of samples.
    """
    return (row.uniform(Stream.REPLACEMENT, (_ATTEMPTS,)) * length).astype(np.int64)
