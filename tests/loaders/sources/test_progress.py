"""Work on many files in threads: all of it is done, errors come out, and one that hangs is named."""

from __future__ import annotations

import threading
import time
from types import SimpleNamespace

import pytest

from loaders.sources import progress
from loaders.sources.progress import Turn, run_with_progress


def test_all_tasks_are_done() -> None:
    done: list[int] = []
    run_with_progress(lambda task, turn: done.append(task) or 1, list(range(1000)), 1000, "", 7)
    assert sorted(done) == list(range(1000))
    run_with_progress(lambda task, turn: 1, [], 0, "", 7)


def test_errors_come_out_and_stop_the_rest() -> None:
    begun: list[int] = []

    def work(task: int, turn: Turn) -> int:
        turn(str(task))
        begun.append(task)
        if task == 3:
            raise ValueError("three")
        time.sleep(0.001)
        return 1

    with pytest.raises(ValueError, match="three"):
        run_with_progress(work, list(range(10_000)), 10_000, "", 2)
    assert len(begun) < 10_000


def test_what_hangs_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progress, "_POLL", 0.01)
    gate = threading.Event()

    def work(task: int, turn: Turn) -> int:
        for name in ("a", "b\x1b", "c"):
            turn(f"{task}{name}")
            if (task, name) == (5, "b\x1b"):
                gate.wait(300)
        return 1

    with pytest.raises(TimeoutError, match=r"waited 4 s for 5b\\x1b$"):
        run_with_progress(work, list(range(8)), 8, "", 2, timeout=4)  # longer than a busy machine leaves a thread alone
    gate.set()


def test_slow_is_not_stuck(monkeypatch: pytest.MonkeyPatch) -> None:
    """What counts is the time at one file; ``alive`` is told while there is progress."""
    now, told = 0.0, threading.Semaphore(0)
    monkeypatch.setattr(progress, "_POLL", 0.01)
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now))

    def work(task: int, turn: Turn) -> int:
        nonlocal now
        for i in range(20):
            now += 1.0
            turn(str(i))
            assert told.acquire(timeout=300)
        return 1

    run_with_progress(work, [0], 1, "", 2, timeout=10, alive=told.release)
    assert now == 20
