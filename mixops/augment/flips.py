"""Flips: which rows of a batch are mirrored, drawn from a word of each row that no crop uses."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64

from .words import FLIP


def check_flip(flip: float) -> None:
    """Raises ``ValueError`` unless ``flip`` is a probability."""
    if not 0 <= flip <= 1:
        raise ValueError(f"flip must be a probability in [0, 1], got {flip!r}")


def draw_flips(u: Float64[np.ndarray, "b words"], flip: float) -> Bool[np.ndarray, " b"]:
    """Which rows are mirrored left to right, each with probability ``flip``; ``u`` as ``row_words`` draws it."""
    return u[:, FLIP] < flip
