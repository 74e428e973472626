"""What holds for every augmentation of the registry: values, draws that depend on the row alone, plans that read back."""

from __future__ import annotations

import dataclasses
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.augmentations import CASES, ERASING, MEMBERS, MIXTURES, POLICIES

from mixops import Key
from mixops.augment import AUGMENTATIONS, Augmentation, AugmentPlan, as_augmentation, parse_augment
from mixops.augment.composition import row_uniform
from mixops.augment.erasing import Erasing
from mixops.augment.operations import Op
from mixops.augment.plan import concatenate
from mixops.augment.policies.base import Words
from mixops.key import Stream

ALL = pytest.mark.parametrize("member", MEMBERS, ids=str)
MEAN, STD = (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)


def draw(members, rows, key=None, size=(30, 41)):
    return Augmentation(members).draw(key or Key(7, 1, 2), np.asarray(rows), size)


def test_every_registered_augmentation_is_tested():
    assert set(CASES) == set(AUGMENTATIONS)


@ALL
def test_it_is_a_value(member):
    assert hash(member) == hash(dataclasses.replace(member))
    assert pickle.loads(pickle.dumps(member)) == member
    with pytest.raises(dataclasses.FrozenInstanceError):
        member.words = 3


@ALL
def test_what_it_prints_is_read_back(member):
    assert parse_augment(repr(member)) == Augmentation([member])
    assert parse_augment(repr(Augmentation([member]))) == Augmentation([member])


@ALL
def test_it_takes_the_words_that_it_says(member):
    words = Words(np.full((3, member.words + 5), 0.3))
    if isinstance(member, Erasing):
        member.draw(words, 30, 41, MEAN, STD)
    else:
        member.draw(words, 30, 41, MEAN)
    assert words.left == 5


@ALL
def test_the_ends_of_the_uniform_numbers_are_drawn(member):
    """0 and the largest number below 1 make plans too: their fields are checked at construction."""
    for u in (0.0, 1 - 2.0**-53):
        words = Words(np.full((2, member.words), u))
        for height, width in ((1, 1), (30, 41), (3, 500)):
            if isinstance(member, Erasing):
                drawn = member.draw(Words(np.full((2, member.words), u)), height, width, MEAN, STD)
                top, left, h, w = np.moveaxis(drawn.box, -1, 0)
                assert (drawn.box >= 0).all() and (top + h <= height).all() and (left + w <= width).all()
            else:
                drawn = member.draw(Words(np.full((2, member.words), u)), height, width, MEAN)
                assert ((drawn.op >= 0) & (drawn.op < len(Op))).all() and np.isfinite(drawn.arg).all()
        assert words.left == member.words


@ALL
def test_a_row_depends_on_its_number_alone(member):
    whole = draw([member], range(100, 140))
    for rows in (range(110, 111), range(100, 105), [139, 100, 101, 117]):
        part = draw([member], rows)
        assert part.to_json() == whole.rows(np.asarray(rows) - 100).to_json()


@ALL
def test_seeds_epochs_steps_and_rows_differ_and_ranks_do_not(member):
    plans = [draw([member], range(64), key) for key in (Key(7), Key(8), Key(7, 1), Key(7, 0, 1))]
    plans.append(draw([member], range(64, 128), Key(7)))
    assert draw([member], range(64), Key(7, 0, 0, rank=5)).to_json() == plans[0].to_json()
    assert len({plan.noise.tobytes() for plan in plans}) == 5
    done = [[str(plan.rows(slice(i, i + 1))) for i in range(64)] for plan in plans]
    if len(set(done[0])) > 1:  # something is random about it
        assert len({"".join(rows) for rows in done}) == 5


@ALL
def test_plans_read_back_and_join(member):
    plan = draw([member], range(20))
    assert AugmentPlan.from_json(plan.to_json()).to_json() == plan.to_json()
    joined = concatenate([plan.rows(slice(0, 7)), plan.rows(slice(7, 8)), plan.rows(slice(8, None))])
    assert joined.to_json() == plan.to_json()
    assert concatenate([plan]) is plan
    assert str(plan).startswith("AugmentPlan of 20 images, 30x41\n  0: ") and str(plan).endswith("... 12 more")


@given(
    first=st.lists(st.sampled_from(POLICIES), max_size=2), mixture=st.lists(st.sampled_from(MIXTURES), max_size=1),
    last=st.lists(st.sampled_from(ERASING), max_size=2),
)  # fmt: skip
def test_members_do_not_change_the_erasing_nor_what_is_drawn_before_them(first, mixture, last):
    """Operations and erasing have streams of their own; a member's words are of a fixed number."""
    everything = draw([*first, *mixture, *last], range(8))
    assert np.array_equal(everything.box, draw(last, range(8)).box)
    assert np.array_equal(everything.noise, draw([*first, *last], range(8)).noise)


def test_members_are_done_in_their_order():
    kinds = AUGMENTATIONS["RandomGrayscale"](1.0), AUGMENTATIONS["RandomSolarize"](128, 1.0), AUGMENTATIONS["AugMix"]()
    assert (draw(kinds, range(3)).op == (Op.GRAYSCALE, Op.SOLARIZE, Op.AUGMIX)).all()
    assert (draw(kinds[::-1], range(3)).op == (Op.AUGMIX, Op.SOLARIZE, Op.GRAYSCALE)).all()
    holes = draw([AUGMENTATIONS["Cutout"](2), AUGMENTATIONS["Cutout"](4, 2)], range(50)).box
    assert holes[..., 2].max(0).tolist() == [2, 4, 4]


def test_noise_is_seeded_by_the_erasing_stream():
    seeds = Key(7, 1, 2).uniform(Stream.ERASE, (40, 1))[:, 0] * 2**32
    assert np.array_equal(draw([], range(40)).noise, seeds.astype(np.uint32))


def test_streams_of_today_keep_their_numbers():
    names = ["ORDER", "CROP", "PAIRING", "MIX", "REPLACEMENT", "TUPLES", "LAYER", "FIELD", "AUGMENT", "ERASE", "RATIO"]
    assert [(s.name, int(s)) for s in Stream][: len(names)] == [(name, i) for i, name in enumerate(names)]


def test_rows_have_words_of_their_own():
    whole = row_uniform(Key(1, 2, 3), Stream.AUGMENT, np.arange(50), 7)
    assert np.array_equal(whole, Key(1, 2, 3).uniform(Stream.AUGMENT, (50, 7)))
    for rows in ([3], [4, 5, 6], [9, 8, 8, 20, 21]):
        assert np.array_equal(row_uniform(Key(1, 2, 3), Stream.AUGMENT, np.array(rows), 7), whole[rows])


def test_order_is_operations_then_erasing():
    a, b, c = AUGMENTATIONS["RandomGrayscale"](), AUGMENTATIONS["Cutout"](4), AUGMENTATIONS["AugMix"]()
    assert as_augmentation([a, b]) == Augmentation((a, b))
    assert as_augmentation(a) == Augmentation([a]) and as_augmentation(None) is None
    assert as_augmentation(Augmentation([a])) == Augmentation([a])
    with pytest.raises(ValueError, match="augment must have erasing behind all operations, got"):
        as_augmentation([b, a])
    with pytest.raises(ValueError, match="augment must hold one AugMix at most, got"):
        as_augmentation([c, a, c])
    with pytest.raises(TypeError, match="augment must hold policies and erasing of mixops, got 3"):
        as_augmentation([a, 3])
    with pytest.raises(TypeError, match="augment must be a policy, one of timm's strings, a list of these or None, got 3"):
        as_augmentation(3)
