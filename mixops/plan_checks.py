"""What a plan must be, looked at where one is made: a kernel reads what a plan says without asking again.

    weight, lam, v0, v0 + dv, dense in [0, 1];   partner in [0, b), moves in [0, blocks);   a >= 0, everything finite
    inset rows:  y0, y1, x0, x1 whole,  0 <= y0 <= y1 <= height,  0 <= x0 <= x1 <= width

A window between 0 and 1 (``a`` >= 0) takes the mask from v0 to v0 + dv, so that the two bound it. A plan of 256 pairs is
looked at in some 20 us, little beside what drawing it takes: what can be is gathered and reduced at once, for a reduction of
NumPy takes 2 us, however few its numbers.
"""

from __future__ import annotations

from math import isqrt
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Shaped

from .masks import DV, FLOATS, V0, X0, X1, Y0, Y1, A
from .plan_sources import Plan, PlanSources
from .runtime.checks import MOST, check_count, check_field, shown


class PlanFields(Plan, Protocol):
    """What is looked at: the fields of a ``MixPlan``."""

    @property
    def lam(self) -> Any: ...
    @property
    def dense(self) -> Any: ...
    @property
    def moves(self) -> Any: ...
    @property
    def inset(self) -> Any: ...
    @property
    def past(self) -> Any: ...


_INT64, _INT32, _UINT8, _BOOL = np.dtype(np.int64), np.dtype(np.int32), np.dtype(np.uint8), np.dtype(np.bool_)
_FLOAT64, _FLOAT32 = np.dtype(np.float64), np.dtype(np.float32)


def check_plan(plan: PlanFields) -> None:
    """Raises ``ValueError`` or ``TypeError`` naming the field unless every number of the plan makes sense."""
    b, k = _check_arrays(plan)
    if plan.dense is not None:
        check_field("dense", plan.dense, (_FLOAT32, _UINT8), (b, k, *_sides(plan.dense, plan)))
        _check_fractions("dense", plan.dense)
    if plan.moves is not None:
        blocks = isqrt(plan.moves.shape[-1]) ** 2 if isinstance(plan.moves, np.ndarray) and plan.moves.ndim else 0
        check_field("moves", plan.moves, (_INT32,), (b, k, 2, max(blocks, 1)))
        if plan.height % isqrt(blocks) or plan.width % isqrt(blocks):
            side = isqrt(blocks)
            raise ValueError(
                f"moves must have {plan.height}x{plan.width} pixels in whole blocks, got {side} x {side} blocks"
            )
        _check_indices("moves", plan.moves, max(blocks, 1))
    if plan.more is not None:
        _check_more(plan, b, k)
    _check_indices("partner", plan.partner, b)
    _check_masks(plan.weight, plan.lam, plan.params)
    if plan.past is not None:
        check_field("past", plan.past, (_BOOL,), (b,))
    if plan.inset is not None:
        _check_insets(plan, b)


def _sides(masks: Any, plan: PlanFields) -> tuple[int, int]:
    """Of masks with a value for each pixel, or for each of blocks of equal size that fill the image."""
    y, x = masks.shape[-2:] if isinstance(masks, np.ndarray) and masks.ndim >= 2 else (0, 0)
    whole = y and x and not plan.height % y and not plan.width % x
    return (y, x) if whole else (plan.height, plan.width)


def _check_insets(plan: PlanFields, b: int) -> None:
    """What is shown whole has a place: a box of whole pixels inside the image."""
    check_field("inset", plan.inset, (_BOOL,), (b,))
    boxes = plan.params[plan.inset]
    for low, high, side in ((Y0, Y1, plan.height), (X0, X1, plan.width)):
        first, last = boxes[..., low], boxes[..., high]
        inside = (first >= 0) & (first <= last) & (last <= side) & (first % 1 == 0) & (last % 1 == 0)
        if not inside.all():
            raise ValueError(
                f"params must have boxes of whole pixels inside {plan.height}x{plan.width} in rows of inset, "
                f"got edges {first[~inside][0]} and {last[~inside][0]}"
            )


