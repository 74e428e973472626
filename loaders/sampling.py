"""Which samples an epoch shows, and in which order: a pure function of (seed, epoch).

    Shuffled()            each once, in random order            what DistributedSampler does
    Sequential()          each once, in the data set's order
    Weighted(weights)     with replacement, by weight           WeightedRandomSampler
    Repeated(3)           a b c d  a b c d  a b c d | e f ...   repeated augmentation: 1/3 of the samples, three views each
    Together(3, group=4)  a b c d  a b c d  a b c d | e f ...   batch augmentation: all of them, three copies in one batch

Views of ``Repeated`` lie a third of the global batch apart, so blocks of rows dealt to ranks hold different samples, and the
global batch does not depend on the number of ranks. Copies of ``Together`` lie within the rows of one rank, in groups of
rows that are mixed with one another, so that no copy is mixed with itself.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from jaxtyping import Float64, Int64

from mixops.key import Key, Stream, order_of


class Sampling(Protocol):
    """Gives the order of an epoch; a frozen value."""

    def __hash__(self) -> int: ...

    def rows(self, samples: int) -> int:
        """How many rows an epoch of so many samples has."""
        ...

    def check(self, samples: int, batch_size: int) -> None:
        """Raises ``ValueError`` where the sampling does not fit the number of samples or the global batch."""
        ...

    def order(self, key: Key, samples: int, batch_size: int) -> Int64[np.ndarray, " rows"]:
        """The samples of all rows of the epoch that ``key`` names, cut into global batches of ``batch_size`` later."""
        ...


@dataclass(frozen=True)
class _Once:
    """Each sample has one row."""

    def rows(self, samples: int) -> int:
        """As many as samples."""
        return samples

    def check(self, samples: int, batch_size: int) -> None:
        """Everything fits."""


@dataclass(frozen=True)
class Shuffled(_Once):
    """A permutation, drawn from ``Key(seed, epoch)``."""

    def order(self, key: Key, samples: int, batch_size: int) -> Int64[np.ndarray, " rows"]:
        """A uniformly random order."""
        return key.permutation(Stream.ORDER, samples)


@dataclass(frozen=True)
class Sequential(_Once):
    """The data set's own order."""

    def order(self, key: Key, samples: int, batch_size: int) -> Int64[np.ndarray, " rows"]:
        """0, 1, 2, ..."""
        return np.arange(samples)


@dataclass(frozen=True, eq=False, repr=False)
class Weighted(_Once):
    """Samples drawn with replacement in proportion to ``weights``, as torch's ``WeightedRandomSampler`` does.

    Raises ``ValueError`` unless the weights are finite, non-negative and not all 0.
    """

    weights: Float64[np.ndarray, " n"]
    _digest: str = field(init=False)

    def __post_init__(self) -> None:
        weights = np.asarray(self.weights, np.float64)
        if weights.ndim != 1 or not np.isfinite(weights).all() or (weights < 0).any() or not weights.sum() > 0:
            raise ValueError(f"weights must be finite, at least 0 and not all 0, one a sample, got {self.weights!r:.200}")
        object.__setattr__(self, "weights", weights)
        object.__setattr__(self, "_digest", hashlib.sha256(np.ascontiguousarray(weights).data).hexdigest()[:16])

    @classmethod
    def balanced(cls, labels: Int64[np.ndarray, " n"]) -> Weighted:
        """Every class of ``labels`` has the same share."""
        return cls(1.0 / np.bincount(labels)[labels])

    def check(self, samples: int, batch_size: int) -> None:
        """There is a weight for each sample."""
        if len(self.weights) != samples:
            raise ValueError(f"weights must have one value a sample, {samples}, got {len(self.weights)}")

    def order(self, key: Key, samples: int, batch_size: int) -> Int64[np.ndarray, " rows"]:
        """As many draws as samples.

        Numbers are looked up in their order, which is that of their bits: a million at random leave every cache.
        """
        edges = np.cumsum(self.weights)
        numbers = key.uniform(Stream.ORDER, (samples,)) * edges[-1]
        rising = order_of(numbers.view(np.uint64))
        drawn = np.empty(samples, np.int64)
        drawn[rising] = np.minimum(np.searchsorted(edges, numbers[rising], side="right"), samples - 1)
        return drawn

    def __repr__(self) -> str:
        return f"Weighted({self._digest})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Weighted) and np.array_equal(self.weights, other.weights)

    def __hash__(self) -> int:
        return hash(self._digest)  # asked for in every step


@dataclass(frozen=True)
class Repeated:
    """Repeated augmentation (arXiv 1902.05509) as torchvision's and timm's samplers do it, ``views`` of a sample a batch.

    An epoch has as many rows as there are samples, and shows 1 / ``views`` of them. Where ``views`` do not divide a batch,
    its last samples have one view less.
    """

    views: int

    def rows(self, samples: int) -> int:
        """As many as samples."""
        return samples

    def check(self, samples: int, batch_size: int) -> None:
        """A global batch has room for the views of a sample."""
        if batch_size < self.views:
            raise ValueError(f"repeats must be at most the {batch_size} rows of a global batch, got {self.views}")

    def order(self, key: Key, samples: int, batch_size: int) -> Int64[np.ndarray, " rows"]:
        """Row r of a batch of B rows shows the batch's sample r mod ceil(B / views)."""
        order = key.permutation(Stream.ORDER, samples)
        whole, last = divmod(samples, batch_size)
        full = -(-batch_size // self.views)
        shown, rest = order[: whole * full].reshape(whole, full), order[whole * full :]
        out = np.empty(samples, np.int64)
        out[: whole * batch_size].reshape(whole, batch_size)[:] = shown[:, np.arange(batch_size) % full]
        out[whole * batch_size :] = rest[np.arange(last) % max(-(-last // self.views), 1)]
        return out


@dataclass(frozen=True)
class Together:
    """Batch augmentation (arXiv 1901.09335): ``copies`` of each sample in the rows of one rank, in groups of ``group`` rows.

    An epoch shows every sample, so it has ``copies`` times as many rows.
    """

    copies: int
    group: int

    def rows(self, samples: int) -> int:
        """``copies`` for each sample."""
        return samples * self.copies

    def check(self, samples: int, batch_size: int) -> None:
        """A global batch has whole groups of every copy."""
        if batch_size % (self.copies * self.group):
            raise ValueError(
                f"repeats must leave whole groups of {self.group} rows in a global batch of {batch_size}, got {self.copies}"
            )

    def order(self, key: Key, samples: int, batch_size: int) -> Int64[np.ndarray, " rows"]:
        """``group`` samples, ``copies`` times, then the next ones."""
        order = key.permutation(Stream.ORDER, samples)
        whole, last = divmod(samples, self.group)
        rows = whole * self.copies * self.group
        out = np.empty(self.rows(samples), np.int64)
        out[:rows].reshape(whole, self.copies, self.group)[:] = order[: whole * self.group].reshape(whole, 1, self.group)
        rest = np.arange(self.copies * last) % self.group
        out[rows:] = order[np.minimum(whole * self.group + rest, samples - 1)]
        return out
