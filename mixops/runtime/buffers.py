"""Memory for large results on the CPU, given again once nobody holds it.

Fresh memory is faulted in page by page and that takes longer than mixing: a batch of 64 float images is 38 MB, over 9,000
pages, and the allocator hands it back to the system each time. So a result lives in a block that returns here when the last
tensor or array that looks at it is gone. A few blocks are kept of each of the sizes asked for last, as a training loop
needs: a loader asks for two in turn, decoded bytes and results.
"""

from __future__ import annotations

import weakref
from math import prod

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

_ALIGNMENT = 64  # bytes: a cache line, and the widest vector
_SMALL = 1 << 20  # bytes that an allocator keeps by itself
_KEPT = 4  # blocks: one with the user, one in his hands before, two made ahead
_SIZES = 4  # whose blocks are kept
_free: dict[int, list[UInt8[np.ndarray, " size"]]] = {}  # in the order in which sizes were asked for


def empty(
    shape: tuple[int, ...], dtype: torch.dtype, device: torch.device | str = "cpu",
    memory_format: torch.memory_format = torch.contiguous_format,
) -> Tensor:  # fmt: skip
    """As ``torch.empty``; on the CPU aligned to 64 bytes and, if it is large, in a block that was used before."""
    size = prod(shape) * dtype.itemsize
    if size < _SMALL or torch.device(device).type != "cpu":
        return torch.empty(shape, dtype=dtype, device=device, memory_format=memory_format)
    memory = torch.from_numpy(_lend(size + _ALIGNMENT))
    first = -memory.data_ptr() % _ALIGNMENT
    strides = torch.empty(shape, device="meta", memory_format=memory_format).stride()
    return memory[first : first + size].view(dtype).as_strided(shape, strides)


def _lend(size: int) -> UInt8[np.ndarray, " size"]:
    """A look at a block of that many bytes; the block is free again when the look has no reference any more."""
    blocks = _free[size] = _free.pop(size, [])  # now the last
    for forgotten in list(_free)[:-_SIZES]:
        _free.pop(forgotten, None)
    try:
        block = blocks.pop()
    except IndexError:
        block = np.empty(size, np.uint8)
    look = block.view()
    weakref.finalize(look, _take_back, block).atexit = False
    return look


def _take_back(block: UInt8[np.ndarray, " size"]) -> None:
    blocks = _free.get(block.size)
    if blocks is not None and len(blocks) < _KEPT:
        blocks.append(block)
