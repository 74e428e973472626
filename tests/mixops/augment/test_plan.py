"""Augmentation plans: what they refuse, and what they say."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from mixops import Key
from mixops.augment import AugmentPlan, AugMix, ColorJitter, Cutout, RandomErasing, parse_augment
from mixops.augment.operations import Op
from mixops.augment.plan import Chains, concatenate


@pytest.fixture
def plan() -> AugmentPlan:
    return parse_augment("[RandAugment(2, 9), RandomErasing(1.0)]").draw(Key(1), np.arange(6), (20, 30))


def changed(array: np.ndarray, place, value) -> np.ndarray:
    array = array.copy()
    array[place] = value
    return array


@pytest.mark.parametrize(
    ("field", "change", "message"),
    [
        ("op", lambda p: changed(p.op, (0, 0), 20), r"op must be in \[0, 20\), got .* to 20"),
        ("op", lambda p: p.op.astype(np.int64), r"op must be a NumPy array of int8, got a int64"),
        ("op", lambda p: p.op[0], r"op must have shape \(b, n\)"),
        ("arg", lambda p: p.arg[:5], r"arg must have shape \(6, 2\), got \(5, 2\)"),
        ("arg", lambda p: changed(p.arg, (0, 0), np.nan), "arg of .* must be in .*, got nan"),
        ("filter", lambda p: changed(p.filter, (0, 0), 1), r"filter must be one of \(0, 2, 3\), got 1"),
        ("fill", lambda p: p.fill[:1], r"fill must have shape \(2, 3\), got \(1, 3\)"),
        (
            "box",
            lambda p: changed(p.box, (0, 0), (10, 0, 11, 5)),
            r"box must lie inside height x width, 20x30, got \[10, 0, 11, 5\]",
        ),
        (
            "box",
            lambda p: changed(p.box, (0, 0), (-1, 0, 3, 5)),
            r"box must lie inside height x width, 20x30, got \[-1, 0, 3, 5\]",
        ),
        ("noise", lambda p: p.noise[:2], r"noise must have shape \(6,\), got \(2,\)"),
        ("noisy", lambda p: np.zeros(2, bool), r"noisy must have shape \(1,\), got \(2,\)"),
        ("height", lambda p: 0, r"height must be in \[1, 8192\], got 0"),
        ("width", lambda p: 10_000, r"width must be in \[1, 8192\], got 10000"),
    ],
)
def test_fields_that_do_not_fit_are_refused(plan, field, change, message):
    with pytest.raises((TypeError, ValueError), match=message):
        replace(plan, **{field: change(plan)})


@pytest.mark.parametrize(
    ("op", "arg", "message"),
    [
        (Op.POSTERIZE, 9, r"arg of POSTERIZE must be in \[0, 8\], got 9.0"),
        (Op.POSTERIZE, 3.5, "arg of POSTERIZE must be a whole number, got 3.5"),
        (Op.SOLARIZE, 256.5, r"arg of SOLARIZE must be in \[0, 256\], got 256.5"),
        (Op.HUE, 0.6, r"arg of HUE must be in \[-0.5, 0.5\]"),
        (Op.BRIGHTNESS, -0.1, r"arg of BRIGHTNESS must be in \[0, 100\]"),
        (Op.SHEAR_X, 3, r"arg of SHEAR_X must be in \[-2, 2\], got 3.0"),
        (Op.GRAYSCALE, 1, r"arg of GRAYSCALE must be in \[0, 0\], got 1.0"),
    ],
)
def test_arguments_that_an_operation_does_not_take_are_refused(plan, op, arg, message):
    with pytest.raises(ValueError, match=message):
        replace(plan, op=changed(plan.op, (1, 1), op), arg=changed(plan.arg, (1, 1), arg))


def test_chains_are_checked_too():
    plan = parse_augment("AugMix").draw(Key(1), np.arange(6), (20, 30))
    chains = plan.chains
    with pytest.raises(ValueError, match="op may hold AUGMIX once a row, and then chains must be given"):
        replace(plan, chains=None)
    with pytest.raises(ValueError, match="chains must have 6 rows, got 2"):
        replace(plan, chains=parse_augment("AugMix").draw(Key(1), np.arange(2), (20, 30)).chains)
    with pytest.raises(ValueError, match="op of chains must not be AUGMIX"):
        replace(chains, op=np.full_like(chains.op, Op.AUGMIX), arg=np.zeros_like(chains.arg))
    with pytest.raises(ValueError, match=r"weight must have shape \(6, 4\), got \(6, 3\)"):
        replace(chains, weight=chains.weight[:, :3])
    with pytest.raises(ValueError, match=r"weight must be in \[0, 1\]"):
        replace(chains, weight=chains.weight + 1)
    with pytest.raises(ValueError, match=r"op must have shape \(b, c, d\)"):
        Chains(chains.op[0], chains.arg[0], chains.filter[0], chains.weight, chains.fill)


def test_plans_of_other_kinds_are_not_joined():
    rows = np.arange(3)
    one = parse_augment("[RandAugment, Cutout(4)]").draw(Key(1), rows, (20, 30))
    for text, size in (("[RandAugment(3), Cutout(4)]", (20, 30)), ("[RandAugment, Cutout(4)]", (20, 31)),
                       ("[RandAugment, Cutout(4, 2)]", (20, 30)), ("[RandAugment(fill=3), Cutout(4)]", (20, 30)),
                       ("[RandAugment, AugMix, Cutout(4)]", (20, 30))):  # fmt: skip
        with pytest.raises(ValueError, match="plans must be alike, got"):
            concatenate([one, parse_augment(text).draw(Key(1), rows, size)])
    with pytest.raises(ValueError, match="plans must not be empty"):
        concatenate([])


def test_text_that_is_no_plan_is_refused(plan):
    for text in ("3", json.dumps({"version": 0}), json.dumps({**json.loads(plan.to_json()), "version": 2})):
        with pytest.raises(ValueError, match="text must be an augmentation of version 1 written by to_json, got"):
            AugmentPlan.from_json(text)


def test_a_plan_says_what_it_does():
    plan = parse_augment("[ColorJitter(hue=(.25, .25)), Cutout(4)]").draw(Key(1), np.arange(1), (20, 30))
    top, left, height, width = plan.box[0, 0]
    assert str(plan) == f"AugmentPlan of 1 images, 20x30\n  0: hue 0.25, erase {height}x{width} at ({top}, {left})"
    mixed = str(parse_augment("AugMix").draw(Key(1), np.arange(1), (20, 30)))
    assert mixed.count(" of (") == 3
    assert str(parse_augment("RandomGrayscale(0.0)").draw(Key(1), np.arange(1), (20, 30))).endswith("0: nothing")


def test_colours_are_the_datas():
    """The mean outside of warps and in boxes is what the loader normalises with."""
    augment = parse_augment("['rand-m9', RandomErasing(1.0), RandomErasing(1.0, value='random'), Cutout(4)]")
    plan = augment.draw(Key(1), np.arange(500), (20, 30), (0.2, 0.4, 0.6), (0.1, 0.01, 0.2))
    assert plan.fill.tolist() == [[51, 102, 153]] * 2
    assert (plan.colour[:, 0] == (51, 102, 153)).all() and (plan.colour[:, 2] == (51, 102, 153)).all()
    drawn = plan.colour[:, 1] / 255
    assert np.abs(drawn.mean(0) - (0.2, 0.4, 0.6)).max() < 0.03
    assert np.abs(drawn.std(0) / (0.1, 0.01, 0.2) - 1).max() < 0.15
    assert plan.mean == (0.2, 0.4, 0.6) and plan.std == (0.1, 0.01, 0.2)
    assert AugMix() and ColorJitter() and Cutout(3) and RandomErasing()
