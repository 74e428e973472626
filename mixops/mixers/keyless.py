"""The step counter of a mixer that is called without a key, as a collate function or timm's ``mixup_fn`` is.

In a DataLoader worker the seed is the worker's own (torch draws a new one each epoch), so that workers and epochs differ;
in the main process it is ``torch.initial_seed()``. The rank is that of ``torch.distributed`` or, in a worker that was not
forked from an initialised process, the environment variable RANK that launchers set: ranks are often seeded alike.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from ..key import Key
from ..runtime.checks import check_count, shown
from ..runtime.ranks import launched_rank


class StepCounter:
    """Counts calls and turns the count into keys."""

    def __init__(self) -> None:
        self._seed: int | None = None
        self._step = 0

    def next_key(self) -> Key:
        """The key of the next call."""
        worker = torch.utils.data.get_worker_info()
        if worker is not None:
            seed = worker.seed
        else:
            self._seed = torch.initial_seed() if self._seed is None else self._seed
            seed = self._seed
        key = Key(seed % 2**64, 0, self._step, launched_rank())
        self._step += 1
        return key

    def state_dict(self) -> dict[str, int]:
        """The seed and the number of calls so far."""
        return {"seed": torch.initial_seed() if self._seed is None else self._seed, "step": self._step}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues from ``state``."""
        if not isinstance(state, Mapping) or set(state) != {"seed", "step"}:
            raise ValueError(f"state must have the keys seed and step, got {shown(state)}")
        seed = check_count("the seed of state", state["seed"], -(2**63), 2**64 - 1)  # torch's are signed and unsigned
        self._seed, self._step = seed, check_count("the step of state", state["step"], 0, 2**64 - 1)
