"""Peak memory of one call above what was held before it.

On a GPU that of torch's allocator. On the CPU the resident set of a process of its own, which Linux lets one reset.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch


def peak_memory(
    make: Callable[..., Callable[[], None]],
    arguments: tuple[Any, ...],
    device: torch.device,
    load: Callable[[], object],
) -> int:
    """Peak bytes of one call of ``make(device, *arguments)`` above what was held before it.

    On the CPU all arguments are sent to another process, which first calls ``load``: code is loaded there, so that it does
    not count.
    """
    if device.type == "cuda":
        call = make(device, *arguments)
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - held
    from multiprocessing import get_context

    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident_peak, (make, arguments, load, torch.get_num_threads()))


def _resident_peak(
    make: Callable[..., Callable[[], None]], arguments: tuple[Any, ...], load: Callable[[], object], threads: int
) -> int:
    from ctypes import CDLL

    torch.set_num_threads(threads)
    load()
    call = make(torch.device("cpu"), *arguments)
    gc.collect()
    CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    held = _status("VmRSS")
    call()
    return _status("VmHWM") - held


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status must have a line {field}")
