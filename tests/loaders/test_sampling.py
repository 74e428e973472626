"""Repeats, weights and subsets: the laws of torchvision's, timm's and torch's samplers, on any number of ranks."""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter

import numpy as np
import pytest
from scipy.stats import chisquare

from loaders.sampling import Repeated, Together, Weighted
from loaders.schedule import Schedule
from mixops.key import Key, Stream


@pytest.mark.parametrize("world", range(1, 9))
@pytest.mark.parametrize("views", [2, 3, 4])
def test_repeated_augmentation(world, views):
    """Every global batch has B / M samples, M times each; with as many ranks as views no rank has one twice."""
    batch = world * views * 8
    n = 5 * batch + 3 * batch // 4 // world * world
    ranks = [Schedule(n, batch, 3, Repeated(views), False, rank, world) for rank in range(world)]
    alone = Schedule(n, batch, 3, Repeated(views), False)
    seen: Counter[int] = Counter()
    for step in range(len(alone)):
        parts = [rank.ids(1, step) for rank in ranks]
        together = np.concatenate(parts)
        assert np.array_equal(together, alone.ids(1, step))  # whatever the number of ranks
        counts = Counter(together.tolist())
        if step < n // batch:
            assert set(counts.values()) == {views}
        assert max(counts.values()) <= views
        if world >= views:
            assert all(len(set(part.tolist())) == len(part) for part in parts)
        seen += counts
    assert len(alone) == -(-n // batch)
    assert max(seen.values()) == views and len(seen) == 5 * batch // views + -(-(n - 5 * batch) // views)


@pytest.mark.parametrize(("batch", "views"), [(16, 3), (1024, 3), (10, 4), (7, 7), (5, 2)])
def test_views_that_do_not_divide_a_batch(batch, views):
    """All rows are filled, with as few samples as have no more views than asked for, as evenly as can be."""
    schedule = Schedule(6 * batch, batch, 0, Repeated(views))
    seen: set[int] = set()
    for step in range(6):
        counts = Counter(schedule.ids(0, step).tolist())
        assert sum(counts.values()) == batch and len(counts) == -(-batch // views)
        assert max(counts.values()) <= views and max(counts.values()) - min(counts.values()) <= 1
        assert not seen & set(counts)  # a sample is of one batch
        seen |= set(counts)


def test_repeated_augmentation_takes_other_samples_every_epoch():
    schedule = Schedule(120, 24, 0, Repeated(3))
    epochs = [{int(i) for step in range(5) for i in schedule.ids(epoch, step)} for epoch in range(40)]
    assert all(len(epoch) == 40 for epoch in epochs)
    assert len(set.union(*epochs)) == 120


@pytest.mark.parametrize("world", [1, 2, 4])
def test_batch_augmentation(world):
    """M copies of each sample in the rows of one rank, never in one group; an epoch shows every sample M times."""
    copies, group = 3, 4
    per_rank = copies * group * 2
    batch = per_rank * world
    n = 2 * batch // copies
    seen: Counter[int] = Counter()
    for rank in range(world):
        schedule = Schedule(n, batch, 1, Together(copies, group), True, rank, world, mix_group=group)
        for step in range(len(schedule)):
            ids = schedule.ids(0, step)
            assert set(Counter(ids.tolist()).values()) == {copies}
            first = schedule.rows(step)[0]
            for part in schedule.groups(step):
                inside = ids[part.start - first : part.start - first + part.size]
                assert len(set(inside.tolist())) == part.size
            seen.update(ids.tolist())
    assert set(seen.values()) == {copies} and len(seen) == n


@pytest.mark.parametrize(("n", "batch"), [(40, 8), (41, 8), (7, 8), (100, 12), (13, 5)])
def test_rows_are_those_of_the_definition(n, batch):
    """Row by row: r of a batch of B shows its sample r mod ceil(B / M), and r of a block its sample r mod group."""
    key = Key(3, 1)
    order = key.permutation(Stream.ORDER, n).tolist()
    for views in (2, 3, 5):
        full, found = -(-batch // views), Repeated(views).order(key, n, batch).tolist()
        for at in range(n):
            step, row = divmod(at, batch)
            distinct = -(-(n % batch) // views) if step == n // batch else full
            assert found[at] == order[step * full + row % distinct]
        group, found = batch // 2, Together(views, batch // 2).order(key, n, batch).tolist()
        assert len(found) == n * views
        for at in range(n * views):
            block, row = divmod(at, views * group)
            assert found[at] == order[min(block * group + row % group, n - 1)]


def test_weighted_rows_are_those_of_the_definition():
    """Each number looked up by itself, also of weights that are 0 and of more than are sorted at once."""
    for n in (7, 100_000):
        weights = np.arange(n) % 5 / 3
        edges, numbers = np.cumsum(weights), Key(3, 1).uniform(Stream.ORDER, (n,))
        expected = [min(bisect_right(edges, number), n - 1) for number in (numbers * edges[-1]).tolist()]
        assert Weighted(weights).order(Key(3, 1), n, 4).tolist() == expected


def test_weights_are_the_law_of_the_draws():
    weights = np.array([0.0, 1.0, 2.0, 5.0, 0.5])
    schedule = Schedule(5, 5, 0, Weighted(weights))
    drawn = np.concatenate([schedule.ids(epoch, 0) for epoch in range(4000)])
    counts = np.bincount(drawn, minlength=5)
    assert counts[0] == 0
    assert chisquare(counts[1:], weights[1:] / weights.sum() * len(drawn)).pvalue > 1e-4


def test_balanced_classes():
    labels = np.repeat([0, 1, 2], [1000, 100, 10])
    schedule = Schedule(1110, 1110, 0, Weighted.balanced(labels))
    drawn = np.concatenate([labels[schedule.ids(epoch, 0)] for epoch in range(20)])
    assert chisquare(np.bincount(drawn)).pvalue > 1e-4


def test_weighted_samplings_are_values():
    one, same, other = (Weighted(np.array(w)) for w in ([1.0, 2], [1, 2], [2, 1]))
    assert one == same and hash(one) == hash(same) and repr(one) == repr(same)
    assert one != other and repr(one) != repr(other)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Schedule(40, 2, 0, Repeated(3)), "repeats must be at most the 2 rows of a global batch, got 3"),
        (
            lambda: Schedule(40, 8, 0, Together(3, 2)),
            "repeats must leave whole groups of 2 rows in a global batch of 8, got 3",
        ),
        (lambda: Schedule(40, 8, 0, Weighted(np.ones(39))), "weights must have one value a sample, 40, got 39"),
        (lambda: Weighted(np.array([1, -1.0])), "weights must be finite, at least 0 and not all 0"),
        (lambda: Weighted(np.zeros(3)), "weights must be finite, at least 0 and not all 0"),
        (lambda: Weighted(np.array([1, np.nan])), "weights must be finite, at least 0 and not all 0"),
    ],
)
def test_what_does_not_fit_is_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
