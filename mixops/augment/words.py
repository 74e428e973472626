"""The random words that a row's geometry is drawn from.

Row i of a global batch has its own ``WORDS`` words, so a window depends on (seed, epoch, step, row) and on the image's size,
not on the ranks or the other rows:

    [area of each try, 10] [aspect of each try, 10] [top] [left] [flip] [vertical flip and filter]

The last word serves twice: its upper 26 bits are the number for the vertical flip, the lower ones that for the filter.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from ..key import Key, Stream

TRIES = 10  # as in torchvision
TOP, LEFT, FLIP, _SHARED, WORDS = 20, 21, 22, 23, 24
_UPPER = 2.0**26


def row_words(key: Key, rows: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, "b words"]:
    """The uniform numbers of contiguous ``rows`` of the global batch that ``key`` names."""
    return key.uniform(Stream.CROP, (len(rows), WORDS), start=int(rows[0]) * WORDS)


def vertical_flip_numbers(u: Float64[np.ndarray, "b words"]) -> Float64[np.ndarray, " b"]:
    """Uniform numbers in [0, 1) for vertical flips."""
    return np.floor(u[:, _SHARED] * _UPPER) / _UPPER


def filter_numbers(u: Float64[np.ndarray, "b words"]) -> Float64[np.ndarray, " b"]:
    """Uniform numbers in [0, 1) for the choice of a filter."""
    return u[:, _SHARED] * _UPPER % 1.0
