"""Switch: each unit takes one of several mixers at random ("stochastic mixup & CutMix"), without a loop over samples.

The members plan the same pairs from the same random numbers and each row keeps one member's plan, so ``Switch([m])`` is
``m`` bit for bit and members may need images and saliency. timm switches once per batch; ``draw="batch"`` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from math import isqrt, lcm
from typing import Any

import numpy as np
from jaxtyping import Float32, Int32, Int64

from ..masks import dense_masks, spread
from ..plan import MixPlan, flags_of
from ..plan_sources import PlanSources, sources_of
from ..plan_text import FLAGS
from ..runtime.checks import check_numbers, check_sequence, set_fields
from .base import APPLY, CHOICE, Mixer, Pairs, refuse_matching


@dataclass(frozen=True, repr=False)
class Switch(Mixer):
    """Chooses among ``mixers`` with probabilities proportional to ``weights``, equal by default.

    The members keep their own alpha and ``label``. ``draw``, ``prob``, ``matching``, ``num_classes`` and ``smoothing`` are
    the switch's and must be left alone in the members. ``interpolations`` may be said here or, alike, in every member. It
    ``needs`` what any member needs. Raises ``ValueError`` or ``TypeError`` naming the argument otherwise.
    """

    mixers: Sequence[Mixer]
    weights: Sequence[float] | None = None
    _: KW_ONLY

    def __post_init__(self) -> None:
        super().__post_init__()
        members = check_sequence("mixers", self.mixers, "a list of mixers")
        if not members:
            raise ValueError("mixers must hold at least one mixer, got none")
        for member in members:
            if not isinstance(member, Mixer) or isinstance(member, Switch):
                raise TypeError(f"mixers must be mixers other than Switch, got {member!r}")
            for name in ("draw", "prob", "matching", "num_classes", "smoothing"):
                if getattr(member, name) != getattr(Mixer, name):
                    raise ValueError(f"mixers must leave {name} to the Switch, got {member!r}")
        weights = (1.0,) * len(members) if self.weights is None else check_numbers("weights", self.weights, 0)
        if len(weights) != len(members):
            raise ValueError(f"weights must have one value a mixer, {len(members)}, got {len(weights)}")
        if not 0 < sum(weights) < np.inf:
            raise ValueError(f"weights must be non-negative with a positive, finite sum, got {weights}")
        counts = {member.interpolations for member in members} | {self.interpolations}
        if len(counts - {1}) > 1 or len({member.interpolations for member in members}) > 1:
            raise ValueError(f"interpolations must agree between Switch and mixers, got {sorted(counts)}")
        k = max(counts)
        set_fields(self, interpolations=k, mixers=tuple(m.replace(interpolations=k) for m in members), weights=weights)
        refuse_matching(self)

    @property
    def mask_needs(self) -> frozenset[str]:
        """What any member's masks look at."""
        return frozenset[str]().union(*(member.mask_needs for member in self.mixers))

    @property
    def period(self) -> int:
        """After so many steps all members begin anew."""
        return lcm(*(member.period for member in self.mixers))

    @property
    def constant(self) -> bool:
        """Whether the masks of all members are."""
        return all(member.constant for member in self.mixers)

    def replace(self, **changes: Any) -> Switch:
        """The same switch with some fields changed; new ``interpolations`` hold for the members too."""
        if "interpolations" in changes and "mixers" not in changes:
            k = changes["interpolations"]
            changes["mixers"] = tuple(member.replace(interpolations=k) for member in self.mixers)
        return super().replace(**changes)

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen, each unit from the member it chose, or left alone."""
        plans = [member.plan_pairs(pairs) for member in self.mixers]
        u, partner = self.words(pairs.key, pairs.unit), pairs.partner
        edges = np.cumsum(np.asarray(self.weights))
        choice = np.searchsorted(edges / edges[-1], u[:, CHOICE], side="right")  # the last edge is 1, above every u
        untouched = u[:, APPLY] >= self.prob
        if untouched.any():
            choice[untouched] = len(plans)
            size = {"height": pairs.height, "width": pairs.width}
            alone = MixPlan.identity(len(partner), interpolations=self.interpolations, **size)
            plans.append(replace(alone, partner=partner))
        return _choose(plans, choice[pairs.unit], partner)


def _choose(plans: Sequence[MixPlan], choice: Int64[np.ndarray, " b"], partner: Int64[np.ndarray, " b"]) -> MixPlan:
    """Row i of plan ``choice[i]``, for each row; the plans are for one batch and one size."""
    rows = np.arange(len(choice))
    if any(plan.more is not None for plan in plans):
        return _choose_sources(plans, choice)
    lam, weight, params = (
        np.stack([getattr(plan, name) for plan in plans])[choice, rows] for name in ("lam", "weight", "params")
    )
    size = plans[0].height, plans[0].width
    parts = _choose_dense(plans, choice), _choose_moves(plans, choice)
    return MixPlan(partner, weight, lam, params, *size, *parts, **_choose_flags(plans, choice))


def _choose_sources(plans: Sequence[MixPlan], choice: Int64[np.ndarray, " b"]) -> MixPlan:
    """The same where rows of some plans have several sources: as many as any row has."""
    count = max(plan.sources.shape[1] for plan in plans)
    dense = not all(replace(plan, moves=None).constant for plan in plans)
    found = [sources_of(plan, count, dense=dense) for plan in plans]
    rows = np.arange(len(choice))
    parts = (np.stack([getattr(part, name) for part in found])[choice, rows] for name in ("rows", "weight", "masks"))
    size = {"height": plans[0].height, "width": plans[0].width}
    plan = MixPlan.of_sources(PlanSources(*parts), **size, moves=_choose_moves(plans, choice))
    flags = _choose_flags(plans, choice)
    names = ("lam", "params") if "inset" in flags else ("lam",)  # what is inset has its box in the nine floats
    chosen = {name: np.stack([getattr(plan, name) for plan in plans])[choice, rows] for name in names}
    return replace(plan, **chosen, **flags)


def _choose_dense(plans: Sequence[MixPlan], choice: Int64[np.ndarray, " b"]) -> Float32[np.ndarray, "b k h w"] | None:
    if all(plan.dense is None for plan in plans):
        return None
    first = plans[0]
    dense = np.empty((*first.weight.shape, first.height, first.width), np.float32)
    for i, plan in enumerate(plans):
        mine = choice == i
        size = plan.height, plan.width
        dense[mine] = dense_masks(plan.params[mine], *size) if plan.dense is None else spread(plan.dense[mine], *size)
    return dense


def _choose_flags(plans: Sequence[MixPlan], choice: Int64[np.ndarray, " b"]) -> dict[str, Any]:
    """The flags of the rows that any plan says."""
    rows = np.arange(len(choice))
    return {name: np.stack(found)[choice, rows] for name in FLAGS if (found := flags_of(plans, name))}


def _choose_moves(plans: Sequence[MixPlan], choice: Int64[np.ndarray, " b"]) -> Int32[np.ndarray, "b k 2 blocks"] | None:
    """Moves on the coarsest grid that all grids divide; rows of plans without moves move nothing."""
    moving = {i: plan.moves for i, plan in enumerate(plans) if plan.moves is not None}
    if not moving:
        return None
    side = lcm(*(isqrt(moves.shape[-1]) for moves in moving.values()))
    chosen = np.empty((*plans[0].weight.shape, 2, side * side), np.int32)
    chosen[:] = np.arange(side * side)
    for i, moves in moving.items():
        mine = choice == i
        chosen[mine] = _refine(moves[mine], side)
    return chosen


def _refine(moves: Int32[np.ndarray, "... blocks"], side: int) -> Int32[np.ndarray, "... finer"]:
    """The same moves said on a finer grid of ``side`` x ``side`` blocks."""
    n = isqrt(moves.shape[-1])
    m = side // n
    y, x = np.divmod(np.arange(side * side), side)
    coarse = moves[..., y // m * n + x // m]  # the block shown at each place of the finer grid
    return ((coarse // n * m + y % m) * side + coarse % n * m + x % m).astype(np.int32)
