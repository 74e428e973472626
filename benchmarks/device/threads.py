"""What the processors do meanwhile: the time that the threads of this process get, by name, from Linux."""

from __future__ import annotations

import os
import re
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_NUMBER = re.compile(r"[\s_:#-]*\d+$")


def processors_used(epoch: Callable[[], Iterable[Any]]) -> tuple[dict[str, float], dict[str, int]]:
    """Processors that each kind of thread kept busy during an epoch, and how many such threads there were.

    What threads did after the last batch that they saw is in "ended".
    """
    began, before = time.perf_counter(), _seconds()
    process = time.process_time()
    after: dict[int, tuple[str, float]] = {}
    for _ in epoch():
        after |= _seconds()  # also of threads that end before the epoch
    seconds, used = time.perf_counter() - began, time.process_time() - process
    found: dict[str, float] = defaultdict(float)
    names: dict[int, str] = {}
    for thread, (name, spent) in after.items():
        found[name] += spent - before.get(thread, (name, 0.0))[1]
        names[thread] = name
    found["ended"] = max(0.0, used - sum(found.values()))
    return {name: spent / seconds for name, spent in found.items()}, dict(Counter(names.values()))


def _seconds() -> dict[int, tuple[str, float]]:
    """Name and processor seconds of every thread of this process."""
    python = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for folder in Path("/proc/self/task").iterdir():
        try:
            text = (folder / "stat").read_text()
        except OSError:  # it ended
            continue
        name, _, rest = text.partition("(")[2].rpartition(")")
        user, system = rest.split()[11:13]
        thread = int(folder.name)
        found[thread] = _NUMBER.sub("", python.get(thread, name)), (int(user) + int(system)) * _TICK
    return found
