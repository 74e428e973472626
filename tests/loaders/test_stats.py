"""The figures of an epoch: sources and outputs apart, the first batch in neither rate."""

from __future__ import annotations

import pytest
from support.resuming import loader

from loaders import stats
from loaders.stats import Meter
from mixops import GMix


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the meter reads."""
    now = [100.0]
    monkeypatch.setattr(stats.time, "perf_counter", lambda: now[0])
    return now


def test_rates_count_what_comes_after_the_first_batch(clock):
    meter = Meter(3, 5)
    for taken, waited in ((60.0, 60.0), (2.0, 1.0), (2.0, 0.5)):  # a minute of compiling, then a batch in two seconds
        clock[0] += taken
        meter.took(10, 30, waited)
    found = meter.stats(queue=1, bad_files=2)
    assert (found.epoch, found.step, found.images, found.outputs) == (3, 8, 30, 90)
    assert (found.warmup, found.seconds, found.waited) == (60.0, 4.0, 0.375)
    assert (found.images_per_second, found.outputs_per_second) == (5.0, 15.0)
    assert (found.queue, found.bad_files) == (1, 2)


def test_there_is_no_rate_before_the_second_batch(clock):
    meter = Meter(0, 0)
    clock[0] += 5
    before = meter.stats(0, 0)
    assert (before.warmup, before.images_per_second, before.waited) == (5.0, 0.0, 0.0)
    meter.took(10, 10, 5.0)
    clock[0] += 1
    after = meter.stats(0, 0)
    assert (after.images, after.warmup, after.images_per_second, after.waited) == (10, 5.0, 0.0, 0.0)


def test_outputs_are_interpolations_times_views(jpeg_folder):
    with loader(jpeg_folder, "torchvision", mixer=GMix(interpolations=3), views=2) as one:
        iterator = iter(one)
        batches = [next(iterator) for _ in range(2)]
        found = one.stats()
    assert (found.images, found.outputs) == (24, 24 * 3 * 2)
    assert sum(len(view) for images, _ in batches for view in images) == found.outputs
