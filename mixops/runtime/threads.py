"""Slices a serial kernel that releases the GIL over threads.

The threads belong to this process alone (a fork starts its own) and number ``torch.get_num_threads()``, so that the
setting people already use holds here, and DataLoader workers, where torch sets it to 1, run the kernel in place.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from typing import Any

import torch


def run_sliced(function: Callable[..., Any], n: int, *args: Any) -> None:
    """Calls ``function(start, stop, *args)`` on slices that cover 0 .. n, in parallel; raises what a slice raises."""
    slices = min(torch.get_num_threads(), n)
    if slices <= 1:
        function(0, n, *args)
        return
    edges = [n * i // slices for i in range(slices + 1)]
    pool = _pool(os.getpid(), slices)
    futures = [pool.submit(function, a, b, *args) for a, b in pairwise(edges[1:])]
    function(0, edges[1], *args)  # the caller's thread works too
    for future in futures:
        future.result()


@lru_cache(maxsize=2)
def _pool(pid: int, slices: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(max(slices - 1, 1), thread_name_prefix="mixstage-kernel")
