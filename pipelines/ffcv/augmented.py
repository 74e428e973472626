"""Augmentation inside ``PlannedCrop``'s compiled loop: by the thread that made the row, while it is in the cache.

FFCV's compiled code sees nothing but the memory that a stage asks for. So the arrays of a batch's plan have places there,
row by row; what all rows share stands in the first.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from ffcv.pipeline.allocation_query import AllocationQuery

from mixops.augment.composition import Augmentation
from mixops.augment.policies.base import RGB
from mixops.kernels.augment.cpu import Program, augment_rows, new_memory, program
from mixops.key import Key
from mixops.runtime.jit import njit

_SHARED = ("fill", "noisy", "values", "chain_fill")
_ARRAYS = Program._fields[:-1]  # all but the flag


class PlannedAugment:
    """An augmentation of images of ``size`` (height, width), and the places of its plans in a decoder's memory."""

    def __init__(self, augmentation: Augmentation, size: tuple[int, int], mean: RGB, std: RGB) -> None:
        self._augmentation, self._size, self._colours = augmentation, size, (mean, std)
        example = self._program(Key(), np.arange(1))
        self.blend = example.blend
        self._like = {name: getattr(example, name) for name in _ARRAYS}

    def queries(self) -> list[AllocationQuery]:
        """What FFCV is asked for, a place a row and array."""
        return [AllocationQuery(x.shape if name in _SHARED else x.shape[1:], x.dtype) for name, x in self._like.items()]

    def plan(self, memory: tuple[Any, ...], slot: int, key: Key, rows: np.ndarray) -> None:
        """Draws the plan of a batch and puts it where the compiled loop reads it; ``memory`` is that of ``queries``."""
        ready = self._program(key, rows)
        for name, place in zip(_ARRAYS, memory, strict=True):
            place[slot][0 if name in _SHARED else slice(len(rows))] = getattr(ready, name)

    def _program(self, key: Key, rows: np.ndarray) -> Program:
        return program(self._augmentation.draw(key, rows, self._size, *self._colours))


@njit()
def augment_row(row, images, memory, blend):  # type: ignore[no-untyped-def]
    """Augments one of ``images`` (b, h, w, 3) in place by the plan in ``memory``."""
    op, arg, filter, matrix, fill, box, colour, noisy, noise, values = memory[:10]
    chain_op, chain_arg, chain_filter, chain_matrix, chain_fill, weight = memory[10:]
    b, h, w, _ = images.shape
    plan = Program(
        op, arg, filter, matrix, fill[0], box, colour, noisy[0], noise, values[0], chain_op, chain_arg, chain_filter,
        chain_matrix, chain_fill[0], weight, blend,
    )  # fmt: skip
    own = new_memory(h, w, chain_op.shape[1])
    augment_rows(row, row + 1, images.reshape(b, h * w * 3), 0, (h, w), plan, own)
