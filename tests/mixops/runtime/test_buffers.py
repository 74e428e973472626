"""Blocks of memory come back when nobody looks at them any more, and never before."""

from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from mixops import HMix, Key, mix_images
from mixops.runtime.buffers import empty

SHAPE = (4, 3, 181, 239)  # 2 MB


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32])
def test_it_is_what_torch_would_give(dtype, memory_format):
    for shape in (SHAPE, (1, 1, 1, 1), (0, 3, 2, 2), (1, 3, 997, 1013)):
        got, wanted = (make(shape, dtype=dtype, memory_format=memory_format) for make in (empty, torch.empty))
        assert (got.shape, got.dtype, got.stride()) == (wanted.shape, wanted.dtype, wanted.stride())
        assert got.data_ptr() % 64 == 0


def test_a_block_is_given_again_once_no_view_is_left():
    first = empty(SHAPE, torch.float32)
    place, part, array = first.data_ptr(), first[1:, 0].flatten(), first.permute(0, 2, 3, 1).numpy()
    del first
    assert empty(SHAPE, torch.float32).data_ptr() != place, "a view of the tensor was left"
    del part
    assert empty(SHAPE, torch.float32).data_ptr() != place, "an array was left"
    del array
    gc.collect()
    assert place in {x.data_ptr() for x in [empty(SHAPE, torch.float32) for _ in range(4)]}


def test_results_that_are_kept_are_never_written_to():
    images = torch.randint(0, 256, (8, 3, 224, 224), dtype=torch.uint8)
    kept, wanted = [], []
    for step in range(12):
        plan = HMix().plan(Key(0, step=step), batch_size=8, height=224, width=224)
        mixed = mix_images(images, plan, mean=[0.5], std=[0.25])
        if step % 3:  # some are dropped, so that their blocks come back in between
            kept.append(mixed[::2])
            wanted.append(mixed[::2].clone())
    assert all(torch.equal(x, y) for x, y in zip(kept, wanted, strict=True))
    assert len({x.data_ptr() for x in kept}) == len(kept)


def test_few_blocks_are_kept_of_few_sizes():
    from mixops.runtime.buffers import _free

    many = [empty(SHAPE, torch.float32) for _ in range(20)]
    size = list(_free)[-1]
    del many
    assert len(_free[size]) == 4
    for rows in range(5, 8):
        empty((rows, *SHAPE[1:]), torch.float32)
        assert len(_free[size]) == 4
    other = empty((8, *SHAPE[1:]), torch.float32)
    assert size not in _free
    assert len(_free) == 4
    other.numpy()[:] = np.float32(1)
    assert float(other.sum()) == other.numel()


def test_two_sizes_in_turn_are_both_given_again(monkeypatch):
    from mixops.runtime import buffers as memory

    made, allocate = [], np.empty
    monkeypatch.setattr(memory.np, "empty", lambda *shape: made.append(shape) or allocate(*shape))
    for _ in range(6):  # as in a loader: decoded bytes, then the result
        for dtype in (torch.uint8, torch.float32):
            empty((8, 3, 229, 227), dtype)
    assert len(made) == 2
