"""A pool of threads: results, errors, order, its end, and no thread that anybody waits for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from concurrent.futures import CancelledError

import pytest

from loaders.daemon_pool import DaemonPool


def running() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("pool-test")]


def test_results_and_errors() -> None:
    pool = DaemonPool(3, "pool-test")
    futures = [pool.submit(divmod, 7, divisor) for divisor in (1, 2, 0, 4)]
    assert [futures[i].result(20) for i in (0, 1, 3)] == [(7, 0), (3, 1), (1, 3)]
    with pytest.raises(ZeroDivisionError):
        futures[2].result(20)
    pool.shutdown(wait=True)
    assert running() == []


def test_begun_in_order() -> None:
    pool, begun = DaemonPool(1, "pool-test"), []
    futures = [pool.submit(begun.append, i) for i in range(100)]
    futures[-1].result(20)
    assert begun == list(range(100))
    pool.shutdown(wait=True)


def test_shutdown_cancels_what_has_not_begun() -> None:
    pool, gate, began = DaemonPool(2, "pool-test"), threading.Event(), threading.Event()
    first = pool.submit(lambda: (began.set(), gate.wait(20)))
    assert began.wait(20)
    second = pool.submit(gate.wait, 20)
    deadline = time.monotonic() + 20
    while not second.running() and time.monotonic() < deadline:
        time.sleep(0.001)
    third = pool.submit(divmod, 1, 1)
    pool.shutdown(wait=False)
    with pytest.raises(CancelledError):
        third.result(20)
    gate.set()
    assert first.result(20) and second.result(20)
    deadline = time.monotonic() + 20
    while running() and time.monotonic() < deadline:
        time.sleep(0.001)
    assert running() == []


def test_the_process_ends_while_a_call_runs() -> None:
    code = "import threading\nfrom loaders.daemon_pool import DaemonPool\nDaemonPool(1, 'x').submit(threading.Event().wait)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
