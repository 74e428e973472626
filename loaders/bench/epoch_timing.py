"""How loaders are timed beside one another: an epoch each, in an order that turns from round to round.

Only the middle of an epoch counts: its first batches may have been made ahead while another contestant ran, and at its end
nothing is made ahead any more.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from typing import Any

from ..sources.registry import open_source
from .measure import last, turns
from .peers import Setting

Open = Callable[[], AbstractContextManager[Callable[[], Iterable[Any]]]]
"""Opens a contestant for the rounds; what it gives is called for each epoch."""

_SETTLE = 0.25  # seconds for what a contestant still makes ahead after its epoch


def measure_epochs(setting: Setting, cases: dict[str, Open], rounds: int, describe: str) -> dict[str, Any]:
    """Images/s of each case in each round. Every epoch must deliver the same number of batches.

    Raises ``ValueError`` where there is no case.
    """
    return last(epochs_in_turn(setting, cases, rounds, describe))


def epochs_in_turn(
    setting: Setting, cases: dict[str, Open], rounds: int, describe: str, seconds: float | None = None
) -> Iterator[dict[str, Any]]:
    """``measure_epochs`` as far as it has come, after each round; none but the first begins after ``seconds``."""
    import torch

    if not cases:
        raise ValueError("cases must name at least one loader, got none")
    batches = count_batches(setting)
    images = (batches - 2 * _margin(batches)) * setting.batch_size
    synchronize = torch.cuda.synchronize if setting.device != "cpu" else None

    def rate(epoch: Callable[[], Iterable[Any]]) -> float:
        time.sleep(_SETTLE)
        return images / _time_middle(epoch, batches, synchronize)

    with ExitStack() as stack:
        opened = {name: stack.enter_context(open_case()) for name, open_case in cases.items()}

        def ready(name: str) -> Callable[[], float]:
            rate(opened[name])  # an epoch to warm up
            return partial(rate, opened[name])

        yield from turns(
            {name: partial(ready, name) for name in cases}, rounds=rounds, describe=describe, seconds=seconds
        )  # fmt: skip


def count_batches(setting: Setting) -> int:
    """The batches of an epoch."""
    count = len(open_source(setting.folder))
    if count < 4 * setting.batch_size:
        raise ValueError(f"batch_size must be at most a quarter of the {count} images, got {setting.batch_size}")
    return count // setting.batch_size


def _margin(batches: int) -> int:
    """Batches that are not timed, at either end."""
    return batches // 4


def _time_middle(epoch: Callable[[], Iterable[Any]], batches: int, synchronize: Callable[[], None] | None) -> float:
    times = []
    margin = _margin(batches)
    delivered = 0
    for _ in epoch():
        delivered += 1
        if delivered in (margin, batches - margin):
            if synchronize is not None:
                synchronize()
            times.append(time.perf_counter())
    if delivered != batches:
        raise RuntimeError(f"an epoch had {delivered} batches instead of {batches}")
    return times[1] - times[0]