def _check_more(plan: PlanFields, b: int, k: int) -> None:
    """Several sources are those of this plan."""
    if not isinstance(plan.more, PlanSources):
        raise TypeError(f"more must be a PlanSources or None, got {shown(plan.more)}")
    if plan.dense is not None:
        raise ValueError("dense must be None for rows of several sources, whose masks more has")
    size = () if plan.more.constant else _sides(plan.more.masks, plan)
    if plan.more.weight.shape[:2] != (b, k) or plan.more.masks.shape[3:] != size:
        raise ValueError(f"more must have {b} rows, {k} outputs and masks of {size}, got masks {plan.more.masks.shape}")


def _check_arrays(plan: PlanFields) -> tuple[int, int]:
    """The fields that every plan has: their types, dtypes and shapes."""
    check_count("height", plan.height)
    check_count("width", plan.width)
    weight = plan.weight
    if not isinstance(weight, np.ndarray) or weight.dtype != _FLOAT64:
        raise TypeError(f"weight must be a NumPy array of float64, got {shown(weight)}")
    if weight.ndim != 2 or not weight.shape[1]:
        raise ValueError(f"weight must have shape (b, k) with k at least 1, got {weight.shape}")
    b, k = weight.shape
    check_field("partner", plan.partner, (_INT64,), (b,))
    check_field("lam", plan.lam, (_FLOAT64,), (b, k))
    check_field("params", plan.params, (_FLOAT32,), (b, k, FLOATS))
    return b, k


def _check_indices(name: str, array: np.ndarray, count: int) -> None:
    unsigned = np.uint64 if array.dtype == _INT64 else np.uint32  # what is negative then is large
    if array.size and not array.view(unsigned).max() < count:
        raise ValueError(f"{name} must be in [0, {count}), got {array.min()} to {array.max()}")


def _check_fractions(name: str, array: np.ndarray) -> None:
    if not _within_one(array):
        raise ValueError(f"{name} must be in [0, 1], got {array.min()} to {array.max()}")


def _within_one(x: np.ndarray) -> bool:
    """Whether all are in [0, 1]. Then their bits, as unsigned integers, are at most those of 1, but for -0.0."""
    if not x.size:
        return True
    if x.dtype == _UINT8:
        return bool(x.max() <= 1)
    if x.dtype == _FLOAT32 and x.view(np.uint32).max() <= 0x3F800000:
        return True
    if x.dtype == _FLOAT64 and x.view(np.uint64).max() <= 0x3FF0000000000000:
        return True
    return bool(x.min() >= 0 and x.max() <= 1)


def _check_masks(
    weight: Shaped[np.ndarray, "b k"], lam: Shaped[np.ndarray, "b k"], params: Float32[np.ndarray, "b k 9"]
) -> None:
    p = params.reshape(-1, FLOATS).T.copy()  # a row for each of the nine
    fractions = np.empty((4, p.shape[1]))
    places = p[Y0:A].reshape(-1)
    with np.errstate(over="ignore", invalid="ignore"):
        fractions[0], fractions[1], fractions[2], fractions[3] = weight.reshape(-1), lam.reshape(-1), p[V0], p[V0] + p[DV]
        small = places.dot(places) <= MOST**2  # then each is, and a sum of squares is quicker than a maximum
    if _within_one(fractions) and small and (not p.size or p[A].view(np.uint32).max() < 0x7F800000):  # infinity
        return
    _check_fractions("weight", weight)
    _check_fractions("lam", lam)
    if not _within_one(fractions[2:]):
        raise ValueError(f"params must have v0 and v0 + dv in [0, 1], got {fractions[2:].min()} to {fractions[2:].max()}")
    if not (p[A].min() >= 0 and p[A].max() < np.inf):
        raise ValueError(f"params must have a at least 0 and finite, got {p[A].min()} to {p[A].max()}")
    if not np.abs(places).max() <= MOST:
        raise ValueError(f"params must have borders and centres within {MOST} pixels, got {places.min()} to {places.max()}")
