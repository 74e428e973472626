"""The plan of a batch: who is mixed with whom, under which mask, with what label weight.

Every mixer is ``x~ = M * x_i + (1 - M) * x_j`` and ``y~ = w * y_i + (1 - w) * y_j``. For all but picture-shaped masks M is
rank 1 and nine floats say it,

    M(y, x) = v0 + dv * [y0 <= y < y1] * [x0 <= x < x1] * exp(-a * ((y - cy)**2 + (x - cx)**2)),

so its mean costs H + W, a kernel evaluates it in registers, and a plan of 256 images is 10 kB. The floats are float32
because that is what the kernels read: label weights are computed from the very numbers that blend the pixels.

A row of more than two sources says them all in ``more`` (``plan_sources.py``); ``sources`` and ``weights`` say of any plan
what its rows are made of.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float32, Float64, Int32, Int64, UInt8

from .masks import constant_masks, dense_masks, spread
from .plan_checks import check_plan
from .plan_sources import PlanSources, sources_of
from .plan_text import FLAGS, read, written
from .runtime.checks import check_array, check_sequence, check_type


@dataclass(frozen=True, eq=False)
class MixPlan:
    """One batch's mixing, drawn and fixed: b pairs, k outputs each, for images of ``height`` x ``width`` pixels.

    ``partner[i]`` is the second image of row i, ``weight[i, k]`` the label share of the row's own image in output k,
    ``lam`` the share that was sampled (it differs from ``weight`` where a box was clipped or a Gaussian truncated).
    ``params`` holds the nine floats of each mask; ``dense``, where given, holds masks that are not rank 1, uint8 if they
    are 0 or 1 everywhere, and ``params`` is then unused: a value for each pixel, y x x being h x w, or for each of y x x
    blocks of equal size (puzzle-mix). ``moves``, where given, says for each output which block of the own (0) and of the
    partner image (1) is shown at each block of a square grid (puzzle-mix's transport). ``more``, where given, holds rows of
    several sources; ``partner``, ``weight`` and ``params`` are then those of the first two, and moves theirs, too.
    ``inset``, where given, says which rows show their partner whole, made small, in the box of each output's nine floats
    (ResizeMix), and not what the partner has at that place; ``past``, which rows have their partner not in this batch but
    in the one that was mixed before (RecursiveMix).

    Weights and masks are in [0, 1]. Raises ``ValueError`` or ``TypeError`` naming the field for numbers out of range, that
    are none, or of another dtype; only ``dense`` of bool or of other floats is converted.
    """

    partner: Int64[np.ndarray, " b"]
    weight: Float64[np.ndarray, "b k"]
    lam: Float64[np.ndarray, "b k"]
    params: Float32[np.ndarray, "b k 9"]
    height: int
    width: int
    dense: Float32[np.ndarray, "b k y x"] | UInt8[np.ndarray, "b k y x"] | None = None
    moves: Int32[np.ndarray, "b k 2 blocks"] | None = None
    more: PlanSources | None = None
    inset: Bool[np.ndarray, " b"] | None = None
    past: Bool[np.ndarray, " b"] | None = None

    def __post_init__(self) -> None:
        if isinstance(self.dense, np.ndarray) and self.dense.dtype.kind in "fb" and self.dense.dtype != np.float32:
            with np.errstate(over="ignore"):  # what is too large for float32 is refused
                dense = self.dense.astype(np.uint8 if self.dense.dtype == np.bool_ else np.float32)
            object.__setattr__(self, "dense", dense)
        check_plan(self)

    @classmethod
    def identity(cls, batch_size: int, *, interpolations: int = 1, height: int = 1, width: int = 1) -> MixPlan:
        """A plan that mixes nothing: every row is its own partner and keeps every pixel and its whole label."""
        ones = np.ones((batch_size, interpolations))
        return cls(np.arange(batch_size), ones, ones.copy(), constant_masks(ones), height, width)

    @classmethod
    def of_sources(cls, more: PlanSources, *, height: int, width: int, moves: Any = None) -> MixPlan:
        """A plan of rows with several sources. Raises ``ValueError`` unless dense masks are ``height`` x ``width``."""
        first = more.weight[..., 0]
        params = constant_masks(first)
        return cls(more.rows[:, 1].copy(), first.copy(), first.copy(), params, height, width, moves=moves, more=more)

    @property
    def sources(self) -> Int64[np.ndarray, "b s"]:
        """The images that each row is made of: itself and its partner, or all of ``more``."""
        return np.stack([np.arange(self.batch_size), self.partner], 1) if self.more is None else self.more.rows

    @property
    def weights(self) -> Float64[np.ndarray, "b k s"]:
        """The label share of each source in each output."""
        return np.stack([self.weight, 1 - self.weight], 2) if self.more is None else self.more.weight

    @property
    def recalls(self) -> bool:
        """Whether the partner of some row is in the batch that was mixed before."""
        return self.past is not None and bool(self.past.any())

    @property
    def batch_size(self) -> int:
        """Number of pairs b."""
        return self.weight.shape[0]

    @property
    def interpolations(self) -> int:
        """Number of outputs per pair k."""
        return self.weight.shape[1]

    @property
    def constant(self) -> bool:
        """Whether every mask has one value and nothing has a place, so that it fits inputs of any shape."""
        if self.inset is not None:
            return False
        if self.more is not None:
            return self.more.constant and self.moves is None
        return self.dense is None and self.moves is None and not self.params[..., 1].any()

    def mask(self) -> Float64[np.ndarray, "b k h w"]:
        """The masks M, dense: 1 keeps the row's own pixel, 0 shows the partner's. Costs b * k * h * w * 8 bytes.

        Of rows with several sources it is the mask of the first; ``masks`` has all.
        """
        if self.more is not None:
            return self.more.dense(self.height, self.width)[:, :, 0].astype(np.float64)
        if self.dense is not None:
            return spread(self.dense, self.height, self.width).astype(np.float64)
        return dense_masks(self.params, self.height, self.width)

    def masks(self) -> Float64[np.ndarray, "b k s h w"]:
        """The mask of each source at every pixel; they sum to 1. Costs s times what ``mask`` costs."""
        if self.more is not None:
            return self.more.dense(self.height, self.width).astype(np.float64)
        own = self.mask()
        return np.stack([own, 1 - own], 2)

    def rows(self, count: int) -> MixPlan:
        """The plan of the first ``count`` pairs, whose partners must be among them."""
        return replace(
            self,
            partner=self.partner[:count],
            weight=self.weight[:count],
            lam=self.lam[:count],
            params=self.params[:count],
            dense=None if self.dense is None else self.dense[:count],
            moves=None if self.moves is None else self.moves[:count],
            more=None if self.more is None else self.more.of_rows(slice(count)),
            **{name: flags[:count] for name in FLAGS if (flags := getattr(self, name)) is not None},
        )

    def accuracy(self, logits: Any, labels: Any) -> float:
        """Share of right answers on mixed images, an answer counting for its label's weight.

        ``logits`` (b * k, classes), ``labels`` int (b,), torch or numpy. A right guess of the heavier label of a 0.7/0.3
        mixture counts 0.7.
        """
        scores, own = check_array("logits", logits), check_array("labels", labels)
        rows = self.batch_size * self.interpolations
        if scores.ndim != 2 or len(scores) != rows or not scores.shape[1] or own.shape != (self.batch_size,):
            raise ValueError(
                f"logits must have {rows} rows and labels {self.batch_size}, "
                f"got {tuple(scores.shape)} and {tuple(own.shape)}"
            )
        if scores.is_complex() or scores.dtype == torch.bool or own.is_floating_point() or own.is_complex():
            raise TypeError(f"logits must be real and labels integers, got {scores.dtype} and {own.dtype}")
        if self.recalls:
            raise ValueError("accuracy must be that of a plan whose partners are in the batch, whose labels are known")
        guess = scores.detach().argmax(-1).cpu().numpy().reshape(self.weight.shape)  # (b * k,) -> (b, k)
        label = own.cpu().numpy()
        label = label[self.sources]  # (b, s)
        right = (self.weights * (guess[..., None] == label[:, None])).sum(-1)
        return float(right.mean())

    def to_json(self) -> str:
        """The plan as JSON text; floats are written so that they read back bit for bit."""
        return written(self)

    @classmethod
    def from_json(cls, text: str) -> MixPlan:
        """The plan that ``to_json`` wrote. Raises ``ValueError`` for any other text."""
        return read(text, cls)

    def __str__(self) -> str:
        rows = [
            f"  {' + '.join(map(str, self.sources[i]))}: " + " ".join(f"{w:.3f}" for w in self.weight[i])
            for i in range(min(self.batch_size, 8))
        ]
        if self.batch_size > 8:
            rows.append(f"  ... {self.batch_size - 8} more")
        head = f"MixPlan of {self.batch_size} pairs, {self.interpolations} outputs each, {self.height}x{self.width}"
        return "\n".join([f"{head}; row + partner: own label weights", *rows])


def concatenate(plans: Sequence[MixPlan]) -> MixPlan:
    """One plan for the concatenated batches of ``plans``; partners stay within their own batch.

    Raises ``ValueError`` or ``TypeError`` unless there are plans and they have one size, one number of outputs, and all or
    none of them moved blocks.
    """
    plans = check_sequence("plans", plans, "a list of plans")
    if not plans:
        raise ValueError("plans must not be empty")
    for plan in plans:
        check_type("plans", plan, MixPlan, "a list of plans")
    first = plans[0]
    for plan in plans:
        same = (plan.interpolations, plan.height, plan.width) == (first.interpolations, first.height, first.width)
        if not same or (plan.moves is None) != (first.moves is None):
            raise ValueError(f"plans must be alike, got {first} and {plan}")
    if len(plans) == 1:
        return first
    starts = np.cumsum([0] + [plan.batch_size for plan in plans[:-1]])
    more = _concatenate_sources(plans, starts) if any(plan.more is not None for plan in plans) else None
    dense = moves = None
    if more is None and any(plan.dense is not None for plan in plans):
        kinds = {None if plan.dense is None else (plan.dense.dtype, plan.dense.shape[2:]) for plan in plans}
        dense = np.concatenate([plan.dense if len(kinds) == 1 else plan.mask().astype(np.float32) for plan in plans])
    if first.moves is not None:
        moves = np.concatenate([plan.moves for plan in plans if plan.moves is not None])
    flags: dict[str, Any] = {name: np.concatenate(found) for name in FLAGS if (found := flags_of(plans, name))}
    return MixPlan(
        partner=np.concatenate([plan.partner + start for plan, start in zip(plans, starts, strict=True)]),
        weight=np.concatenate([plan.weight for plan in plans]),
        lam=np.concatenate([plan.lam for plan in plans]),
        params=np.concatenate([plan.params for plan in plans]),
        height=first.height, width=first.width, dense=dense, moves=moves, more=more, **flags,
    )  # fmt: skip


def flags_of(plans: Sequence[MixPlan], name: str) -> list[Bool[np.ndarray, " b"]]:
    """A flag of the rows of each plan, False where a plan does not say it; none at all where no plan does."""
    found = [getattr(plan, name) for plan in plans]
    if all(flags is None for flags in found):
        return []
    return [
        np.zeros(plan.batch_size, np.bool_) if flags is None else flags for plan, flags in zip(plans, found, strict=True)
    ]


def _concatenate_sources(plans: Sequence[MixPlan], starts: Int64[np.ndarray, " plans"]) -> PlanSources:
    """The sources of all rows, as many as any row has."""
    count = max(plan.sources.shape[1] for plan in plans)
    dense = not all(replace(plan, moves=None).constant for plan in plans)
    found = [sources_of(plan, count, dense=dense) for plan in plans]
    return PlanSources(
        np.concatenate([part.rows + start for part, start in zip(found, starts, strict=True)]),
        np.concatenate([part.weight for part in found]),
        np.concatenate([part.masks for part in found]),
    )
