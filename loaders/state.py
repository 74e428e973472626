"""The state of a loader: a position, and what must not change for the position to mean the same batch."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np

from mixops.mixers.base import Mixer

from .sizes import Sizes
from .sources.base import Source
from .step import StepPlanner
from .transform import Transform, transform_name

_VERSION = 1


@dataclass(frozen=True)
class LoaderState:
    """The next batch is step ``step`` of ``epoch``, under a ``config`` of JSON values.

    ``mix_group`` in the config is a pair: the argument, and the rows it came to. Where it was left alone both times, the
    rows may differ (another number of ranks), and only the ids continue, not the partners.
    """

    epoch: int
    step: int
    config: dict[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As JSON values."""
        return {"version": _VERSION, "epoch": self.epoch, "step": self.step, "config": dict(self.config)}

    @classmethod
    def from_dict(cls, state: Any) -> LoaderState:
        """The state that ``to_dict`` made. Raises ``ValueError`` for anything else."""
        if not isinstance(state, dict) or state.get("version") != _VERSION:
            raise ValueError(f"state must be one of version {_VERSION} made by state_dict(), got {state!r:.200}")
        loaded = cls(*(state.get(name) for name in ("epoch", "step", "config")))  # type: ignore[arg-type]  # checked now
        if not (_is_count(loaded.epoch) and _is_count(loaded.step) and isinstance(loaded.config, dict)):
            raise ValueError(f"state must have an epoch, a step and a config made by state_dict(), got {state!r:.200}")
        return loaded

    def check(self, config: dict[str, Any]) -> None:
        """Raise ``ValueError`` naming whatever differs between this state's configuration and ``config``."""
        names = sorted(self.config.keys() | config.keys())
        changed = [name for name in names if not _same(name, self.config.get(name), config.get(name))]
        if changed:
            text = "; ".join(f"{name} was {self.config.get(name)!r} and is {config.get(name)!r}" for name in changed)
            raise ValueError(f"state must come from a loader of the same configuration, but {text}")


def run_config(source: Source, planner: StepPlanner, mixer: Mixer | None, transform: Transform | None) -> dict[str, Any]:
    """What must not change between a state and its use, as JSON values."""
    p, schedule, chosen = planner, planner.schedule, planner.candidates
    return {
        "dataset": f"{len(source)} images, {source.digest}",
        "size": repr(p.size) if isinstance(p.size, Sizes) else list(p.size),
        "crop": repr(p.crop),
        "flip": repr(p.flip),
        "augment": None if p.augmentation is None else [repr(p.augmentation), list(p.mean), list(p.std)],
        "transform": transform_name(transform),
        "mixer": repr(mixer),
        "seed": schedule.seed,
        "global_batch_size": schedule.batch_size,
        "batch_sizes": None if p.batch_sizes is None else repr(p.batch_sizes),
        "sampling": repr(schedule.sampling),
        "indices": None if chosen is None else hashlib.sha256(np.ascontiguousarray(chosen).data).hexdigest()[:16],
        "views": p.views,
        "crops": [repr(one) for one in p.named] or None,
        "drop_last": schedule.drop_last,
        "mix_group": [schedule.mix_group, schedule.group_size],
        **({"decode": "fast"} if p.fast else {}),
    }


def _same(name: str, old: Any, new: Any) -> bool:
    if name == "mix_group" and isinstance(old, list) and isinstance(new, list) and len(old) == len(new) == 2:
        return old[0] == new[0] or old[1] == new[1]
    return bool(old == new)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
