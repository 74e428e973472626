"""Switch: which member a unit takes, and that it takes the whole of it."""

from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mixops import CutMix, GMix, HMix, Key, MixUp, OptimalMatching, PuzzleMix, Switch, mix_images
from mixops.key import Stream
from mixops.mixers.base import CHOICE


@pytest.mark.parametrize("member", [MixUp(0.3), CutMix(1.0, interpolations=3), HMix(r=0.2), GMix(2.0, label="sampled")])
def test_a_switch_of_one_is_that_one(member):
    sizes = {"batch_size": 12, "height": 11, "width": 15}
    plan, alone = Switch([member]).plan(Key(8), **sizes), member.plan(Key(8), **sizes)
    for name in ("partner", "weight", "lam", "params"):
        np.testing.assert_array_equal(getattr(plan, name), getattr(alone, name))


@settings(max_examples=40)
@given(
    weights=st.lists(st.floats(0, 10), min_size=3, max_size=3).filter(lambda w: sum(w) > 1e-3),
    k=st.integers(1, 3), draw=st.sampled_from(["sample", "batch"]), step=st.integers(0, 99),
)  # fmt: skip
def test_every_unit_is_one_member_whole(weights, k, draw, step):
    members = [MixUp(0.3), CutMix(1.0, label="sampled"), GMix(2.0)]
    key, sizes = Key(1, step=step), {"batch_size": 20, "height": 9, "width": 13}
    plan = Switch(members, weights, interpolations=k, draw=draw).plan(key, **sizes)
    alone = [member.replace(interpolations=k, draw=draw).plan(key, **sizes) for member in members]
    units = 20 if draw == "sample" else 1
    u = key.uniform(Stream.MIX, (units, 4 + 3 * k))[:, CHOICE]
    edges = [0.0, weights[0] / sum(weights), (weights[0] + weights[1]) / sum(weights), 1.0]
    rows = key.permutation(Stream.PAIRING, 20)  # row rows[i] is unit i
    for position, row in enumerate(rows):
        number = u[position if draw == "sample" else 0]
        chosen = next(i for i in range(3) if edges[i] <= number < edges[i + 1] or i == 2)
        for name in ("partner", "weight", "lam", "params"):
            np.testing.assert_array_equal(getattr(plan, name)[row], getattr(alone[chosen], name)[row])


def test_members_are_chosen_in_proportion_to_their_weights():
    mixer = Switch([MixUp(), CutMix(), HMix(r=1e-9), GMix()], [1, 2, 0, 5])
    plans = [mixer.plan(Key(2, step=i), batch_size=50, height=16, width=16) for i in range(60)]
    params = np.concatenate([plan.params[:, 0] for plan in plans])
    counts = [(params[:, 1] == 0).sum(), ((params[:, 8] == 0) & (params[:, 1] != 0)).sum(), (params[:, 8] != 0).sum()]
    assert sum(counts) == 3000
    assert stats.chisquare(counts, np.array([1, 2, 5]) * 3000 / 8).pvalue > 1e-4


def test_the_largest_number_still_chooses_a_member():
    """Ten times 0.1 add up to less than one."""
    mixer = Switch([MixUp() for _ in range(10)], [0.1] * 10)
    with mock.patch.object(Key, "uniform", lambda key, stream, shape, start=0: np.full(shape, 1 - 2.0**-53)):
        assert mixer.plan(Key(), batch_size=2, height=4, width=4).lam.shape == (2, 1)


def test_a_batch_draw_switches_whole_batches():
    mixer = Switch([MixUp(), CutMix()], draw="batch")
    kinds = [set(mixer.plan(Key(step=i), batch_size=9, height=8, width=8).params[:, 0, 1] != 0) for i in range(30)]
    assert all(len(kind) == 1 for kind in kinds) and len(set.union(*kinds)) == 2


