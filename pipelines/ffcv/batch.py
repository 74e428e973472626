"""A batch on its way through FFCV's stages: its key, and its plan once it is drawn.

Stages see arrays and nothing else, and FFCV copies them; so the thread that runs them keeps the batch where they find it, in
a thread-local value.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64

from mixops.key import Key
from mixops.mixers.base import Mixer
from mixops.plan import MixPlan

_running = threading.local()


@dataclass(eq=False)
class Batch:
    """A batch on its way through the stages: the samples in it, the key it is drawn from, and the plan once it is drawn.

    ``rows`` are its positions in the global batch.
    """

    ids: Int64[np.ndarray, " b"]
    rows: Int64[np.ndarray, " b"]
    key: Key
    mixer: Mixer | None
    plan: MixPlan | None = field(default=None, init=False)

    def draw(self, height: int, width: int, images: Any) -> MixPlan:
        """The plan; the first to ask draws it. ``images`` (b, c, h, w) are looked at by a matching."""
        if self.plan is None:
            b = len(self.ids)
            if self.mixer is None:
                self.plan = MixPlan.identity(b, height=height, width=width)
            else:
                self.plan = self.mixer.plan(self.key, batch_size=b, height=height, width=width, images=images)
        return self.plan


def running_batch() -> Batch:
    """The batch that the stages of this thread are working on."""
    batch: Batch = _running.batch
    return batch


@contextmanager
def running(batch: Batch) -> Iterator[Batch]:
    """Makes ``batch`` the one that the stages of this thread are working on."""
    _running.batch = batch
    try:
        yield batch
    finally:
        del _running.batch
