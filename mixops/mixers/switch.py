"""Switch: each unit takes one of several mixers at random ("stochastic mixup & CutMix"), without a loop over samples.

The members see the same random numbers and each unit keeps one member's result, so ``Switch([m])`` is ``m`` bit for bit.
timm switches once per batch; ``draw="batch"`` does that.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from ..key import Key
from ..masks import dense_masks
from .base import CHOICE, Mixer, UnitMasks


@dataclass(frozen=True, repr=False)
class Switch(Mixer):
    """Chooses among ``mixers`` with probabilities proportional to ``weights``, equal by default.

    The members keep their own alpha and ``label``. ``draw``, ``prob`` and ``matching`` are the switch's and must be left
    alone in the members. ``interpolations`` may be said here or, alike, in every member. Raises ``ValueError`` or
    ``TypeError`` naming the argument otherwise.
    """

    mixers: Sequence[Mixer]
    weights: Sequence[float] | None = None
    _: KW_ONLY

    def __post_init__(self) -> None:
        super().__post_init__()
        members = tuple(self.mixers)
        if not members:
            raise ValueError("mixers must hold at least one mixer, got none")
        for member in members:
            if not isinstance(member, Mixer) or isinstance(member, Switch):
                raise TypeError(f"mixers must be mixers other than Switch, got {member!r}")
            for name, default in (("draw", "sample"), ("prob", 1.0), ("matching", None)):
                if getattr(member, name) != default:
                    raise ValueError(f"mixers must leave {name} to the Switch, got {member!r}")
        weights = tuple(1.0 for _ in members) if self.weights is None else tuple(float(w) for w in self.weights)
        if len(weights) != len(members):
            raise ValueError(f"weights must have one value a mixer, {len(members)}, got {len(weights)}")
        if not (all(0 <= w < np.inf for w in weights) and sum(weights) > 0):
            raise ValueError(f"weights must be non-negative with a positive sum, got {weights}")
        counts = {member.interpolations for member in members} | {self.interpolations}
        if len(counts - {1}) > 1 or len({member.interpolations for member in members}) > 1:
            raise ValueError(f"interpolations must agree between Switch and mixers, got {sorted(counts)}")
        object.__setattr__(self, "interpolations", max(counts))
        object.__setattr__(self, "mixers", tuple(m.replace(interpolations=max(counts)) for m in members))
        object.__setattr__(self, "weights", weights)

    def replace(self, **changes: Any) -> Switch:
        """The same switch with some fields changed; new ``interpolations`` hold for the members too."""
        if "interpolations" in changes and "mixers" not in changes:
            k = changes["interpolations"]
            changes["mixers"] = tuple(member.replace(interpolations=k) for member in self.mixers)
        return super().replace(**changes)

    def draw_units(self, key: Key, u: Float64[np.ndarray, "u words"], height: int, width: int) -> UnitMasks:
        """The masks of all units, each from the member it chose."""
        edges = np.cumsum(np.asarray(self.weights))
        choice = np.searchsorted(edges / edges[-1], u[:, CHOICE], side="right")  # the last edge is 1, above every u
        drawn = [member.draw_units(key, u, height, width) for member in self.mixers]
        dense = None
        if any(masks.dense is not None for masks in drawn):
            dense = np.empty((*drawn[0].lam.shape, height, width), np.float32)
            for i, masks in enumerate(drawn):
                mine = choice == i
                if masks.dense is None:
                    dense[mine] = dense_masks(masks.params[mine], height, width)
                else:
                    dense[mine] = masks.dense[mine]
        rows = np.arange(len(u))
        lam, weight, params = (
            np.stack([getattr(masks, name) for masks in drawn])[choice, rows] for name in ("lam", "weight", "params")
        )
        return UnitMasks(lam, weight, params, dense)
