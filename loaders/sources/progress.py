"""Long work on many files: in threads, with a bar on a terminal, and an end to waiting for one that does not answer."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, wait
from typing import TypeVar

from rich.console import Console
from rich.progress import Progress

from ..daemon_pool import DaemonPool
from ..printable import printable

T = TypeVar("T")
TIMEOUT = 300.0  # seconds
_POLL = 0.5
Turn = Callable[[str], None]  # what work calls to say which file it turns to


def run_with_progress(
    work: Callable[[T, Turn], int],
    tasks: Sequence[T],
    total: int,
    text: str,
    threads: int,
    *,
    timeout: float = TIMEOUT,
    alive: Callable[[], None] = lambda: None,
) -> None:
    """Run ``work(task, turn)`` on every task in threads; a bar on a terminal counts what it returns.

    ``work`` calls ``turn(name)`` before whatever may hang. ``alive`` is called now and then while there is progress. Raises
    what ``work`` raises, and ``TimeoutError`` naming what a thread has been at for more than ``timeout`` seconds.
    """
    show = sys.stderr.isatty() and len(tasks) > 1
    watch = _Watch(timeout)
    pool = DaemonPool(min(threads, len(tasks)), "mixstage-scan")
    finished = False
    try:
        with Progress(console=Console(stderr=True), transient=True, disable=not show) as progress:
            bar = progress.add_task(text, total=total)
            for future in [pool.submit(watch.run, work, task) for task in tasks]:
                while not wait([future], _POLL).done:
                    watch.check(alive)
                progress.advance(bar, future.result())
                watch.check(alive)
        finished = True
    finally:
        watch.stopped = True
        pool.shutdown(wait=finished)  # after an error, or Ctrl-C, one of them may be stuck


class _Watch:
    """What every thread is at, and since when."""

    def __init__(self, timeout: float) -> None:
        self.stopped = False
        self._timeout = timeout
        self._at: dict[int, tuple[str, float]] = {}
        self._newest = self._told = 0.0

    def run(self, work: Callable[[T, Turn], int], task: T) -> int:
        """``work`` on one task, watched."""
        try:
            return work(task, self._turn)
        finally:
            self._at.pop(threading.get_ident(), None)

    def _turn(self, name: str) -> None:
        if self.stopped:
            raise CancelledError
        self._newest = time.monotonic()
        self._at[threading.get_ident()] = name, self._newest

    def check(self, alive: Callable[[], None]) -> None:
        """Raises ``TimeoutError`` if a thread hangs; else says ``alive`` if there was progress since it last did."""
        now = time.monotonic()
        for name, since in list(self._at.values()):
            if now - since > self._timeout:
                raise TimeoutError(f"waited {self._timeout:g} s for {printable(name)}")
        if self._newest > self._told and now - self._told > _POLL:
            self._told = now
            alive()
