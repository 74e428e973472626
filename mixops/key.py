"""The key of a batch: where every random decision of mixstage comes from.

A key is four integers. Random words are Philox-4x64 blocks whose 256-bit counter is ``(block, rank, step, epoch)`` and
whose 128-bit key is ``(seed, stream)``, so any word of any step can be had without drawing the words before it and
nothing needs to be saved to resume. Only the raw words of NumPy's Philox are used, whose algorithm is fixed: NumPy's
distributions may change between versions.

What the last numbers of a key name depends on what is drawn, and on nothing else:

    ORDER                        (seed, epoch)               an epoch of the data set
    CROP                         (seed, epoch, step)         a global batch, words by row of it
    REPLACEMENT                  (seed, epoch, step, row)    a row of the global batch
    PAIRING, MIX, FIELD, RATIO,  (seed, epoch, step, rank)   the rows that are mixed with one another
    TRANSFORM, SHARES
    TUPLES, LAYER                (seed, epoch, step, rank)   the rows of one process

Rows are mixed within a process or, in a loader with ``mix_group``, within a group of rows that is numbered over the global
batch, so that the mixing does not depend on how many processes share it.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from enum import IntEnum
from math import prod

import numpy as np
from numpy.typing import NDArray

from .runtime.checks import check_count, check_sequence, check_type

_WORDS_PER_BLOCK = 4  # Philox-4x64 makes four words of 64 bits per counter value
_MOST_WORDS = 2**32  # of one draw: 32 GiB
_MANY = 2**16  # words whose order is worth more than one call


class Stream(IntEnum):
    """What random words are used for; words of different streams are independent."""

    ORDER = 0  # the samples of an epoch
    CROP = 1  # windows and flips
    PAIRING = 2  # who is mixed with whom
    MIX = 3  # lambdas, boxes, choices of a mixer
    REPLACEMENT = 4  # samples in the place of bad files
    TUPLES = 5  # Dirichlet weights of embedding MultiMix
    LAYER = 6  # the layer that manifold mixing picks
    FIELD = 7  # low-frequency fields of FMix
    AUGMENT = 8  # operations of augmentation policies and their arguments
    ERASE = 9  # erased boxes, their colours and the seeds of their noise
    RATIO = 10  # the box's share of an HMix mask
    TRANSFORM = 11  # the generator of a loader's transform
    SHARES = 12  # weights of more than two images
    NOISE = 13  # where an attack starts, and the noise of a background


@dataclass(frozen=True, order=True)
class Key:
    """Names one batch of one run; every draw is a pure function of it.

    ``rank`` is the number of the rows that are mixed with one another: of the process, or of the mix group. Each of the four
    is an integer in [0, 2**64). Raises ``TypeError`` or ``ValueError`` otherwise.
    """

    seed: int = 0
    epoch: int = 0
    step: int = 0
    rank: int = 0

    def __post_init__(self) -> None:
        for field in fields(self):
            object.__setattr__(self, field.name, check_count(field.name, getattr(self, field.name), 0, 2**64 - 1))

    def words(self, stream: Stream, count: int, start: int = 0) -> NDArray[np.uint64]:
        """Random 64-bit words ``start`` to ``start + count`` of a stream, shape (count,)."""
        check_type("stream", stream, Stream, "a Stream")
        count = check_count("count", count, 0, _MOST_WORDS)
        start = check_count("start", start, 0, _WORDS_PER_BLOCK * 2**64 - 1)
        block, skip = divmod(start, _WORDS_PER_BLOCK)
        counter = np.array([block, self.rank, self.step, self.epoch], np.uint64)
        bits = np.random.Philox(counter=counter, key=np.array([self.seed, stream], np.uint64))
        return bits.random_raw(skip + count)[skip:]

    def uniform(self, stream: Stream, shape: tuple[int, ...], start: int = 0) -> NDArray[np.float64]:
        """Uniform float64 in [0, 1) with 53 random bits each, beginning at word ``start`` of a stream."""
        sides = [check_count("shape", side, 0) for side in check_sequence("shape", shape, "a tuple of integers")]
        words = self.words(stream, check_count("the product of shape", prod(sides), 0, _MOST_WORDS), start)
        return np.multiply(words >> np.uint64(11), 2.0**-53, dtype=np.float64).reshape(sides)

    def permutation(self, stream: Stream, n: int) -> NDArray[np.int64]:
        """A uniformly random order of 0 .. n - 1, int64, shape (n,)."""
        return order_of(self.words(stream, check_count("n", n, 0, _MOST_WORDS)))


def order_of(words: NDArray[np.uint64]) -> NDArray[np.int64]:
    """What ``np.argsort(words, kind="stable")`` gives, in a fraction of its time where there are many.

    NumPy sorts integers many times as fast as it sorts their positions. So each word's low bits, which of random words
    hardly ever decide, make room for its position; where they do decide, the few words concerned are compared whole.
    """
    if len(words) < _MANY:
        return np.argsort(words, kind="stable")
    low = np.uint64(2 ** (len(words) - 1).bit_length() - 1)
    packed = words & ~low
    packed |= np.arange(len(words), dtype=np.uint64)
    packed.sort()
    own, following = packed[:-1], packed[1:]
    slices = [slice(start, start + _MANY) for start in range(0, len(own), _MANY)]  # which take no memory to speak of
    alike = np.concatenate([part.start + np.flatnonzero(own[part] ^ following[part] <= low) for part in slices])
    packed &= low
    order = packed.view(np.int64)
    if len(alike):  # places whose high bits are those of the next
        places = np.union1d(alike, alike + 1)
        runs = np.cumsum(~np.isin(places - 1, alike))
        inside = order[places]
        order[places] = inside[np.lexsort([words[inside], runs])]
    return order
