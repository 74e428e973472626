"""Where a loader is and what it has done: position, rates, waits and bad files."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

_log = logging.getLogger("mixstage")


@dataclass(frozen=True)
class LoaderStats:
    """Figures of the epoch that is running, or of the last one.

    ``images`` were delivered in ``seconds`` since the epoch was begun, ``images_per_second`` of them; the consumer spent the
    share ``waited`` of that time waiting for batches. ``step`` is the number of steps delivered, those before a resume
    included. ``queue`` batches lie ready. ``bad_files`` were reported so far.
    """

    epoch: int
    step: int
    images: int
    seconds: float
    images_per_second: float
    waited: float
    queue: int
    bad_files: int


class Meter:
    """Counts what one epoch has delivered; ``step`` is the next one, ``complete`` says that there was none."""

    def __init__(self, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step
        self.complete = False
        self._images = 0
        self._waited = 0.0
        self._began = time.perf_counter()
        self._ended: float | None = None

    def took(self, images: int, waited: float) -> None:
        """A batch was delivered after ``waited`` seconds."""
        self.step += 1
        self._images += images
        self._waited += waited

    def end(self) -> None:
        """Stop the clock."""
        if self._ended is None:
            self._ended = time.perf_counter()

    def stats(self, queue: int, bad_files: int) -> LoaderStats:
        """The figures so far."""
        seconds = max((self._ended or time.perf_counter()) - self._began, 1e-9)
        return LoaderStats(
            self.epoch, self.step, self._images, seconds, self._images / seconds, self._waited / seconds, queue, bad_files
        )


def log_epoch(stats: LoaderStats) -> None:
    """One line for a finished epoch."""
    _log.info(
        "epoch %d: %d steps, %d images in %.1f s, %.0f images/s, waited %.1f %% of the time, %d bad files so far",
        stats.epoch, stats.step, stats.images, stats.seconds, stats.images_per_second, 100 * stats.waited, stats.bad_files,
    )  # fmt: skip
