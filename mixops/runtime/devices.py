"""Sends tensors to a device without making the host wait for it, and makes a device the current one.

A copy from ordinary memory makes torch wait for the stream, and everything before the copy is waited for as well; a copy
from pinned memory is only enqueued, and torch keeps the pinned memory until it was read.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from typing import Any

import numpy as np
import torch
from torch import Tensor


def to_device(x: Tensor | np.ndarray[Any, Any], device: torch.device) -> Tensor:
    """``x`` on ``device``; a copy from the CPU to CUDA is enqueued on the current stream.

    A change of dtype comes after it: torch would convert into ordinary memory on the way.
    """
    if isinstance(x, np.ndarray) and not x.flags.writeable:
        x = x.copy()  # torch warns of memory that must not be written to
    there = torch.as_tensor(x)
    if there.device.type == "cpu" and device.type == "cuda":
        there = there.pin_memory()
    return there.to(device, non_blocking=True)


def has_triton() -> bool:
    """Whether Triton is installed, which CUDA kernels are written in."""
    return find_spec("triton") is not None


def current_device(device: torch.device) -> AbstractContextManager[Any]:
    """Triton launches on the current device, whatever device its arguments are on: makes ``device`` that."""
    other = device.type == "cuda" and device.index != torch.cuda.current_device()
    return torch.cuda.device(device) if other else nullcontext()


def to_host(x: Tensor) -> np.ndarray[Any, Any]:
    """A NumPy array; from CUDA through pinned memory, waiting for the work before it on the current stream and no more.

    Streams that decode the batches after this one go on, and the waiting thread gives up the processor and the GIL.
    """
    if x.device.type != "cuda":
        return x.cpu().numpy()
    host = torch.empty(x.shape, dtype=x.dtype, pin_memory=True)
    host.copy_(x, non_blocking=True)
    arrived = torch.cuda.Event(blocking=True)
    arrived.record(torch.cuda.current_stream(x.device))
    arrived.synchronize()
    return host.numpy()
