"""Plans that a DALI pipeline draws itself: an external source that is a pure function of DALI's own batch number.

DALI runs sources ahead of what is consumed and binds each call to an iteration, so a plan never slips against its batch,
and DALI's checkpoints, which hold the iteration, hold all there is to know. DALI counts epochs only where a source ends
them; the rest of the time ``iteration`` runs on, and the epoch is its quotient by the number of steps.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from math import ceil
from typing import Any

import numpy as np
from jaxtyping import Int32

from mixops.key import Key
from mixops.mixers.base import Mixer, Pairs, check_sizes
from mixops.mixers.needs import refuse_needs
from mixops.pairing.blocks import draw_blocks
from mixops.plan import MixPlan, concatenate
from mixops.runtime.checks import check_count, check_flag, check_type, set_fields, shown


@dataclass(frozen=True)
class PlanSource:
    """The plans of ``mixer`` for ``dali.mix``; the plan of (epoch, step) is that of ``Key(seed, epoch, step, rank)``.

    ``batch_size`` is the pipeline's, ``height`` and ``width`` are those of the images that are mixed. ``epoch_size`` is the
    number of samples in the data set, cut into ``world_size`` shards as DALI's readers cut it under
    ``pad_last_batch=True``; ``rank`` is the reader's ``shard_id``, ``stick_to_shard`` as in the reader. Rows that only pad
    the last batch are then neither mixed nor anybody's partner. ``pad_last_batch=False`` is for sources that end an epoch
    with a true partial batch. ``steps_per_epoch``, in the place of ``epoch_size``, is for batches that are always full.
    ``first_epoch`` is that of a new pipeline, for runs that resume without DALI's checkpoints.

    Raises ``ValueError`` or ``TypeError`` naming the argument, also for mixers that need saliency, mix more than two images
    a row or resize them, and for metrics that are functions: none of them is said in DALI's operators.
    """

    mixer: Mixer
    _: KW_ONLY
    batch_size: int
    height: int
    width: int
    seed: int = 0
    rank: int = 0
    world_size: int = 1
    epoch_size: int | None = None
    steps_per_epoch: int | None = None
    stick_to_shard: bool = False
    pad_last_batch: bool = True
    first_epoch: int = 0

    def __post_init__(self) -> None:
        check_type("mixer", self.mixer, Mixer, "a mixer")
        refuse_needs(self.mixer.replace(matching=None), (), "a DALI pipeline")  # the pipeline itself matches its images
        key = Key(check_count("seed", self.seed, 0, 2**64 - 1), check_count("first_epoch", self.first_epoch, 0, 2**64 - 1))
        sizes = check_sizes(key, self.batch_size, self.height, self.width)
        set_fields(
            self, batch_size=sizes[0], height=sizes[1], width=sizes[2], seed=key.seed, first_epoch=key.epoch,
            rank=check_count("rank", self.rank, 0), world_size=check_count("world_size", self.world_size),
            stick_to_shard=check_flag("stick_to_shard", self.stick_to_shard),
            pad_last_batch=check_flag("pad_last_batch", self.pad_last_batch),
        )  # fmt: skip
        if self.rank >= self.world_size:
            raise ValueError(f"rank must be below world_size = {self.world_size}, got {self.rank}")
        if (self.epoch_size is None) == (self.steps_per_epoch is None):
            raise ValueError(
                "epoch_size must be given, or steps_per_epoch and not both, "
                f"got {shown(self.epoch_size)} and {shown(self.steps_per_epoch)}"
            )
        for name in ("epoch_size", "steps_per_epoch"):
            if getattr(self, name) is not None:
                set_fields(self, **{name: check_count(name, getattr(self, name), 1, 2**63 - 1)})
        drawn = self._draw(Key(), 1)
        for must, asked in (("mix two images a row", drawn.more), ("leave partners as large as they are", drawn.inset)):
            if asked is not None:
                raise ValueError(
                    f"mixer must {must} in a DALI pipeline, got {self.mixer!r}: mix where the images come out, by "
                    "mixer(images, labels, num_classes=...), or in an ImageLoader"
                )
        matching = self.mixer.matching
        if matching is None or matching.k == 1:
            return
        if callable(matching.metric):
            raise ValueError(f"metric must be 'sqeuclidean' or 'l2' in a DALI pipeline, got {matching.metric!r}")
        if self.batch_size < 2 * matching.k:
            raise ValueError(f"batch_size must be at least 2 * k = {2 * matching.k} for {matching!r}, got {self.batch_size}")

    @property
    def k(self) -> int:
        """The images of a block: 1 without matching."""
        return 1 if self.mixer.matching is None else self.mixer.matching.k

    @property
    def dense(self) -> bool:
        """Whether masks are sent pixel by pixel and not as nine floats."""
        return self._draw(Key(), 1).dense is not None

    @property
    def num_outputs(self) -> int:
        """How many arrays a call returns."""
        return 3 if self.k == 1 else 4

    @property
    def steps(self) -> int:
        """Batches of an epoch, on every rank."""
        if self.epoch_size is None:
            assert self.steps_per_epoch is not None
            return self.steps_per_epoch
        return ceil(ceil(self.epoch_size / self.world_size) / self.batch_size)

    def rows(self, epoch: int, step: int) -> int:
        """How many rows of a batch are samples and not padding."""
        if self.epoch_size is None:
            return self.batch_size
        # DALI hands each shard to the next rank with every epoch of a pipeline
        shard = self.rank if self.stick_to_shard else (self.rank + epoch - self.first_epoch) % self.world_size
        size = (shard + 1) * self.epoch_size // self.world_size - shard * self.epoch_size // self.world_size
        return int(np.clip(size - step * self.batch_size, 0, self.batch_size))

    def plan(self, epoch: int, step: int, images: Any = None) -> MixPlan:
        """The plan of a step, its padding left as it is. A matching needs the step's ``images`` (b, c, h, w)."""
        n = self.rows(epoch, step)
        if n == 0:
            return self._pad(self._draw(Key(), 1), 0)
        key = Key(self.seed, epoch, step, self.rank)
        seen = None if images is None else images[:n]
        return self._pad(self.mixer.plan(key, batch_size=n, height=self.height, width=self.width, images=seen), n)

    def __call__(self, info: Any) -> tuple[np.ndarray, ...]:
        """The plan of an iteration as DALI wants it: who is mixed with whom, label weights, masks.

        Partners are int32 (b,), or for a matching the places (b, 2) and columns (b, k) of ``_blocks``; weights float32
        (b, K); masks float32 (b, K, 9) or dense float32 or uint8 (b, K, h, w).
        """
        epoch, step = divmod(int(info.iteration), self.steps)
        epoch += int(info.epoch_idx) + self.first_epoch
        pairing: tuple[np.ndarray, ...]
        if self.k == 1:
            plan = self.plan(epoch, step)
            pairing = (plan.partner.astype(np.int32),)
        else:
            plan, place, columns = self._blocks(epoch, step)
            pairing = place, columns
        masks = plan.params if plan.dense is None else plan.dense
        return (*pairing, plan.weight.astype(np.float32), masks)

    def _blocks(self, epoch: int, step: int) -> tuple[MixPlan, Int32[np.ndarray, "b 2"], Int32[np.ndarray, "b k"]]:
        """A plan whose partners are not chosen yet, and what there is to choose from.

        Each row has a position in the shuffled batch, -1 for padding, and the size of blocks in this batch; and the rows
        that it may be matched with, itself where there are fewer than k.
        """
        n = self.rows(epoch, step)
        here = np.arange(self.batch_size if self.pad_last_batch else n)
        place = np.tile(np.array([-1, 1], np.int32), (len(here), 1))
        columns = np.repeat(here[:, None], self.k, 1).astype(np.int32)
        if n == 0:
            return self._pad(self._draw(Key(), 1), 0), place, columns
        matching = self.mixer.matching
        assert matching is not None
        key, k = Key(self.seed, epoch, step, self.rank), matching.shortened(n).k
        blocks = draw_blocks(key, n, k)
        for start in range(0, n, k):
            row, column = blocks.rows[start : start + k], blocks.columns[start : start + k]
            columns[row, : len(column)] = column
        place[blocks.rows] = np.stack([np.arange(n), np.full(n, k)], 1)
        return self._pad(self._draw(key, n, k), n), place, columns

    def _draw(self, key: Key, n: int, k: int = 1) -> MixPlan:
        """A plan with the units of blocks of k, each row beside the next."""
        blocks = draw_blocks(key, n, k)
        unit = self.mixer.units(blocks.block_of_row())
        return self.mixer.plan_pairs(Pairs(key, blocks.partner(), unit, self.height, self.width))

    def _pad(self, plan: MixPlan, n: int) -> MixPlan:
        """The first ``n`` rows of a plan that has them or none, and one that mixes nothing for each row that pads."""
        more = self.batch_size - n if self.pad_last_batch else 0
        padding = MixPlan.identity(more, interpolations=plan.interpolations, height=plan.height, width=plan.width)
        if plan.dense is not None:
            padding = replace(padding, dense=np.ones((more, *plan.dense.shape[1:]), plan.dense.dtype))
        return concatenate([plan, padding] if n else [padding])
