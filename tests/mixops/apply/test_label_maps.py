"""Label maps under the mask of their images, pixel by pixel."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from mixops import CutMix, GMix, HMix, Key, MixUp
from mixops.apply.label_maps import mix_label_maps
from mixops.masks import constant_masks
from mixops.plan import MixPlan

sizes = {
    "b": st.integers(1, 4),
    "k": st.integers(1, 2),
    "h": st.integers(1, 6),
    "w": st.integers(1, 6),
    "step": st.integers(0, 50),
}
mixers = st.sampled_from([MixUp, CutMix, HMix, GMix])


def some_plan(mixer, b, k, h, w, step):
    return mixer(interpolations=k).plan(Key(step=step), batch_size=b, height=h, width=w)


@given(mixer=mixers, **sizes, ignore=st.sampled_from([None, 255]))
def test_soft_and_hard_maps_equal_a_loop_over_pixels(mixer, b, k, h, w, step, ignore):
    plan, rng, classes = some_plan(mixer, b, k, h, w, step), np.random.default_rng(step), 3
    maps = rng.choice([0, 1, 2] + ([] if ignore is None else [ignore]), (b, h, w)).astype(np.uint8)
    soft, hard = np.zeros((b * k, classes, h, w)), np.zeros((b * k, h, w))
    for i, j, y, x in np.ndindex(b, k, h, w):
        share = reference.mask(plan, i, j)[y, x]
        own, other = maps[i, y, x], maps[plan.partner[i], y, x]
        for label, part in ((own, share), (other, 1 - share)):
            if label != ignore:
                soft[i * k + j, label, y, x] += part
        hard[i * k + j, y, x] = own if np.float32(share) >= 0.5 else other
    for kind in (np.array, torch.from_numpy):
        mixed = mix_label_maps(kind(maps), plan, num_classes=classes, ignore_index=ignore)
        assert type(mixed) is type(kind(maps))
        np.testing.assert_allclose(mixed, soft, rtol=0, atol=1e-6)
        chosen = mix_label_maps(kind(maps), plan, ignore_index=ignore)
        assert chosen.dtype == kind(maps).dtype
        np.testing.assert_array_equal(chosen, hard)
    if ignore is None:
        onehot = np.moveaxis(np.eye(classes, dtype=np.float32)[maps], -1, 1)
        np.testing.assert_allclose(mix_label_maps(onehot, plan), soft, rtol=0, atol=1e-6)


@given(**sizes)
def test_a_constant_mask_fits_maps_of_any_size_and_is_soft(b, k, h, w, step):
    plan = some_plan(MixUp, b, k, 1, 1, step)
    maps = np.random.default_rng(step).integers(0, 4, (b, h, w))
    soft = mix_label_maps(maps, plan, num_classes=4)
    np.testing.assert_allclose(soft.sum(1), 1, rtol=0, atol=1e-6)
    onehot = np.eye(4)[maps].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(soft, reference.mix_images(onehot, plan), rtol=0, atol=1e-6)


def test_a_pixel_that_both_share_is_the_rows_own():
    """At a mask of exactly one half, and not at the next float32 below it."""
    half = np.array([[0.5], [np.nextafter(np.float32(0.5), np.float32(0))]])
    plan = MixPlan(np.array([1, 0]), half, half, constant_masks(half), 2, 3)
    maps = np.array([np.full((2, 3), 7), np.full((2, 3), 4)])
    np.testing.assert_array_equal(mix_label_maps(maps, plan), np.full((2, 2, 3), 7))


def test_blocks_of_maps_move_with_those_of_their_images():
    plan = some_plan(CutMix, 3, 2, 4, 6, 0)
    moves = np.argsort(np.random.default_rng(0).random((3, 2, 2, 4)), -1).astype(np.int32)
    plan = dataclasses.replace(plan, moves=moves)
    maps = np.random.default_rng(1).integers(0, 5, (3, 4, 6))
    expected = reference.mix_images(np.eye(5)[maps].transpose(0, 3, 1, 2), plan)
    np.testing.assert_allclose(mix_label_maps(maps, plan, num_classes=5), expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(mix_label_maps(maps, plan), expected.argmax(1))


def test_the_source_is_not_modified_and_may_be_read_only():
    plan = some_plan(CutMix, 3, 1, 4, 6, 0)
    maps = np.random.default_rng(1).integers(0, 5, (3, 4, 6))
    maps.flags.writeable = False
    before = maps.copy()
    mix_label_maps(maps, plan), mix_label_maps(maps, plan, num_classes=5)
    np.testing.assert_array_equal(maps, before)


@pytest.mark.parametrize(
    ("maps", "options", "error", "message"),
    [
        ([[0]], {}, TypeError, "maps must be a torch tensor or NumPy array, got list"),
        (np.zeros((2, 4, 5), bool), {}, TypeError, "maps must be integers or floating, got torch.bool"),
        (np.zeros((3, 4, 5), int), {}, ValueError, r"maps must be \(b, h, w\) integers with the plan's 2 rows"),
        (np.zeros((2, 1, 4, 5), int), {}, ValueError, r"got shape \(2, 1, 4, 5\)"),
        (np.zeros((2, 4, 5)), {}, ValueError, r"maps must be \(b, classes, h, w\) floating"),
        (np.zeros((2, 5, 4), int), {}, ValueError, r"maps must be 4x5 pixels as the plan is, got shape \(2, 5, 4\)"),
        (np.full((2, 4, 5), 3), {"num_classes": 3}, ValueError, r"maps must be in \[0, num_classes = 3\), got 3 to 3"),
        (np.full((2, 4, 5), 3), {"num_classes": 0}, ValueError, "num_classes must be at least 1"),
        (np.zeros((2, 3, 4, 5)), {"num_classes": 4}, ValueError, "num_classes must be that of maps, 3, got 4"),
        (np.zeros((2, 3, 4, 5)), {"ignore_index": 4}, ValueError, "ignore_index must be None for soft maps, got 4"),
    ],
)
def test_bad_maps_are_refused_by_name(maps, options, error, message):
    with pytest.raises(error, match=message):
        mix_label_maps(maps, some_plan(CutMix, 2, 1, 4, 5, 0), **options)
