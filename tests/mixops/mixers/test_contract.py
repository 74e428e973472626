"""The contract of all mixers, over generated plans; the checks themselves are in ``checks``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from support.checks import AWKWARD, CASES, COSTLY_PLAN_CHECKS, DRAWS, MIXER_CHECKS, PLAN_CHECKS, Setting, dense, sweep

from mixops import Key

PLANS = 20_000  # that the sweep generates over all mixers
_CHUNKS = 8
_SLOW = 8  # a plan of a mixer that solves for its masks counts for so many


VARIANTS = ("PuzzleMix(transport=False)", "PuzzleMix(saliency='spectral')", "CoMixUp(saliency='spectral')")
"""Each plan takes long, and draws as the mixer without these options does."""


def a_chunk(name: str) -> int:
    """The plans of a chunk of a mixer's sweep."""
    count = -(-PLANS // (len(CASES) * _CHUNKS))
    return count // _SLOW if CASES[name].example.mask_needs else count


@pytest.mark.parametrize(
    ("name", "chunk"),
    [
        pytest.param(name, chunk, marks=pytest.mark.nightly if chunk or name in VARIANTS else ())
        for name in CASES
        for chunk in range(_CHUNKS)
    ],
)
def test_sweep(name, chunk):
    """``PLANS`` plans, by default an eighth of them: all get the cheap checks, every twentieth the costly ones."""
    case = CASES[name]
    for i, drawn in enumerate(sweep(chunk, a_chunk(name))):
        setting = drawn.fitted(case)
        plan = setting.plan(case)
        try:
            for check in PLAN_CHECKS + (COSTLY_PLAN_CHECKS if i % 20 == 0 else ()):
                check(case, setting, plan)
        except AssertionError as error:
            raise AssertionError(f"{name}, {check.__name__}, {setting}") from error


def by_night(name, check):
    """Switches draw with what their members draw; one of them is enough for every change."""
    return check in DRAWS and (name in VARIANTS or (name.startswith("Switch") and name != SWITCHES[0]))


SWITCHES = [name for name in CASES if name.startswith("Switch")]


@pytest.mark.parametrize(
    ("name", "check"),
    [
        pytest.param(
            name,
            check,
            id=f"{name}-{check.__name__}",
            marks=pytest.mark.nightly if by_night(name, check) else (),
        )
        for name in CASES
        for check in MIXER_CHECKS
    ],
)
def test_mixer(name, check):
    check(CASES[name])


def test_the_sweep_is_as_large_as_it_says():
    counts = [_CHUNKS * a_chunk(name) * (_SLOW if case.example.mask_needs else 1) for name, case in CASES.items()]
    assert sum(counts) >= 0.95 * PLANS


words = st.integers(0, 2**64 - 1)
setting = st.builds(
    lambda size, **rest: Setting(height=size[0], width=size[1], **rest),
    size=st.sampled_from(AWKWARD) | st.tuples(st.integers(1, 24), st.integers(1, 24)),
    alpha=st.floats(1e-3, 1e3) | st.sampled_from([1e-3, 1.0, 1e3]),
    batch_size=st.integers(1, 65),
    interpolations=st.integers(1, 7),
    draw=st.sampled_from(["sample", "batch"]),
    label=st.sampled_from(["mask", "sampled"]),
    prob=st.floats(0, 1) | st.just(1.0),
    key=st.builds(Key, words, words, words, words),
)


SOLVING = [name for name, case in CASES.items() if case.example.mask_needs]


def any_plan(name, setting):
    case = CASES[name]
    setting = setting.fitted(case)
    plan = setting.plan(case)
    for check in PLAN_CHECKS + COSTLY_PLAN_CHECKS:
        check(case, setting, plan)


@settings(max_examples=20)
@pytest.mark.parametrize("name", [name for name in CASES if name not in SOLVING])
@given(setting)
def test_any_plan(name, setting):
    any_plan(name, setting)


@pytest.mark.nightly
@settings(max_examples=8)
@pytest.mark.parametrize("name", SOLVING)
@given(setting)
def test_any_plan_that_is_solved_for(name, setting):
    any_plan(name, setting)


@settings(max_examples=25)
@pytest.mark.parametrize("name", CASES)
@given(height=st.integers(1, 9), width=st.integers(1, 9), step=st.integers(0, 99))
def test_the_masks_of_a_plan_are_those_of_the_reference(name, height, width, step):
    case = CASES[name]
    plan = case.plan(case.mixer(0.6, interpolations=2), Key(step=step), 2, height, width)
    fast = dense(plan, np.arange(2))
    masks = plan.mask()
    assert masks.dtype == np.float64 and masks.shape == (2, 2, plan.height, plan.width)
    for i, k in np.ndindex(2, 2):
        slow = reference.mask(plan, i, k)
        np.testing.assert_allclose(fast[i, k], slow, rtol=0, atol=1e-12)
        np.testing.assert_allclose(masks[i, k], slow, rtol=0, atol=1e-12)
        assert abs(reference.mask_mean(plan, i, k) - plan.weight[i, k]) < 1e-6
