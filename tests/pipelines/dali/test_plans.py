"""The plans of a DALI pipeline by DALI's own batch number: epochs, shards, padding. No DALI is needed for that."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from mixops import CutMix, FMix, Key, MixUp, OptimalMatching
from pipelines.dali.plans import PlanSource

BATCH, N = 8, 29


def source(mixer: Any = CutMix(), **changes: Any) -> PlanSource:  # noqa: B008 (a frozen value)
    return PlanSource(mixer, **{"batch_size": BATCH, "height": 6, "width": 5, "epoch_size": N, "seed": 3} | changes)


def info(iteration: int, epoch: int = 0) -> SimpleNamespace:
    return SimpleNamespace(iteration=iteration, epoch_idx=epoch)


def shard_size(shard: int, world_size: int) -> int:
    """How DALI's readers cut a data set."""
    return (shard + 1) * N // world_size - shard * N // world_size


@pytest.mark.parametrize("stick", [False, True])
@pytest.mark.parametrize("first_epoch", [0, 2])
@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_rows_are_those_of_the_shard_that_a_reader_has(world_size: int, first_epoch: int, stick: bool) -> None:
    for rank in range(world_size):
        plans = source(rank=rank, world_size=world_size, first_epoch=first_epoch, stick_to_shard=stick)
        for epoch in range(first_epoch, first_epoch + 4):
            shard = rank if stick else (rank + epoch - first_epoch) % world_size  # readers hand their shard on
            rows = [plans.rows(epoch, step) for step in range(plans.steps)]
            assert sum(rows) == shard_size(shard, world_size)
            assert all(n == BATCH for n in rows[: rows.index(min(rows))])


@pytest.mark.parametrize("mixer", [CutMix(), FMix(interpolations=2)], ids=repr)
def test_padding_is_neither_mixed_nor_anybodys_partner(mixer: Any) -> None:
    plans = source(mixer)
    plan = plans.plan(0, 3)
    n = plans.rows(0, 3)
    assert n == 5 and sorted(plan.partner[:n]) == list(range(n))
    assert plan.partner[n:].tolist() == list(range(n, BATCH))
    for values in (plan.weight, plan.lam, plan.mask()):
        assert (values[n:] == 1).all()
    real = mixer.plan(Key(3, 0, 3), batch_size=n, height=6, width=5)
    for name in ("partner", "weight", "lam", "params"):
        np.testing.assert_array_equal(getattr(plan, name)[:n], getattr(real, name))
    np.testing.assert_array_equal(plan.mask()[:n], real.mask())


def test_a_short_shard_has_a_batch_of_nothing_but_padding() -> None:
    plans = source(world_size=3, rank=0, epoch_size=25)  # shards of 8, 8 and 9 rows: all ranks have two steps
    assert plans.steps == 2 and plans.rows(0, 1) == 0
    plan = plans.plan(0, 1)
    assert plan.partner.tolist() == list(range(BATCH)) and (plan.weight == 1).all()


@pytest.mark.parametrize("epoch", [0, 1])
def test_epochs_are_counted_by_iterations_and_by_sources_that_end_them(epoch: int) -> None:
    """DALI's ``iteration`` runs on; its ``epoch_idx`` grows only where a source ends an epoch, and then it begins again."""
    plans = source(first_epoch=4)
    for iteration in (0, 3, 4, 9):
        partner, weight, masks = plans(info(iteration, epoch))
        plan = plans.plan(4 + epoch + iteration // 4, iteration % 4)
        np.testing.assert_array_equal(partner, plan.partner)
        np.testing.assert_array_equal(weight, plan.weight.astype(np.float32))
        np.testing.assert_array_equal(masks, plan.params)


def test_ranks_and_seeds_differ() -> None:
    weights = [source(**changes).plan(0, 0).weight.tobytes() for changes in ({}, {"seed": 4}, {"rank": 1, "world_size": 2})]
    assert len(set(weights)) == 3


@pytest.mark.parametrize("n", [8, 7, 5, 3, 2, 1])
def test_blocks_of_a_last_batch_are_the_largest_of_which_there_are_two(n: int) -> None:
    plans = source(MixUp(matching=OptimalMatching(k=4)), epoch_size=n)
    _, place, columns = plans._blocks(0, 0)
    k = min(4, max(n // 2, 1))
    assert sorted(place[:n, 0]) == list(range(n)) and (place[:n, 1] == k).all()
    assert (place[n:] == [-1, 1]).all() and columns.shape == (BATCH, 4)
    assert (columns[:n] < n).all() and (columns[n:] == np.arange(n, BATCH)[:, None]).all()
