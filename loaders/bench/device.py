"""Seconds that a CUDA device works on a call, whatever the host does meanwhile.

A batch is mixed in less time than a launch takes, so a clock on the host would measure Python. Calls that can be captured
are replayed as one CUDA graph between two events; of any others the profiler adds up kernels and copies.
"""

from __future__ import annotations

from collections.abc import Callable
from statistics import median

import torch


def graph_seconds(call: Callable[[], object], calls: int = 12, rounds: int = 5) -> Callable[[], float]:
    """Captures ``calls`` calls as a graph; the result replays it and returns seconds a call, the median of ``rounds``."""
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        call()
    stream.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph, stream=stream):
        for _ in range(calls):
            call()
    graph.replay()
    torch.cuda.synchronize()

    def measure() -> float:
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


def busy_seconds(call: Callable[[], object], calls: int = 10) -> float:
    """Seconds of kernels, copies and fills on the device for one call, gaps between them left out."""
    from torch.profiler import ProfilerActivity, profile

    call()
    torch.cuda.synchronize()
    with profile(activities=[ProfilerActivity.CUDA], acc_events=True) as seen:
        for _ in range(calls):
            call()
        torch.cuda.synchronize()
    return sum(e.time_range.elapsed_us() for e in seen.events() if e.device_type.name == "CUDA") / 1e6 / calls
