"""FMix: the spectrum of its fields, its masks, and the plans made of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mixops import Key
from mixops.mixers.fmix import FMix, cut_fields, low_frequency_fields

SIDES = st.tuples(st.integers(1, 40), st.integers(1, 40))


def energies(height: int, width: int, decay_power: float = 3.0, fields: int = 1000) -> np.ndarray:
    """Mean energy of each two-dimensional frequency over ``fields`` fields."""
    drawn = low_frequency_fields(Key(seed=5), fields, height, width, decay_power)
    return (np.abs(np.fft.fft2(drawn.astype(np.float64))) ** 2).mean(0)


def theory(height: int, width: int, decay_power: float = 3.0) -> np.ndarray:
    """frequency^(-2 decay_power), frequencies below 1 / max(h, w) counting as that, without the constant."""
    fy, fx = np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)
    expected = np.maximum(np.hypot(fy, fx), 1 / max(height, width)) ** (-2 * decay_power)
    expected[0, 0] = 0
    return expected


@pytest.mark.parametrize(("height", "width"), [(32, 32), (24, 40), (33, 31)])
def test_spectrum_is_that_of_the_paper_in_both_directions(height, width):
    found, expected = energies(height, width), theory(height, width)
    found, expected = found / found.sum(), expected / expected.sum()
    fy, fx = np.fft.fftfreq(height)[:, None] ** 2, np.fft.fftfreq(width) ** 2
    for weight in (fx, fy):  # the energy of the horizontal and of the vertical gradient
        assert (found * weight).sum() == pytest.approx((expected * weight).sum(), rel=0.1)
    # the energies of 1000 fields are within five standard deviations frequency by frequency
    strong = expected > 1e-4
    assert np.abs(found / np.where(strong, expected, 1) - 1)[strong].max() < 5 / np.sqrt(1000)
    assert found[~strong].sum() == pytest.approx(expected[~strong].sum(), abs=1e-3)


def test_horizontal_and_vertical_energy_are_equal_on_square_images():
    found = energies(32, 32)
    frequency = np.fft.fftfreq(32) ** 2
    ratio = (found * frequency).sum() / (found * frequency[:, None]).sum()
    assert 0.9 < ratio < 1.1
    # pure horizontal and pure vertical waves: one frequency holds most of their energy, so it takes more fields
    found = energies(32, 32, fields=6_000)
    assert 0.92 < found[0, 1:16].sum() / found[1:16, 0].sum() < 1.08


def test_a_reader_of_the_wrong_axis_is_found_out():
    """The authors' slip leaves the horizontal frequencies 0 and 1 alone; energies there must not be all there is."""
    found = energies(32, 32)
    assert found[:, 2:31].sum() > 0.01 * found.sum()
    assert found[2:31].sum() > 0.01 * found.sum()


@pytest.mark.parametrize("decay_power", [0.0, 1.0, 1.5, 2.5, 4.0])
def test_little_energy_is_left_out(decay_power):
    found, expected = energies(48, 48, decay_power, fields=400), theory(48, 48, decay_power)
    left_out = expected[found < 1e-9 * found.max()].sum()
    assert left_out - expected[0, 0] <= 1e-4 * expected.sum()
    assert found.any()


def test_without_decay_the_fields_are_white_up_to_the_highest_frequencies():
    found = energies(8, 6, decay_power=0.0, fields=4000)
    assert found[0, 0] < 1e-6 * found.max()
    shares = found.flatten()[1:] / found.flatten()[1:].mean()
    assert np.abs(shares - 1).max() < 5 * np.sqrt(2 / 4000)  # some frequencies have one random number, most have two


@given(
    size=SIDES,
    k=st.integers(1, 4),
    seed=st.integers(0, 9),
    batch=st.integers(1, 5),
    label=st.sampled_from(["mask", "sampled"]),
)
@settings(deadline=None, max_examples=60)
def test_plans(size, k, seed, batch, label):
    height, width = size
    plan = FMix(1.0, interpolations=k, label=label).plan(Key(seed), batch_size=batch, height=height, width=width)
    mask = plan.mask()
    assert mask.shape == (batch, k, height, width) and plan.dense.dtype == np.uint8
    assert set(np.unique(mask)) <= {0.0, 1.0}
    means = mask.mean((2, 3))
    if label == "mask":
        np.testing.assert_allclose(plan.weight, means, atol=1e-12)
    else:
        np.testing.assert_array_equal(plan.weight, plan.lam)
    assert (np.diff(mask, axis=1) <= 0).all(), "the masks of a pair must be nested"


@pytest.mark.parametrize(("height", "width"), [(224, 224), (33, 57), (1, 301), (301, 1)])
def test_masks_have_the_sampled_share_of_pixels(height, width):
    plan = FMix(1.0, interpolations=3).plan(Key(2), batch_size=16, height=height, width=width)
    assert np.abs(plan.mask().mean((2, 3)) - plan.lam).max() <= 0.5 / (height * width) + 1e-12


@given(
    pixels=st.integers(1, 3000), levels=st.sampled_from([1, 2, 5, 100, 10**6]), k=st.integers(1, 3), seed=st.integers(0, 99)
)
@settings(deadline=None, max_examples=80)
def test_cuts_equal_sorting(pixels, levels, k, seed):
    rng = np.random.default_rng(seed)
    field = (rng.integers(-levels, levels, (2, 1, pixels)) / levels).astype(np.float32) ** 3  # with equal pixels
    lam = -np.sort(-rng.choice([0, 1, rng.random()], (2, k)), axis=1)
    masks, weight = cut_fields(field.copy(), lam)
    for r in range(2):
        ranked = np.sort(field[r, 0])[::-1]
        for j in range(k):
            wanted = round(lam[r, j] * pixels)
            chosen = masks[r, j, 0] == 1
            assert weight[r, j] == chosen.mean()
            if chosen.any() and not chosen.all():
                assert field[r, 0][chosen].min() > field[r, 0][~chosen].max()  # the highest pixels
            possible = {0, pixels} | {int((field[r, 0] >= height).sum()) for height in ranked}
            assert abs(chosen.sum() - wanted) == min(abs(count - wanted) for count in possible)


def test_same_key_same_plan_and_samples_do_not_depend_on_the_batch():
    mixer = FMix(1.0)
    plans = [mixer.plan(Key(1, 2, 3), batch_size=8, height=32, width=32) for _ in range(2)]
    np.testing.assert_array_equal(plans[0].dense, plans[1].dense)
    other = mixer.plan(Key(1, 2, 4), batch_size=8, height=32, width=32)
    assert (plans[0].dense != other.dense).any()
    few, many = (low_frequency_fields(Key(1), count, 20, 30) for count in (3, 9))
    np.testing.assert_allclose(few, many[:3], atol=1e-4)


def test_draw_batch_and_prob():
    plan = FMix(1.0, draw="batch").plan(Key(0), batch_size=6, height=16, width=16)
    assert (plan.dense == plan.dense[:1]).all()
    plan = FMix(1.0, prob=0.5).plan(Key(0), batch_size=64, height=16, width=16)
    whole = plan.weight[:, 0] == 1
    assert 0.2 < whole.mean() < 0.8
    assert (plan.dense[whole] == 1).all()


@pytest.mark.parametrize("value", [-0.5, np.inf, np.nan])
def test_bad_decay_power(value):
    with pytest.raises(ValueError, match=r"decay_power must be in \[0, 32\], got "):
        FMix(1.0, value)


def test_repr_names_the_decay():
    assert repr(FMix(0.5, 2.0)) == "FMix(alpha=0.5, decay_power=2.0)"
