"""Reading ahead: order, replacement, one slow or broken file among many, the end of the threads."""

from __future__ import annotations

import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import read_ahead
from loaders.backends.base import BackendConfig
from loaders.bad_files import BadFiles
from loaders.daemon_pool import DaemonPool
from loaders.read_ahead import read_steps
from loaders.schedule import Schedule
from loaders.sources.base import Listing
from loaders.step import StepPlanner, replacements
from mixops.augment.crops import RandomResizedCrop
from mixops.augment.flips import Flip
from mixops.key import Key
from pipelines.bad_file import BadFile


def reading_config(n=50, batch=8, threads=3, timeout=300.0, ahead=2, on_error="skip", max_bad=100, **schedule):
    files = np.array([b"%03d.jpg" % i for i in range(n)])
    source = Listing("/data", files, np.arange(n) % 5, np.full((n, 2), 40), tuple("abcde"))
    planner = StepPlanner(Schedule(n, batch, **schedule), source.sizes, (8, 8), RandomResizedCrop(), Flip(0.5))
    bad = BadFiles(source.name, on_error, max_bad)
    return BackendConfig(source, planner, bad, torch.device("cpu"), None, threads, ahead, timeout)


def wait_until(reached):
    """For as long as it takes: a test that hangs is ended by its own time limit."""
    while not reached():
        time.sleep(0.005)


def reading():
    return [t for t in threading.enumerate() if t.name.startswith("mixstage-read")]


@pytest.mark.parametrize("threads", [1, 3, 20])
@pytest.mark.parametrize("ahead", [0, 1, 5])
def test_steps_come_in_order_whatever_finishes_first(threads, ahead):
    one = reading_config(threads=threads, ahead=ahead, drop_last=False)
    delays = random.Random(0)

    def load(plan, row):
        time.sleep(delays.random() / 2000)
        return int(plan.ids[row]), tuple(plan.windows[row]), bool(plan.flips[row])

    steps = list(read_steps(one, 1, 2, load))
    assert [s.plan.step for s in steps] == [2, 3, 4, 5, 6]
    for s in steps:
        draw = one.planner.draw(1, s.plan.step)
        expected = list(zip(draw.ids.tolist(), map(tuple, draw.windows), draw.flips.tolist(), strict=True))
        assert s.items == expected
    assert reading() == []


def test_reads_no_further_ahead_than_told():
    one, seen = reading_config(ahead=2), set()
    steps = read_steps(one, 0, 0, lambda plan, row: seen.add(int(plan.ids[row])))
    next(steps)
    wait_until(lambda: len(seen) >= 8 * 3)
    time.sleep(0.05)  # time to read on, if it would
    assert len(seen) == 8 * 3
    steps.close()
    assert reading() == []


@pytest.mark.parametrize("known", [set(), {3, 4}, set(range(10))])
@pytest.mark.parametrize("ahead", [0, 4])
def test_replacement_does_not_depend_on_what_was_known(known, ahead):
    """Ten bad samples of fifty, found on the way or known before: the same steps, and the law of ``replacements``."""
    bad = set(range(10))

    def load(plan, row):
        sample = int(plan.ids[row])
        if sample in bad:
            raise BadFile("broken")
        return sample

    one = reading_config(drop_last=False, seed=3, ahead=ahead)
    one.bad.known.update(dict.fromkeys(known, "broken"))
    for s in read_steps(one, 0, 0, load):
        expected = one.planner.schedule.ids(0, s.plan.step).tolist()
        rejected = []
        for row, sample in enumerate(expected):
            others = iter(replacements(Key(3, 0, s.plan.step, row), 50))
            while sample in bad:
                rejected.append(sample)
                sample = next(others)
            expected[row] = sample
        assert s.items == s.plan.ids.tolist() == expected
        assert s.plan.rejected == tuple(dict.fromkeys(rejected))
    assert set(one.bad.known) <= bad


def test_windows_are_those_of_the_replacement():
    one = reading_config()
    one.source.sizes[:] = np.random.default_rng(0).integers(10, 90, (50, 2))
    draw = one.planner.draw(0, 0, bad=set(range(25)))
    top, left, height, width = draw.windows.T
    sizes = one.source.sizes[draw.ids]
    assert (draw.ids >= 25).all()
    assert (top + height <= sizes[:, 0]).all()
    assert (left + width <= sizes[:, 1]).all()


