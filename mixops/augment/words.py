"""The random words that a row's geometry is drawn from.

Row i of a global batch has its own ``WORDS`` words, so a window depends on (seed, epoch, step, row) and on the image's size,
not on the ranks or the other rows:

    [area of each try, 10] [aspect of each try, 10] [top] [left] [flip] [not used: blocks have four words]
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float64, Int64

from ..key import Key, Stream

TRIES = 10  # as in torchvision
TOP, LEFT, FLIP, WORDS = 20, 21, 22, 24


def row_words(key: Key, rows: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, "b words"]:
    """The uniform numbers of contiguous ``rows`` of the global batch that ``key`` names."""
    return key.uniform(Stream.CROP, (len(rows), WORDS), start=int(rows[0]) * WORDS)
