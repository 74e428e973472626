"""The memory that FFCV's stages write to, a buffer per slot, and never one that somebody still looks at.

FFCV reuses a slot every ``batches_ahead + 2`` batches, whoever holds the old batch: ``list(loader)`` returns the last few
batches many times over. Here a buffer is replaced by a new one if anything outside still refers to it when its slot comes
round again. On the CPU the reference count of the array under it tells (a tensor made from an array holds that array, its
views hold the tensor's storage); on CUDA each batch has its own tensors, which PyTorch's caching allocator makes cheap.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import torch
from ffcv.pipeline.allocation_query import AllocationQuery


class SlotMemory:
    """What one allocation query of a stage gets: ``memory[slot]`` is an array or tensor (batch_size, *shape)."""

    def __init__(self, query: AllocationQuery, batch_size: int, slots: int) -> None:
        self._shape = (batch_size, *(int(side) for side in query.shape))
        self._tensor = isinstance(query.dtype, torch.dtype)
        self._dtype = query.dtype if self._tensor else np.dtype(query.dtype)
        self._device = torch.device(query.device or "cpu")
        self._arrays: list[np.ndarray | None] = [None] * slots

    def __getitem__(self, slot: int) -> Any:
        if self._device.type != "cpu":
            return torch.empty(self._shape, dtype=self._dtype, device=self._device)
        if self._arrays[slot] is None or _references(self._arrays, slot) > _UNSHARED:
            self._arrays[slot] = self._new()
        array: Any = self._arrays[slot]
        if not self._tensor:
            return array.view(self._dtype)
        return torch.from_numpy(array).view(self._dtype)  # a new storage, so that all its tensors together hold the array

    def last(self, slot: int) -> np.ndarray:
        """The array that ``memory[slot]`` gave last on the CPU, whoever still looks at it."""
        array = self._arrays[slot]
        if array is None:
            raise ValueError(f"slot must be one that was asked for, got {slot}")
        return array.view(self._dtype)

    def _new(self) -> np.ndarray:
        """Memory of our shape, as integers of the element's size: NumPy has no bfloat16."""
        integer = torch.uint8 if self._dtype.itemsize == 1 else getattr(torch, f"int{8 * self._dtype.itemsize}")
        return torch.empty(self._shape, dtype=integer, pin_memory=torch.cuda.is_available()).numpy()


def slot_memory(query: Any, batch_size: int, slots: int) -> Any:
    """``SlotMemory`` for a query, a tuple of them for several, None for none."""
    if query is None:
        return None
    if isinstance(query, AllocationQuery):
        return SlotMemory(query, batch_size, slots)
    return tuple(slot_memory(part, batch_size, slots) for part in query)


def _references(items: list[Any], i: int) -> int:
    return sys.getrefcount(items[i])


_UNSHARED = _references([np.empty(0)], 0)
