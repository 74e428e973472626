"""HMix whose r is drawn, and how far its outputs of a pair are from an ordered path."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support import reference
from support.checks import injected

from mixops import Beta, CutMix, HMix, Key, MixUp
from mixops.key import Stream

SIZE = {"batch_size": 40, "height": 24, "width": 31}


def ratios(key: Key, g: float, units: int) -> list[float]:
    """r of each unit: three words of a stream of their own each, by the formula of lambda."""
    u = reference.uniforms(reference.words(key.seed, key.epoch, key.step, key.rank, int(Stream.RATIO), 3 * units))
    return [reference.symmetric_beta(*u[3 * i : 3 * i + 3], g) for i in range(units)]


@pytest.mark.parametrize("options", [{}, {"interpolations": 3}, {"draw": "batch"}, {"convention": "paper"}], ids=str)
def test_each_pair_has_an_r_and_is_that_hmix_bit_for_bit(options):
    key = Key(3, 1, 4, 1)
    plan = HMix(0.7, r=Beta(0.5), **options).plan(key, **SIZE)
    units = 1 if options.get("draw") == "batch" else 40
    unit_of_row = np.zeros(40, int) if units == 1 else np.argsort(np.argsort(reference.words(3, 1, 4, 1, 2, 40)))
    found = ratios(key, 0.5, units)
    for row in range(40):
        alone = HMix(0.7, r=found[unit_of_row[row]], **options).plan(key, **SIZE)
        for name in ("partner", "weight", "lam", "params"):
            np.testing.assert_array_equal(getattr(plan, name)[row], getattr(alone, name)[row])


@pytest.mark.parametrize("g", [0.5, 2.0])
def test_r_follows_its_law(g):
    drawn = np.concatenate([Beta(g).draw(Key(1, step=i), Stream.RATIO, 50) for i in range(60)])
    assert stats.kstest(drawn, stats.beta(g, g).cdf).pvalue > 1e-3
    lam = np.concatenate([HMix(r=Beta(g)).plan(Key(1, step=i), batch_size=50, height=4, width=4).lam for i in range(60)])
    order = np.concatenate([Key(1, step=i).permutation(Stream.PAIRING, 50) + 50 * i for i in range(60)])
    assert abs(np.corrcoef(drawn, lam[order, 0])[0, 1]) < 5 / np.sqrt(3000), "r and lambda must be independent"


def test_towards_zero_r_is_a_coin_between_mixup_and_cutmix():
    mixer, boxes = HMix(r=Beta(1e-9), convention="paper"), 0
    for step in range(20):
        key = Key(5, step=step)
        plan, mixup, cutmix = (m.plan(key, **SIZE) for m in (mixer, MixUp(), CutMix()))
        mask, flat, cut = plan.mask(), mixup.mask(), cutmix.mask()
        is_flat = np.abs(mask - flat).max((1, 2, 3)) < 1e-6
        is_cut = np.abs(mask - cut).max((1, 2, 3)) < 1e-6
        assert (is_flat | is_cut).all()
        boxes += int(is_cut.sum())
    assert stats.binomtest(boxes, 800, 0.5).pvalue > 1e-3


def test_a_law_is_a_value():
    assert Beta(0.5) == Beta(0.5, 0.5) and hash(Beta(0.5)) == hash(Beta(0.5, 0.5)) and Beta(0.5) != Beta(1)
    assert repr(Beta(0.5, 0.5)) == "Beta(0.5)" and repr(HMix(r=Beta(2))) == "HMix(alpha=1.0, r=Beta(2.0))"


@settings(max_examples=200)
@given(
    lam=st.lists(st.floats(0.01, 0.99), min_size=2, max_size=5), r=st.sampled_from([0.25, 0.75, 1.0]),
    h=st.integers(2, 40), w=st.integers(2, 40), cy=st.floats(0, 1, exclude_max=True), cx=st.floats(0, 1, exclude_max=True),
)  # fmt: skip
def test_the_blend_rises_along_k_by_no_more_than_rounding_the_box(lam, r, h, w, cy, cx):
    """The box grows by two pixels at a time, and the blend around it rises at each step: never above an unrounded box's.

    Outside a box of real sides lambda / (1 - area) falls with lambda, clipped or not. A box of whole pixels is smaller, so
    its blend is at most that.
    """
    y, x = int(cy * h), int(cx * w)
    lam = np.sort(np.asarray(lam, np.float32).astype(np.float64))[::-1]
    shown = injected(HMix(r=r), lam[None], y, x, h, w).params[0, :, 0].astype(np.float64)
    half = np.sqrt((1 - lam) * r)[:, None] * [h, w] / 2
    edges = np.minimum([y, x] + half, [h, w]) - np.maximum([y, x] - half, 0)  # noqa: RUF005 - half is an array
    unrounded = lam / (1 - edges.prod(1) / (h * w))
    for k in range(len(lam)):
        assert (shown[k:] <= unrounded[k] + 1e-6).all()


def test_a_replaced_r_keeps_the_rest_of_the_draw():
    key = Key(8)
    drawn, fixed = (HMix(r=r, interpolations=2).plan(key, **SIZE) for r in (Beta(1.0), 0.5))
    np.testing.assert_array_equal(drawn.lam, fixed.lam)
    np.testing.assert_array_equal(drawn.partner, fixed.partner)
    assert (drawn.params != fixed.params).any()
    assert replace(HMix(r=Beta(1.0)), r=0.5) == HMix(r=0.5)
