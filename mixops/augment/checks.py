"""What the arguments of policies must be; every error names the argument."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import UInt8

from ..runtime.checks import check_choice, check_number, check_sequence

Colour = None | float | Sequence[float] | str
INTERPOLATIONS = ("nearest", "bilinear", "bicubic", "random")


def check_interpolation(value: Any) -> str:
    """The name of how warps interpolate; torchvision's ``InterpolationMode`` is taken too.

    "random" is bilinear or bicubic, drawn for each operation, as in timm.
    """
    name = getattr(value, "value", value)
    return check_choice("interpolation", name if isinstance(name, str) else value, INTERPOLATIONS)


def check_fill(value: Any) -> Colour:
    """The colour outside of warped images: None (black), a level, three levels of 255, or "mean", that of the data set."""
    if value is None or (isinstance(value, str) and value == "mean"):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str):
        levels = tuple(_level(v) for v in check_sequence("fill", value, "a level or three"))
        if len(levels) not in (1, 3):
            raise ValueError(f"fill must have one level or three, got {value!r}")
        return levels if len(levels) == 3 else levels * 3
    return _level(value)


def _level(value: Any) -> int:
    if isinstance(value, str):
        raise ValueError(f"fill must be None, 'mean' or levels in [0, 255], got {value!r}")
    return int(check_number("fill", value, 0, 255))


def fill_colour(fill: Colour, mean: tuple[float, float, float]) -> UInt8[np.ndarray, " 3"]:
    """The three levels that ``fill`` says; ``mean`` is on the scale [0, 1] and rounded as timm rounds it."""
    if fill == "mean":
        return np.array([min(255, round(255 * x)) for x in mean], np.uint8)
    levels: Any = 0 if fill is None else fill
    return np.full(3, levels, np.uint8)
