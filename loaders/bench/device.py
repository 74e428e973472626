"""Seconds that a CUDA device works on a call, whatever the host does meanwhile.

A batch is mixed in less time than a launch takes, so a clock on the host would measure Python. Calls that can be captured
are replayed as one CUDA graph between two events; of any others the profiler adds up kernels and copies.

What is compiled first is compiled by processes side by side, which leave it in the caches on disk: a device is too dear to
wait for one compiler.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import cycle
from multiprocessing import get_context
from statistics import median
from typing import Any

import torch

from ..processors import usable_processors
from .measure import clock


@dataclass(frozen=True)
class Clocks:
    """How calls are timed on ``device``: each method makes a function that returns seconds a call.

    A clock on the host counts ``calls`` calls, fewer launches than the device's queue holds. Without a GPU all are a clock
    around one call made once, so that a script can be tried where there is none.
    """

    device: torch.device
    calls: int = 50

    @property
    def synchronize(self) -> Callable[[], None] | None:
        """What makes a clock on the host tell the device's time."""
        return torch.cuda.synchronize if self.device.type == "cuda" else None

    def graph(self, call: Callable[[], object]) -> Callable[[], float]:
        """Of the device, replayed as a graph."""
        return self.called(call) if self.synchronize is None else graph_seconds(call)

    def busy(self, call: Callable[[], object]) -> Callable[[], float]:
        """Of the device, for calls that cannot be captured: what a graph of them would take at least."""
        return self.called(call) if self.synchronize is None else partial(busy_seconds, call)

    def called(self, call: Callable[[], object]) -> Callable[[], float]:
        """Of one call of many, whoever is slower, device or host."""
        return partial(_tried, call) if self.synchronize is None else partial(clock, call, self.calls, self.synchronize)

    def host(self, call: Callable[[], object]) -> Callable[[], float]:
        """Of the host alone, until the call has enqueued its work."""
        return self.called(call) if self.synchronize is None else partial(_host_seconds, call, self.calls)

    def copy(self, count: int) -> Callable[[], float]:
        """Of a copy that reads and writes ``count`` bytes in all."""
        if self.synchronize is not None:
            return copy_seconds(count)
        to, source = (torch.zeros(count // 2, dtype=torch.uint8) for _ in range(2))
        return self.called(lambda: to.copy_(source))


def run_ahead(tasks: Sequence[Callable[[], object]], describe: str) -> None:
    """Runs ``tasks``, which compile, in processes of their own on all processors but two. Shows progress.

    Raises what the first that failed raised.
    """
    from rich.console import Console
    from rich.progress import track

    processes = max(1, min(len(tasks), usable_processors() - 2))
    with ProcessPoolExecutor(processes, get_context("spawn")) as pool:
        waiting = [pool.submit(task) for task in tasks]
        for future in track(waiting, describe, console=Console(stderr=True), transient=True):
            future.result()


@lru_cache(maxsize=256)
def _tried(call: Callable[[], object]) -> float:
    """Seconds of the one call that is made where nothing is to be learnt from another."""
    return clock(call, 1, None)


def _host_seconds(call: Callable[[], object], calls: int) -> float:
    torch.cuda.synchronize()
    taken = clock(call, calls, None)
    torch.cuda.synchronize()
    return taken


def graph_seconds(call: Callable[[], object], calls: int = 12, rounds: int = 5) -> Callable[[], float]:
    """Captures ``calls`` calls as a graph; the result replays it and returns seconds a call, the median of ``rounds``.

    It keeps ``call``, and with it the memory that the graph reads and writes.
    """
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    stream.synchronize()
    graph: Any = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call()

    def measure(_keep: Callable[[], object] = call) -> float:
        warm_up(graph.replay)
        taken = []
        for _ in range(rounds):
            began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            began.record()
            graph.replay()
            ended.record()
            ended.synchronize()
            taken.append(began.elapsed_time(ended) / 1e3 / calls)
        return median(taken)

    return measure


def warm_up(call: Callable[[], object], seconds: float = 0.01) -> None:
    """Keeps the device at work until its clocks are up."""
    ended = time.perf_counter() + seconds
    while time.perf_counter() < ended:
        call()
        torch.cuda.synchronize()


def busy_seconds(call: Callable[[], object], calls: int = 10) -> float:
    """Seconds of kernels, copies and fills on the device for one call, gaps between them left out."""
    from torch.profiler import ProfilerActivity, profile

    warm_up(call)
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    return sum(e.time_range.elapsed_us() for e in seen.events() if e.device_type.name == "CUDA") / 1e6 / calls


def copy_seconds(count: int, sets: int = 3) -> Callable[[], float]:
    """Measures a copy that reads and writes ``count`` bytes in all, by the driver or by a kernel, whichever is faster."""
    pairs = [(torch.zeros(count // 8, device="cuda"), torch.rand(count // 8, device="cuda")) for _ in range(sets)]
    by_driver, by_kernel = cycle(pairs), cycle(pairs)

    def copy() -> None:
        to, source = next(by_driver)
        to.copy_(source)

    def negate() -> None:
        to, source = next(by_kernel)
        torch.neg(source, out=to)

    measures = graph_seconds(copy), graph_seconds(negate)
    return lambda: min(measure() for measure in measures)
