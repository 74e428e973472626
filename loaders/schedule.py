"""The schedule: which samples make up a step, in which order, on which rank.

The order of an epoch is drawn from ``Key(seed, epoch)`` (``sampling.py``). Global batches are cut from it first, each is cut
into groups of ``mix_group`` rows (the rows that are mixed with one another), and the groups are dealt to the ranks in
blocks. So the order does not depend on the number of ranks, and with a fixed ``mix_group`` neither does the mixing:

    order of the epoch   | 7 2 9 4 | 0 5 8 1 | 3 6         10 samples, global batch 4, mix_group 2
    groups               | 72 | 94 | 05 | 81 | 3 | 6       the last batch has as many groups, of nearly equal size
    rank 0 of 2          | 72      | 05      | 3
    rank 1 of 2          |      94 |      81 |     6
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Int, Int64

from mixops.key import Key

from .sampling import Sampling, Shuffled


@dataclass(frozen=True)
class Group:
    """Rows of a global batch that are mixed with one another: ``size`` rows from ``start`` on, group ``index`` of all."""

    index: int
    start: int
    size: int


@dataclass(frozen=True)
class Schedule:
    """The samples of every (epoch, step) on one rank.

    ``samples`` there are to choose from. ``batch_size`` is the global one, over all ranks. ``mix_group`` (default: the rows
    of one rank) must divide ``batch_size / world_size``. Raises ``ValueError`` where a rank would get no row of some batch,
    and where there is no batch at all.
    """

    samples: int
    batch_size: int
    seed: int = 0
    sampling: Sampling = Shuffled()  # noqa: RUF009 (frozen)
    drop_last: bool = True
    rank: int = 0
    world_size: int = 1
    mix_group: int | None = None

    def __post_init__(self) -> None:
        if self.samples < 1:
            raise ValueError(f"samples must be at least 1, got {self.samples}")
        if self.world_size < 1:
            raise ValueError(f"world_size must be at least 1, got {self.world_size}")
        if not 0 <= self.rank < self.world_size:
            raise ValueError(f"rank must be in [0, {self.world_size}), got {self.rank}")
        if self.batch_size < 1 or self.batch_size % self.world_size:
            raise ValueError(
                f"batch_size must be a positive multiple of world_size={self.world_size}, got {self.batch_size}"
            )
        per_rank = self.batch_size // self.world_size
        if self.group_size < 1 or per_rank % self.group_size:
            raise ValueError(f"mix_group must divide the {per_rank} rows of a rank, got {self.mix_group}")
        self.sampling.check(self.samples, self.batch_size)
        if not len(self):
            ranks = f" over {self.world_size} ranks" if self.world_size > 1 else ""
            raise ValueError(
                f"batch_size must be at most the {self.length} samples there are when drop_last=True, "
                f"got {self.batch_size}{ranks}; take a smaller one or drop_last=False"
            )
        last = self.length % self.batch_size
        if not self.drop_last and 0 < last < self.world_size:
            raise ValueError(
                f"the last of {len(self)} batches has {last} rows, too few for {self.world_size} ranks: "
                f"batch_size must leave a larger rest of {self.length} samples, got {self.batch_size}, or set drop_last=True"
            )

    @property
    def length(self) -> int:
        """Rows of an epoch, over all ranks."""
        return self.sampling.rows(self.samples)

    def __len__(self) -> int:
        """Steps of an epoch, the same on every rank."""
        if self.drop_last:
            return self.length // self.batch_size
        return -(-self.length // self.batch_size)

    @property
    def group_size(self) -> int:
        """Rows of a group in a full batch."""
        return self.batch_size // self.world_size if self.mix_group is None else self.mix_group

    def groups(self, step: int) -> list[Group]:
        """The groups of this rank in a step, in order; their rows are contiguous."""
        if not 0 <= step < len(self):
            raise ValueError(f"step must be in [0, {len(self)}), got {step}")
        rows = min(self.batch_size, self.length - step * self.batch_size)
        count = min(self.batch_size // self.group_size, rows)
        sizes = [rows // count + (i < rows % count) for i in range(count)]
        starts = np.cumsum([0, *sizes])
        mine = np.array_split(np.arange(count), self.world_size)[self.rank]
        return [Group(int(i), int(starts[i]), sizes[i]) for i in mine]

    def rows(self, step: int) -> Int64[np.ndarray, " b"]:
        """The rows of the global batch that this rank has in a step: contiguous and ascending."""
        groups = self.groups(step)
        return np.arange(groups[0].start, groups[-1].start + groups[-1].size)

    def ids(self, epoch: int, step: int) -> Int64[np.ndarray, " b"]:
        """The samples of this rank in a step."""
        positions = step * self.batch_size + self.rows(step)
        order = _order(self.sampling, self.seed, epoch, self.samples, self.batch_size)
        return order[positions].astype(np.int64)


@lru_cache(maxsize=2)  # the epoch at hand and the one before or after it; 5 MB each for ImageNet
def _order(sampling: Sampling, seed: int, epoch: int, samples: int, batch_size: int) -> Int[np.ndarray, " n"]:
    order = sampling.order(Key(seed, epoch), samples, batch_size)
    if samples <= np.iinfo(np.int32).max:
        order = order.astype(np.int32)
    order.flags.writeable = False
    return order
