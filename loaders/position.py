"""Where a loader is: the epoch and step of its next batch, whatever ended the iterator before.

An iterator that runs is followed by its meter, which counts what was delivered. The position is that of the meter until its
epoch is complete or another epoch is asked for after it was left.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable

from mixops.key import Key

from .epoch import Epoch
from .stats import Meter


class Position:
    """The next epoch and step, and the iterator that is under way."""

    def __init__(self) -> None:
        self._epoch, self._step = 0, 0  # where the next iterator begins
        self._rest_only = False  # whether this epoch was asked for by number, even if nothing is left of it
        self.meter: Meter | None = None  # of the last iterator
        self._running: Callable[[], Epoch | None] = lambda: None

    @property
    def running(self) -> Epoch | None:
        """The iterator that is under way, if it is."""
        epoch = self._running()
        return None if epoch is None or epoch.ended else epoch

    def next(self) -> tuple[int, int]:
        """Epoch and step of the next batch."""
        if self.meter is not None and not self.meter.complete:
            return self.meter.epoch, self.meter.step
        return self._epoch, self._step

    def begin(self, steps: Callable[[int], int]) -> tuple[int, int]:
        """Where an iterator that begins now begins, given the steps of an epoch; the one after it begins an epoch later."""
        epoch, step = self._epoch, self._step
        if step >= steps(epoch) and not self._rest_only:
            epoch, step = epoch + 1, 0
        self._epoch, self._step, self._rest_only = epoch + 1, 0, False
        return epoch, step

    def follow(self, epoch: Epoch) -> None:
        """``epoch`` is the iterator that is under way."""
        self.meter, self._running = epoch.meter, weakref.ref(epoch)

    def set_epoch(self, epoch: int) -> None:
        """The epoch of the next iterator; one that is under way goes on, and the position is its own until it ends."""
        if epoch != self._epoch:
            self._epoch, self._step = Key(0, epoch).epoch, 0
        self._rest_only = True
        if self.running is None:
            self.meter = None

    def resume(self, epoch: int, step: int) -> None:
        """The next iterator begins at a step of an epoch."""
        self._epoch, self._step, self._rest_only, self.meter = epoch, step, False, None
