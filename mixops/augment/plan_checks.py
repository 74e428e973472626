"""What the arrays of an augmentation plan must be, looked at where one is made: a kernel reads them without asking again."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Int8, Int32

from ..runtime.checks import check_field, shown
from .operations import Filter

DTYPES: dict[str, Any] = {
    "op": np.int8, "arg": np.float32, "filter": np.int8, "fill": np.uint8, "box": np.int32, "colour": np.uint8,
    "noisy": np.bool_, "noise": np.uint32, "weight": np.float32,
}  # fmt: skip
_FILTERS = tuple(int(f) for f in Filter)


def check_axes(name: str, array: Any, axes: str) -> tuple[int, ...]:
    """The shape of an array that has as many axes as are named in ``axes``, such as "(b, n)"."""
    if not isinstance(array, np.ndarray):
        raise TypeError(f"{name} must be a NumPy array {axes}, got {shown(array)}")
    if array.ndim != axes.count(",") + 1:
        raise ValueError(f"{name} must have shape {axes}, got {array.shape}")
    return array.shape


def check_fields(value: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    """Raises unless the fields of ``value`` are arrays of these shapes and of the dtypes that all plans have."""
    for name, shape in shapes.items():
        check_field(name, getattr(value, name), (np.dtype(DTYPES[name]),), shape)


def check_filters(filters: Int8[np.ndarray, "*shape"]) -> None:
    """Raises unless each is one of ``Filter``."""
    wrong = ~np.isin(filters, _FILTERS)
    if wrong.any():
        raise ValueError(f"filter must be one of {_FILTERS}, got {filters[wrong][0]}")


def check_boxes(box: Int32[np.ndarray, "b e 4"], height: int, width: int) -> None:
    """Raises unless each (top, left, height, width) lies inside an image of ``height`` x ``width`` pixels."""
    top, left, high, wide = np.moveaxis(box.astype(np.int64), -1, 0)  # sums of int32 may overflow
    inside = (top >= 0) & (left >= 0) & (high >= 0) & (wide >= 0) & (top + high <= height) & (left + wide <= width)
    if not inside.all():
        raise ValueError(f"box must lie inside height x width, {height}x{width}, got {box[~inside][0].tolist()}")