def test_the_number_of_outputs_may_be_said_on_either_side():
    inside, outside = (
        Switch([MixUp(interpolations=4), CutMix(interpolations=4)]),
        Switch([MixUp(), CutMix()], interpolations=4),
    )
    assert inside == outside and inside.interpolations == 4
    assert inside.replace(interpolations=2) == Switch([MixUp(), CutMix()], interpolations=2)
    assert inside.replace(interpolations=1).plan(Key(), batch_size=3, height=4, width=4).weight.shape == (3, 1)


def test_it_takes_a_matching():
    images = np.random.default_rng(0).random((8, 1, 4, 4)).astype(np.float32)
    mixer = Switch([MixUp(), CutMix()], matching=OptimalMatching(k=2))
    plan = mixer.plan(Key(), batch_size=8, height=4, width=4, images=images)
    assert len({row.tobytes() for row in plan.lam}) == 4


@pytest.mark.parametrize("prob", [1.0, 0.5])
def test_members_may_follow_the_pictures(prob):
    """Masks, moves and labels of each row are those of the member it chose, on a grid that fits every member's moves."""
    generator = torch.Generator().manual_seed(0)
    images, saliency = torch.rand(24, 3, 12, 24, generator=generator), torch.rand(24, 12, 24, generator=generator) ** 8
    members = [PuzzleMix(block_num=4, t_eps=0.05), CutMix(), PuzzleMix(block_num=6, t_eps=0.05)]
    key, given = Key(2), {"images": images, "saliency": saliency}
    mixer = Switch(members, interpolations=2, prob=prob)
    assert mixer.needs == {"images", "saliency"} and Switch([MixUp(), CutMix()]).needs == set()
    plan, alone = mixer.plan(key, **given), [member.replace(interpolations=2).plan(key, **given) for member in members]
    mixed, theirs = mix_images(images, plan), [mix_images(images, one) for one in alone]
    theirs.append(images.repeat_interleave(2, 0))  # nothing is mixed
    chosen = set()
    for i in range(24):
        rows = slice(2 * i, 2 * i + 2)
        found = [j for j in range(4) if torch.allclose(mixed[rows], theirs[j][rows], rtol=0, atol=1e-6)]
        assert found, i
        chosen.add(found[0])
        weight = np.ones(2) if found[0] == 3 else alone[found[0]].weight[i]
        np.testing.assert_array_equal(plan.weight[i], weight)
    assert chosen == ({0, 1, 2} if prob == 1 else {0, 1, 2, 3})
    np.testing.assert_array_equal(np.sort(plan.moves, -1), np.broadcast_to(np.arange(144), plan.moves.shape))
    np.testing.assert_allclose(plan.weight, plan.mask().mean((2, 3)), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([],), ValueError, "mixers must hold at least one"),
        (([MixUp(), "CutMix"],), TypeError, "mixers must be mixers .*'CutMix'"),
        (([Switch([MixUp()])],), TypeError, "mixers must be mixers other than Switch"),
        (([MixUp(draw="batch")],), ValueError, "mixers must leave draw to the Switch"),
        (([MixUp(prob=0.5)],), ValueError, "mixers must leave prob to the Switch"),
        (([MixUp(matching=OptimalMatching(k=2))],), ValueError, "mixers must leave matching to the Switch"),
        (([MixUp(), CutMix()], [1]), ValueError, "weights must have one value a mixer, 2, got 1"),
        (([MixUp(), CutMix()], [1, -1]), ValueError, "weights must be at least 0 and finite, got -1"),
        (([MixUp(), CutMix()], [0, 0]), ValueError, "weights must be non-negative with a positive, finite sum"),
        (([MixUp(), CutMix()], [1, float("nan")]), ValueError, "weights must be at least 0 and finite, got nan"),
        (([MixUp(interpolations=2), CutMix()],), ValueError, "interpolations must agree"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    with pytest.raises(error, match=message):
        Switch(*arguments)
