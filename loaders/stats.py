"""Where a loader is and what it has done: position, rates, waits and bad files."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass

_log = logging.getLogger("mixstage")


@dataclass(frozen=True)
class LoaderStats:
    """Figures of the epoch that is running, or of the last one.

    ``images`` of the data set were delivered as ``outputs`` images to train on: with K interpolations or views K for each.
    ``images_per_second`` and ``outputs_per_second`` count those after the first batch, delivered in ``seconds``; the first
    came after ``warmup`` seconds, in which files are opened and code is compiled, and counts in neither. They are 0 until
    there is a second batch. The consumer spent the share ``waited`` of ``seconds`` waiting for batches. ``step`` is the
    number of steps delivered, those before a resume included. ``queue`` batches lie ready. ``bad_files`` were reported.
    """

    epoch: int
    step: int
    images: int
    outputs: int
    warmup: float
    seconds: float
    images_per_second: float
    outputs_per_second: float
    waited: float
    queue: int
    bad_files: int


class Meter:
    """Counts what one epoch has delivered; ``step`` is the next one, ``complete`` says that there was none."""

    def __init__(self, epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step
        self.complete = False
        self._images = self._outputs = 0
        self._first = (0, 0)  # images and outputs of the first batch
        self._waited = 0.0
        self._began = time.perf_counter()
        self._warm: float | None = None  # when the first batch was delivered
        self._ended: float | None = None

    def took(self, images: int, outputs: int, waited: float) -> None:
        """A batch of ``images``, seen as ``outputs``, was delivered after ``waited`` seconds."""
        self.step += 1
        self._images += images
        self._outputs += outputs
        if self._warm is None:
            self._warm, self._first = time.perf_counter(), (images, outputs)
        else:
            self._waited += waited

    def end(self) -> None:
        """Stop the clock."""
        if self._ended is None:
            self._ended = time.perf_counter()

    def stats(self, queue: int, bad_files: int) -> LoaderStats:
        """The figures so far."""
        now = self._ended or time.perf_counter()
        warm = now if self._warm is None else self._warm
        seconds = max(now - warm, 1e-9)
        images, outputs = self._images - self._first[0], self._outputs - self._first[1]
        return LoaderStats(
            self.epoch, self.step, self._images, self._outputs, warm - self._began, seconds, images / seconds,
            outputs / seconds, self._waited / seconds, queue, bad_files,
        )  # fmt: skip


def log_epoch(stats: LoaderStats) -> None:
    """One line for a finished epoch."""
    _log.info(
        "epoch %d: %d steps, %d images as %d outputs, %.0f images/s after %.1f s of warm-up, waited %.1f %% of the time, "
        "%d bad files so far",
        stats.epoch, stats.step, stats.images, stats.outputs, stats.images_per_second, stats.warmup, 100 * stats.waited,
        stats.bad_files,
    )  # fmt: skip
