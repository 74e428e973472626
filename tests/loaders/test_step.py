"""The plan of a step: drawn by row of the global batch, by group and by step, whoever asks and whatever is bad."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import reference

from loaders.schedule import Schedule
from loaders.step import StepPlanner, replacements
from mixops import CutMix, Key, MixUp, OptimalMatching
from mixops.augment.crop_plan import draw_crops
from mixops.augment.crops import RandomResizedCrop
from mixops.augment.flips import Flip
from mixops.key import Stream
from mixops.plan import MixPlan, concatenate

N, ROWS, SIZE = 60, 12, (8, 6)
SIZES = np.random.default_rng(0).integers(20, 400, (N, 2))


def planner(mixer=None, options={}, **schedule) -> StepPlanner:  # noqa: B006 (only read)
    return StepPlanner(Schedule(N, ROWS, 5, **schedule), SIZES, SIZE, RandomResizedCrop(), Flip(0.5), mixer, **options)


def equal(a: MixPlan | None, b: MixPlan | None) -> bool:
    return (a and a.to_json()) == (b and b.to_json())


def test_crops_are_those_of_the_rows_of_the_global_batch():
    for epoch, step in ((0, 0), (2, 3)):
        whole = planner().draw(epoch, step)
        expected = draw_crops(Key(5, epoch, step), np.arange(ROWS), SIZES[whole.ids], RandomResizedCrop(), Flip(0.5), SIZE)
        np.testing.assert_array_equal(whole.windows, expected.windows)
        np.testing.assert_array_equal(whole.flips, expected.flips)
        for rank in range(3):
            part = planner(rank=rank, world_size=3).draw(epoch, step)
            np.testing.assert_array_equal(part.windows, whole.windows[part.rows])
            np.testing.assert_array_equal(part.flips, whole.flips[part.rows])


def test_each_group_is_mixed_by_a_key_of_its_own():
    mixer = CutMix()
    one = planner(mixer, rank=1, world_size=2, mix_group=3)
    plans = [mixer.plan(Key(5, 1, 2, group), batch_size=3, height=8, width=6) for group in (2, 3)]
    assert equal(one.draw(1, 2).mix, concatenate(plans))


def test_a_matching_sees_the_images_of_its_group():
    mixer = MixUp(matching=OptimalMatching(k=2))
    one = planner(mixer, mix_group=6)
    images = torch.from_numpy(np.random.default_rng(1).random((ROWS, 3, *SIZE)))
    assert one.looks_at_images and one.draw(0, 1).mix is None
    plans = [mixer.plan(Key(5, 0, 1, i), batch_size=6, height=8, width=6, images=images[6 * i : 6 * i + 6]) for i in (0, 1)]
    assert equal(one.mix(0, 1, images), concatenate(plans))


def test_replacements_are_words_of_the_row_one_after_the_other():
    row = Key(3, 1, 2, 7)
    words = reference.words(3, 1, 2, 7, int(Stream.REPLACEMENT), 9)
    assert replacements(row, N)[:9].tolist() == [int(u * N) for u in reference.uniforms(words)]


def test_rows_of_a_bad_sample_are_replaced_by_row():
    """Twelve rows that all show bad samples: each finds its own way to a good one."""
    clean = planner().draw(0, 0)
    bad = set(clean.ids.tolist())
    drawn = planner().draw(0, 0, bad)
    assert not bad & set(drawn.ids.tolist()) and drawn.rejected[0] == clean.ids[0]
    assert len(set(drawn.ids.tolist())) > ROWS // 2
    for rank in range(3):
        part = planner(rank=rank, world_size=3).draw(0, 0, bad)
        np.testing.assert_array_equal(part.ids, drawn.ids[part.rows])


@pytest.mark.parametrize("bad", [set(), {999}, set(range(0, N, 3))])
def test_drawn_again_is_as_if_it_had_been_known(bad):
    one = planner(CutMix())
    again, known = one.redraw(one.draw(3, 1), bad), one.draw(3, 1, bad)
    for name in ("rows", "ids", "windows", "flips"):
        np.testing.assert_array_equal(getattr(again, name), getattr(known, name))
    assert again.rejected == known.rejected and equal(again.mix, known.mix)


def test_images_of_unknown_size_have_a_window():
    one = replace(planner(), sizes=np.zeros((N, 2), np.int64))
    assert (one.draw(0, 0).windows[:, 2:] == 1).all()


def test_views_differ_in_their_crops_alone():
    one, two = planner(CutMix()).draw(0, 1), planner(CutMix(), {"views": 2}).draw(0, 1)
    for name in ("rows", "ids"):
        np.testing.assert_array_equal(getattr(two, name), np.tile(getattr(one, name), 2))
    np.testing.assert_array_equal(two.windows[:ROWS], one.windows)
    assert (two.windows[ROWS:] != one.windows).any(1).mean() > 0.8
    assert equal(two.mix, concatenate([one.mix, one.mix]))


def test_replacements_of_a_subset_are_of_the_subset():
    candidates = np.arange(0, N, 2)
    schedule = Schedule(len(candidates), ROWS, 5)
    one = StepPlanner(schedule, SIZES, SIZE, RandomResizedCrop(), candidates=candidates)
    bad = set(candidates[::2].tolist())
    shown = [sample for step in range(len(schedule)) for sample in one.draw(0, step, bad).ids.tolist()]
    assert not bad & set(shown) and set(shown) <= set(candidates.tolist())
