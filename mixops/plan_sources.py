"""More than two sources of a row: which images it is made of, with what share of the label, and under which masks.

    x~ = sum_j M_j * x_{sources[j]},    y~ = sum_j w_j * y_{sources[j]},    sum_j M_j = 1,    w_j = mean(M_j)

Masks of one value are the shares themselves, in float32 because that is what the kernels read; others are dense.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from jaxtyping import Float32, Float64, Int64

from .masks import spread
from .runtime.checks import shown

_SUM = 1e-4  # how far the shares of a row or a pixel may be from 1 in all


@dataclass(frozen=True, eq=False)
class PlanSources:
    """The sources of b rows, s each, for k outputs.

    ``rows[i, j]`` is source j of row i, ``weight[i, k, j]`` its share of the label in output k. ``masks`` are one value a
    source, or y x x of them, one a pixel or one for each of blocks of equal size. A source may come twice, and then both
    shares count. All shares and masks are in [0, 1] and sum to 1 over sources. Raises ``ValueError`` or ``TypeError`` naming
    the field otherwise.
    """

    rows: Int64[np.ndarray, "b s"]
    weight: Float64[np.ndarray, "b k s"]
    masks: Float32[np.ndarray, "b k s"] | Float32[np.ndarray, "b k s y x"]

    def __post_init__(self) -> None:
        for name, dtype, axes in (("rows", np.int64, (2,)), ("weight", np.float64, (3,)), ("masks", np.float32, (3, 5))):
            array = getattr(self, name)
            if not isinstance(array, np.ndarray) or array.dtype != dtype or array.ndim not in axes:
                raise TypeError(f"{name} must be a NumPy array of {np.dtype(dtype)} with {axes} axes, got {shown(array)}")
        (b, s), k = self.rows.shape, self.weight.shape[1]
        if s < 2 or self.weight.shape != (b, k, s) or not k or self.masks.shape[:3] != (b, k, s):
            shapes = self.rows.shape, self.weight.shape, self.masks.shape
            raise ValueError(f"rows, weight and masks must have shapes (b, s), (b, k, s), (b, k, s, ...), got {shapes}")
        if self.rows.size and not 0 <= self.rows.min() <= self.rows.max() < b:
            raise ValueError(f"rows must be in [0, {b}), got {self.rows.min()} to {self.rows.max()}")
        for name, array in (("weight", self.weight), ("masks", self.masks)):
            if not array.size:
                continue
            if not (array.min() >= 0 and array.max() <= 1):
                raise ValueError(f"{name} must be in [0, 1], got {array.min()} to {array.max()}")
            total = array.sum(2)
            if not np.abs(total - 1).max() <= _SUM:
                raise ValueError(f"{name} must sum to 1 over the sources, got {total.min()} to {total.max()}")

    @property
    def count(self) -> int:
        """Number of sources s."""
        return self.rows.shape[1]

    @property
    def constant(self) -> bool:
        """Whether every mask has one value."""
        return self.masks.ndim == 3

    def dense(self, height: int, width: int) -> Float32[np.ndarray, "b k s h w"]:
        """The masks at every pixel."""
        if self.constant:  # a view: it takes no memory
            return np.broadcast_to(self.masks[..., None, None], (*self.masks.shape, height, width))
        return spread(self.masks, height, width)  # type: ignore[no-any-return]

    def of_rows(self, rows: Any) -> PlanSources:
        """The sources of some rows, as an index of the arrays; they must be among them."""
        return PlanSources(self.rows[rows], self.weight[rows], self.masks[rows])


class Plan(Protocol):
    """What is looked at of a ``MixPlan``."""

    @property
    def partner(self) -> Any: ...
    @property
    def weight(self) -> Any: ...
    @property
    def params(self) -> Any: ...
    @property
    def height(self) -> int: ...
    @property
    def width(self) -> int: ...
    @property
    def more(self) -> PlanSources | None: ...
    def mask(self) -> Any:
        """The masks of the rows' own images."""
        ...


def sources_of(plan: Plan, count: int, *, dense: bool) -> PlanSources:
    """The sources of any plan, ``count`` of them; those beyond a plan's own are the row itself with no share.

    ``dense`` asks for masks at every pixel, without which all must be constant. Masks of two sources become float32, the
    precision that they are applied in.
    """
    b, k = plan.weight.shape
    if plan.more is not None:
        found, masks = plan.more, plan.more.dense(plan.height, plan.width) if dense else plan.more.masks
        rows, weight = found.rows, found.weight
    else:
        rows = np.stack([np.arange(b), plan.partner], 1)
        weight = np.stack([plan.weight, 1 - plan.weight], 2)
        own = plan.mask().astype(np.float32) if dense else plan.params[..., 0]
        masks = np.stack([own, 1 - own], 2)
    spare = count - rows.shape[1]
    if spare:
        rows = np.concatenate([rows, np.repeat(np.arange(b)[:, None], spare, 1)], 1)
        weight = np.concatenate([weight, np.zeros((b, k, spare))], 2)
        masks = np.concatenate([masks, np.zeros((b, k, spare, *masks.shape[3:]), np.float32)], 2)
    return PlanSources(rows, weight, masks)