def test_nothing_but_bad_files():
    def load(plan, row):
        raise BadFile("broken")

    message = r"found no good sample for row 0 of step 0 in 1000 attempts: 50 files are bad, /data/000.jpg: broken"
    with pytest.raises(RuntimeError, match=message):
        list(read_steps(reading_config(), 0, 0, load))
    assert reading() == []


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize("threads", [1, 5])
def test_where_bad_files_are_refused_the_first_is_named_in_its_turn(known, threads):
    """All files of the third step are bad, those of the fourth, too: one step's worth of them is opened, no others tried."""
    one, opened = reading_config(on_error="raise", threads=threads, ahead=1), []
    bad = {int(sample) for step in (2, 3) for sample in one.planner.draw(0, step).ids}
    if known:
        one.bad.known.update(dict.fromkeys(bad, "not there"))

    def load(plan, row):
        opened.append(int(plan.ids[row]))
        if opened[-1] in bad:
            raise BadFile("not there")
        return row

    steps = read_steps(one, 0, 0, load)
    assert [next(steps).plan.step for _ in range(2)] == [0, 1]
    first = one.source.name(int(one.planner.draw(0, 2).ids[0]))
    with pytest.raises(RuntimeError, match=rf"^{first}: not there \(on_error='skip'"):
        next(steps)
    assert len(set(opened) & bad) <= 16
    assert len(opened) == len(set(opened))
    assert reading() == []


@pytest.mark.parametrize("n", [50, 5000])
def test_a_step_is_given_up_when_it_alone_has_too_many_bad_files(n):
    opened = []

    def load(plan, row):
        opened.append(row)
        raise BadFile("gone")

    with pytest.raises(
        RuntimeError, match=r"\d+ files are bad, more than max_bad=20; the first are /data/\d+.jpg, .*\(gone; "
    ):
        list(read_steps(reading_config(n=n, max_bad=20, ahead=0), 0, 0, load))
    assert 20 < len(opened) <= 20 + 2 * 8


def test_many_bad_files_cost_no_more_than_their_reading():
    """Every file of 3,000 is bad and allowed to be: each is opened once, and the error says what is wrong with them."""
    opened = []

    def load(plan, row):
        opened.append(int(plan.ids[row]))
        raise BadFile("gone")

    with pytest.raises(RuntimeError, match=r"\d+ files are bad, /data/0\d+.jpg: gone"):
        list(read_steps(reading_config(n=3000, batch=64, max_bad=10**6, ahead=0), 0, 0, load))
    assert len(opened) < 2 * 3000


def test_errors_of_another_kind_are_not_hidden():
    def load(plan, row):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        list(read_steps(reading_config(), 0, 0, load))
    assert reading() == []


def test_slow_file_is_named():
    gate = threading.Event()
    one = reading_config(ahead=1)
    slow = int(one.planner.draw(0, 1).ids[4])  # neither the first nor the last of its slice

    def load(plan, row):
        if plan.ids[row] == slow:
            gate.wait(300)
        return row

    steps = read_steps(one, 0, 0, load)
    assert next(steps).plan.step == 0
    object.__setattr__(one, "timeout", 0.2)  # for what comes now: on a busy machine the first step may have taken longer
    with pytest.raises(
        TimeoutError, match=rf"waited 0.2 s for the files of epoch 0, step 1; slow is {one.source.name(slow)}$"
    ):
        next(steps)
    gate.set()
    wait_until(lambda: reading() == [])


def test_closing_does_not_read_on(monkeypatch):
    """Two threads are busy with a row each while the iterator is closed: they finish it and begin no other."""
    closing, count = threading.Event(), []

    class Pool(DaemonPool):
        def shutdown(self, **options):
            closing.set()
            super().shutdown(**options)

    def load(plan, row):
        count.append(row)
        if plan.step > 0:
            closing.wait(300)

    monkeypatch.setattr(read_ahead, "DaemonPool", Pool)
    steps = read_steps(reading_config(n=400, batch=100, threads=2, ahead=3), 0, 0, load)
    next(steps)
    wait_until(lambda: len(count) == 102)
    steps.close()
    assert reading() == []
    assert len(count) == 102


_STUCK = """
import sys, threading
sys.path.insert(0, sys.argv[1])
import test_read_ahead as tests
config = tests.reading_config()
def load(plan, row):
    if plan.ids[row] == int(sys.argv[2]):
        threading.Event().wait()  # a server that never answers
    return row
steps = tests.read_steps(config, 0, 0, load)
next(steps)
object.__setattr__(config, "timeout", 1)  # for what comes now
try:
    next(steps)
except TimeoutError as error:
    print(error)
    sys.exit(3)
"""


@pytest.mark.nightly
def test_a_read_that_never_returns_does_not_keep_the_process():
    stuck = int(reading_config().planner.draw(0, 1).ids[4])
    command = [sys.executable, "-c", _STUCK, str(Path(__file__).parent), str(stuck)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    assert f"slow is /data/{stuck:03}.jpg" in done.stdout
