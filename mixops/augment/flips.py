"""Flips: which rows of a batch are mirrored, drawn from words of each row that no crop uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64

from ..runtime.checks import check_number, set_fields
from .words import FLIP, vertical_flip_numbers


@dataclass(frozen=True)
class Flip:
    """Probabilities of a mirror image, left to right and upside down: torchvision's two ``Random...Flip``.

    Raises ``ValueError`` or ``TypeError`` unless both are in [0, 1].
    """

    flip: float = 0.5
    vertical_flip: float = 0.0

    def __post_init__(self) -> None:
        flip, vertical = check_number("flip", self.flip, 0, 1), check_number("vertical_flip", self.vertical_flip, 0, 1)
        set_fields(self, flip=flip, vertical_flip=vertical)


def draw_flips(u: Float64[np.ndarray, "b words"], law: Flip) -> tuple[Bool[np.ndarray, " b"], Bool[np.ndarray, " b"]]:
    """Which rows are mirrored left to right, and which upside down; ``u`` as ``row_words`` draws it."""
    return u[:, FLIP] < law.flip, vertical_flip_numbers(u) < law.vertical_flip
