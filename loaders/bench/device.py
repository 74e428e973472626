"""Seconds that a CUDA device works on a call, whatever the host does meanwhile.

A batch is mixed in less time than a launch takes, so a clock on the host would measure Python. Calls that can be captured
are replayed as one CUDA graph between two events; of any others the profiler adds up kernels and copies.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import cycle
from statistics import median
from typing import Any

import torch


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
