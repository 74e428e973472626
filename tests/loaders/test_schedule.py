"""The schedule: every image once, the same global batches on any number of ranks, bad arguments."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from loaders.sampling import Sequential, Shuffled
from loaders.schedule import Schedule


def ranks(world: int, **arguments: object) -> list[Schedule]:
    return [Schedule(rank=r, world_size=world, **arguments) for r in range(world)]  # type: ignore[arg-type]


def reference_batches(n: int, batch: int, order: np.ndarray, drop_last: bool) -> list[list[int]]:
    """Global batches, cut by hand."""
    cut = [order[i : i + batch].tolist() for i in range(0, n, batch)]
    return [b for b in cut if len(b) == batch or not drop_last]


@settings(max_examples=60, deadline=None)
@given(
    n=st.integers(8, 300),
    per_rank=st.integers(1, 9),
    world=st.sampled_from([1, 2, 3, 4, 8]),
    shuffle=st.booleans(),
    drop_last=st.booleans(),
    epoch=st.integers(0, 3),
)
def test_ranks_share_the_global_batches(n, per_rank, world, shuffle, drop_last, epoch):
    batch = per_rank * world
    rest = n % batch
    if (drop_last and n < batch) or (not drop_last and 0 < rest < world):
        with pytest.raises(ValueError, match="batch_size"):
            ranks(world, samples=n, batch_size=batch, drop_last=drop_last)
        return
    sampling = Shuffled() if shuffle else Sequential()
    parts = ranks(world, samples=n, batch_size=batch, sampling=sampling, drop_last=drop_last, seed=5)
    whole = Schedule(n, batch, 5, sampling, drop_last)
    order = np.concatenate([Schedule(n, 1, 5, sampling).ids(epoch, i) for i in range(n)])
    expected = reference_batches(n, batch, order, drop_last)
    assert {len(p) for p in parts} == {len(expected)}
    for step, ids in enumerate(expected):
        assert whole.ids(epoch, step).tolist() == ids
        assert np.concatenate([p.ids(epoch, step) for p in parts]).tolist() == ids
        assert np.concatenate([p.rows(step) for p in parts]).tolist() == list(range(len(ids)))
        assert min(len(p.ids(epoch, step)) for p in parts) >= 1
    seen = sorted(i for ids in expected for i in ids)
    assert len(set(seen)) == len(seen)
    if not drop_last:
        assert seen == list(range(n))


@settings(max_examples=60, deadline=None)
@given(n=st.integers(24, 200), groups=st.sampled_from([24, 48]), size=st.integers(1, 4), drop_last=st.booleans())
def test_groups_do_not_depend_on_the_ranks(n, groups, size, drop_last):
    batch = groups * size
    if n < batch or 0 < n % batch < 8:
        return
    alone = Schedule(n, batch, drop_last=drop_last, mix_group=size)
    for world in (2, 3, 4, 8):
        parts = ranks(world, samples=n, batch_size=batch, drop_last=drop_last, mix_group=size)
        for step in range(len(alone)):
            assert [g for p in parts for g in p.groups(step)] == alone.groups(step)


def test_short_batch_is_cut_into_nearly_equal_groups():
    schedule = Schedule(23, 16, drop_last=False, mix_group=4)
    assert [g.size for g in schedule.groups(1)] == [2, 2, 2, 1]
    assert [g.size for g in Schedule(19, 16, drop_last=False, mix_group=4).groups(1)] == [1, 1, 1]


def test_epochs_and_seeds_differ():
    orders = {tuple(Schedule(40, 40, seed).ids(epoch, 0)) for seed in range(4) for epoch in range(4)}
    assert len(orders) == 16
    assert Schedule(40, 40, 3, sampling=Sequential()).ids(2, 0).tolist() == list(range(40))


def test_order_cannot_be_written_to():
    ids = Schedule(40, 20).ids(0, 0)
    before = ids.copy()
    ids[:] = 0  # a copy
    assert np.array_equal(Schedule(40, 20).ids(0, 0), before)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"samples": 0}, "samples must be at least 1, got 0"),
        ({"world_size": 0}, "world_size must be at least 1, got 0"),
        ({"rank": 2}, r"rank must be in \[0, 2\), got 2"),
        ({"rank": -1}, r"rank must be in \[0, 2\), got -1"),
        ({"batch_size": 7}, "batch_size must be a positive multiple of world_size=2, got 7"),
        ({"batch_size": 0}, "batch_size must be a positive multiple"),
        ({"mix_group": 3}, "mix_group must divide the 4 rows of a rank, got 3"),
        ({"mix_group": 0}, "mix_group must divide the 4 rows of a rank, got 0"),
        ({"samples": 5}, "batch_size must be at most the 5 samples .* got 8 over 2 ranks.*drop_last=False"),
        ({"samples": 17, "drop_last": False}, "last of 3 batches has 1 rows, too few for 2 ranks.*drop_last=True"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Schedule(**{"samples": 40, "batch_size": 8, "world_size": 2} | arguments)


def test_steps_outside_the_epoch_are_refused():
    with pytest.raises(ValueError, match=r"step must be in \[0, 5\), got 5"):
        Schedule(40, 8).ids(0, 5)
