"""An iterator in a thread: so far ahead and no further, errors in their place, an end that comes from either side."""

from __future__ import annotations

import gc
import threading
from collections.abc import Generator

import pytest

from loaders.worker_thread import WorkerThread

LONG = 60.0  # seconds that nothing here takes, however busy the machine is


class Counting:
    """Items 0, 1, ... below ``end``; says when each was asked for and when it was closed."""

    def __init__(self, end: int = 1000, error: BaseException | None = None) -> None:
        self.asked = threading.Semaphore(0)
        self.closed = threading.Event()
        self._end, self._error = end, error

    def __iter__(self) -> Generator[int, None, None]:
        try:
            for i in range(self._end):
                self.asked.release()
                yield i
            if self._error is not None:
                raise self._error
        finally:
            self.closed.set()


def wait_for(semaphore: threading.Semaphore, times: int) -> None:
    for _ in range(times):
        assert semaphore.acquire(timeout=LONG)


@pytest.mark.parametrize("depth", [1, 2, 5])
def test_works_so_far_ahead_and_no_further(depth: int) -> None:
    items = Counting()
    worker = WorkerThread(iter(items), depth, LONG)
    try:
        for taken in range(4):
            wait_for(items.asked, depth if taken == 0 else 1)
            assert not items.asked.acquire(timeout=0.05)  # nor any more later: the thread waits
            assert worker.next("an item") == taken
    finally:
        worker.close()
    assert items.closed.is_set()


def test_the_end_and_errors_come_after_the_items_before_them() -> None:
    for error, kind in ((None, StopIteration), (ValueError("broken"), ValueError), (KeyboardInterrupt(), KeyboardInterrupt)):
        worker = WorkerThread(iter(Counting(3, error)), 2, LONG)
        assert [worker.next("an item") for _ in range(3)] == [0, 1, 2]
        for _ in range(2):  # it stays the end
            with pytest.raises(kind):
                worker.next("an item")


def test_a_wait_ends_with_what_was_waited_for() -> None:
    gate = threading.Event()

    def hanging() -> Generator[int, None, None]:
        gate.wait(LONG)
        yield 0

    worker = WorkerThread(hanging(), 1, 0.1)
    with pytest.raises(TimeoutError, match=r"waited 0\.1 s for step 3"):
        worker.next("step 3")
    gate.set()
    worker.close()


def test_nothing_refers_to_it_any_more() -> None:
    items = Counting()
    worker = WorkerThread(iter(items), 2, LONG)
    assert worker.next("an item") == 0
    del worker
    gc.collect()
    assert items.closed.wait(LONG)


def test_closed_it_has_no_more_items() -> None:
    worker = WorkerThread(iter(Counting()), 3, LONG)
    worker.close()
    worker.close()
    with pytest.raises(StopIteration):
        worker.next("an item")
