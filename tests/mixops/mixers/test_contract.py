"""The contract of all mixers, over generated plans; the checks themselves are in ``checks``."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from support.checks import AWKWARD, COSTLY_PLAN_CHECKS, MIXER_CHECKS, MIXERS, PLAN_CHECKS, Setting, dense, sweep

from mixops import Key

PLANS = 20_000  # that the sweep generates over all mixers
_CHUNKS = 4
_A_CHUNK = -(-PLANS // (len(MIXERS) * _CHUNKS))


@pytest.mark.parametrize("check", MIXER_CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize("name", MIXERS)
def test_mixer(name, check):
    check(MIXERS[name])


@pytest.mark.parametrize("chunk", range(_CHUNKS))
@pytest.mark.parametrize("name", MIXERS)
def test_sweep(name, chunk):
    """``PLANS`` plans in all: every plan gets the cheap checks, every twentieth the costly ones."""
    plans = 0
    for i, setting in enumerate(sweep(chunk, _A_CHUNK)):
        case = MIXERS[name]
        _, plan = setting.plan(case)
        try:
            for check in PLAN_CHECKS + (COSTLY_PLAN_CHECKS if i % 20 == 0 else ()):
                check(case, setting, plan)
        except AssertionError as error:
            raise AssertionError(f"{name}, {check.__name__}, {setting}") from error
        plans += 1
    assert plans == _A_CHUNK and plans * len(MIXERS) * _CHUNKS >= PLANS


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


@settings(max_examples=40)
@pytest.mark.parametrize("name", MIXERS)
@given(setting)
def test_any_plan(name, setting):
    case = MIXERS[name]
    _, plan = setting.plan(case)
    for check in PLAN_CHECKS + COSTLY_PLAN_CHECKS:
        check(case, setting, plan)


@settings(max_examples=25)
@pytest.mark.parametrize("name", MIXERS)
@given(height=st.integers(1, 9), width=st.integers(1, 9), step=st.integers(0, 99))
def test_the_masks_of_a_plan_are_those_of_the_reference(name, height, width, step):
    plan = MIXERS[name].mixer(0.6, interpolations=2).plan(Key(step=step), batch_size=2, height=height, width=width)
    fast = dense(plan, np.arange(2))
    masks = plan.mask()
    assert masks.dtype == np.float64 and masks.shape == (2, 2, height, width)
    for i, k in np.ndindex(2, 2):
        slow = reference.mask(plan, i, k)
        np.testing.assert_allclose(fast[i, k], slow, rtol=0, atol=1e-12)
        np.testing.assert_allclose(masks[i, k], slow, rtol=0, atol=1e-12)
        assert abs(reference.mask_mean(plan, i, k) - plan.weight[i, k]) < 1e-6
