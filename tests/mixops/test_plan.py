"""The plan as a value: it refuses nonsense, prints, joins, replays, and scores answers."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from mixops import CutMix, GMix, HMix, Key, MixPlan, MixUp, Switch, mix_images, mix_targets
from mixops.plan import concatenate


def some_plan(b=4, k=2, h=5, w=7, dense=False, moves=False, mixer=CutMix, step=0):
    plan = mixer(interpolations=k).plan(Key(1, step=step), batch_size=b, height=h, width=w)
    changes = {}
    if dense:
        changes["dense"] = np.random.default_rng(step).random((b, k, h, w)).astype(np.float32)
        changes["weight"] = changes["dense"].astype(np.float64).mean((2, 3))
    if moves:
        changes["moves"] = np.argsort(np.random.default_rng(step).random((b, k, 2, 1)), -1).astype(np.int32)
    return dataclasses.replace(plan, **changes)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("partner", np.zeros(3, np.int64), r"partner must have shape \(4,\), got \(3,\)"),
        ("partner", np.array([0, 1, 2, 4]), r"partner must be in \[0, 4\), got 0 to 4"),
        ("partner", np.array([0, -1, 2, 3]), r"partner must be in \[0, 4\), got -1 to 3"),
        ("lam", np.zeros((4, 1)), r"lam must have shape \(4, 2\), got \(4, 1\)"),
        ("params", np.zeros((4, 2, 8), np.float32), r"params must have shape \(4, 2, 9\)"),
        ("dense", np.zeros((4, 2, 5, 6), np.float32), r"dense must have shape \(4, 2, 5, 7\)"),
        ("moves", np.zeros((4, 1, 2, 4), np.int32), r"moves must have shape \(4, 2, 2, 4\)"),
    ],
)
def test_a_plan_refuses_fields_that_do_not_fit(field, value, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(some_plan(), **{field: value})


def test_a_plan_prints_who_is_mixed_with_whom():
    plan = some_plan(b=10, k=2)
    lines = str(plan).splitlines()
    assert lines[0] == "MixPlan of 10 pairs, 2 outputs each, 5x7; row + partner: own label weights"
    assert lines[1] == f"  0 + {plan.partner[0]}: {plan.weight[0, 0]:.3f} {plan.weight[0, 1]:.3f}"
    assert len(lines) == 10 and lines[-1] == "  ... 2 more"
    assert len(str(some_plan(b=3)).splitlines()) == 4


@given(
    st.sampled_from([MixUp, CutMix, HMix, GMix]), st.integers(1, 6), st.integers(1, 3), st.integers(1, 9), st.integers(1, 9),
    st.booleans(), st.booleans(),
)  # fmt: skip
def test_a_stored_plan_gives_the_same_pixels_and_targets(mixer, b, k, h, w, dense, moves):
    plan = some_plan(b, k, h, w, dense, moves, mixer)
    back = MixPlan.from_json(plan.to_json())
    images = np.random.default_rng(b).integers(0, 256, (b, 3, h, w)).astype(np.uint8)
    np.testing.assert_array_equal(mix_images(images, back, backend="eager"), mix_images(images, plan, backend="eager"))
    labels = np.arange(b)
    np.testing.assert_array_equal(mix_targets(labels, back, num_classes=6), mix_targets(labels, plan, num_classes=6))


@pytest.mark.parametrize(("b", "k", "h", "w"), [(3, 2, 5, 7), (1, 1, 1, 1), (0, 3, 4, 4)])
def test_the_identity_mixes_nothing(b, k, h, w):
    plan = MixPlan.identity(b, interpolations=k, height=h, width=w)
    assert plan.weight.shape == (b, k) and (plan.height, plan.width) == (h, w) and plan.constant
    images = np.random.default_rng(0).random((b, 3, h, w))
    np.testing.assert_array_equal(mix_images(images, plan), images.repeat(k, 0))
    np.testing.assert_array_equal(mix_targets(np.arange(b), plan, num_classes=4), np.eye(4)[:b].repeat(k, 0))
    assert not np.shares_memory(plan.weight, plan.lam)


@pytest.mark.parametrize("text", ["[]", "{}", '{"version": 2}', '"plan"'])
def test_other_json_is_refused(text):
    with pytest.raises(ValueError, match="text must be a plan of version 1"):
        MixPlan.from_json(text)


def test_the_json_is_an_object_that_names_its_version():
    fields = json.loads(some_plan().to_json())
    assert fields["version"] == 1 and fields["height"] == 5 and len(fields["partner"]) == 4


@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4), k=st.integers(1, 2), dense=st.booleans(), moves=st.booleans()
)
def test_joined_plans_mix_the_joined_batches(sizes, k, dense, moves):
    plans = [some_plan(b, k, dense=dense and i % 2 == 0, moves=moves, step=i) for i, b in enumerate(sizes)]
    images = np.random.default_rng(0).random((sum(sizes), 2, 5, 7)).astype(np.float32)
    edges = np.cumsum([0, *sizes])
    parts = [reference.mix_images(images[a:b], plan) for a, b, plan in zip(edges, edges[1:], plans, strict=False)]
    joined = concatenate(plans)
    np.testing.assert_allclose(reference.mix_images(images, joined), np.concatenate(parts), rtol=0, atol=1e-7)
    np.testing.assert_array_equal(joined.weight, np.concatenate([plan.weight for plan in plans]))
    np.testing.assert_array_equal(joined.lam, np.concatenate([plan.lam for plan in plans]))


def test_plans_that_do_not_fit_are_not_joined():
    with pytest.raises(ValueError, match="plans must not be empty"):
        concatenate([])
    for other in (some_plan(k=1), some_plan(h=6), some_plan(w=6), some_plan(moves=True)):
        with pytest.raises(ValueError, match="plans must be alike"):
            concatenate([some_plan(), other])


def test_constant_says_whether_every_mask_has_one_value():
    assert some_plan(mixer=MixUp).constant
    assert not some_plan(mixer=CutMix).constant and not some_plan(mixer=GMix).constant
    assert not some_plan(mixer=MixUp, dense=True).constant and not some_plan(mixer=MixUp, moves=True).constant
    assert not Switch([MixUp(), CutMix()]).plan(Key(), batch_size=20, height=9, width=9).constant


@given(st.integers(1, 5), st.integers(1, 3), st.integers(1, 4), st.integers(0, 99))
def test_accuracy_weighs_right_answers_by_their_labels(b, k, classes, seed):
    rng = np.random.default_rng(seed)
    plan = some_plan(b, k, step=seed)
    logits, labels = rng.standard_normal((b * k, classes)), rng.integers(0, classes, b)
    targets = reference.mix_targets(labels, plan, classes)
    expected = np.mean([targets[n, logits[n].argmax()] for n in range(b * k)])
    assert plan.accuracy(logits, labels) == pytest.approx(expected, abs=1e-12)
    tensors = torch.from_numpy(logits).requires_grad_(), torch.from_numpy(labels)
    assert plan.accuracy(*tensors) == pytest.approx(expected, abs=1e-12)


def test_accuracy_reads_half_precision_logits():
    plan = some_plan(2, 1)
    assert plan.accuracy(torch.eye(2).bfloat16(), torch.arange(2)) == pytest.approx(plan.weight.mean())


def test_accuracy_refuses_rows_that_do_not_fit():
    with pytest.raises(ValueError, match=r"logits must have 8 rows and labels 4, got \(7, 3\) and \(4,\)"):
        some_plan().accuracy(np.zeros((7, 3)), np.zeros(4, int))
