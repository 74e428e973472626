"""How a training loop is left in the middle by the soak test: what programs, people and machines do to one."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from loaders import ImageLoader
from loaders.sources import storage

WAYS = ("break", "exception", "interrupt", "close", "dropped", "set_epoch", "fork", "storage gone", "transient error")


class Interruption(Exception):
    """Raised in the middle of a training loop."""


def digest(batch: Any) -> str:
    """A batch in a few letters."""
    return hashlib.sha256(batch[0].numpy().tobytes() + batch[1].numpy().tobytes()).hexdigest()[:16]


@contextmanager
def interrupt_after(seconds: float) -> Iterator[None]:
    """A KeyboardInterrupt at a moment that nobody chose."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)


@contextmanager
def failing_reads(every: int) -> Iterator[None]:
    """Every so many reads of a file fail as those of a busy server do, and are good when they are tried again."""
    read, count, lock = storage._read, 0, threading.Lock()

    def sometimes(path: str) -> bytes:
        nonlocal count
        with lock:
            count += 1
            failing = count % every == 0
        if failing:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read(path)

    with mock.patch.object(storage, "_read", sometimes), mock.patch.object(storage, "_WAITS", (0.0, 0.0, 0.0, 0.0)):
        yield


@contextmanager
def without(root: Path) -> Iterator[None]:
    """The folder or file is not where it was, and comes back."""
    away = root.with_name(f"{root.name} away")
    root.rename(away)
    try:
        yield
    finally:
        away.rename(root)


def fork() -> None:
    """A child of this process begins and ends at once, as those of ``subprocess`` and of loggers do."""
    child = os.fork()
    if child == 0:
        os._exit(0)
    if os.waitpid(child, 0)[1] != 0:
        raise AssertionError("a child ended with an error")


def some_batches(
    loader: ImageLoader, root: Path, count: int, how: str, epoch_of: Callable[[dict[str, Any]], int]
) -> tuple[list[str], dict[str, Any]]:
    """Up to ``count`` batches and the state after them; the loop is left in the way of ``WAYS`` that ``how`` names."""
    got: list[str] = []
    state = loader.state_dict()
    patience = failing_reads(7) if how == "transient error" else nullcontext()
    with patience, suppress(Interruption, KeyboardInterrupt):
        batches = iter(loader)
        for batch in batches:
            got.append(digest(batch))
            state = loader.state_dict()
            if how == "set_epoch":  # of the epoch that comes anyway: this one goes on
                loader.set_epoch(epoch_of(state) + 1)
            elif how == "fork":
                fork()
            if len(got) < count:
                continue
            if how == "exception":
                raise Interruption
            if how == "interrupt":
                with interrupt_after(random.random() / 50):  # only this moment is left to chance
                    list(loader)  # the next epoch, cut off anywhere
            if how == "storage gone":
                with without(root), suppress(RuntimeError, OSError):
                    list(batches)
            if how == "close":
                loader.close()
            break
    return got, state
