"""Plans made by hand or read from text: what no kernel could do anything sensible with is refused by name."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mixops import CutMix, FMix, GMix, HMix, Key, MixPlan, MixUp, Switch
from mixops.masks import CY, DV, V0, X1, Y0, Y1, A
from mixops.plan_checks import _within_one

B, K, H, W = 4, 2, 6, 8
NAN, INF = float("nan"), float("inf")
INSET = np.ones(B, np.bool_)


def plan(**changes):
    good = HMix(interpolations=K).plan(Key(1), batch_size=B, height=H, width=W)
    return dataclasses.replace(good, **changes)


def full(value, dtype=np.float64):
    return np.full((B, K), value, dtype)


def params(column, value):
    p = plan().params.copy()
    p[1, 1, column] = value
    return p


def dense(value, dtype=np.float32):
    masks = np.zeros((B, K, H, W), dtype)
    masks[2, 1, 3, 4] = value
    return masks


def moves(value, blocks=4, dtype=np.int32):
    m = np.zeros((B, K, 2, blocks), dtype)
    m[3, 1, 1, -1] = value
    return m


@pytest.mark.parametrize("name", ["weight", "lam"])
@pytest.mark.parametrize("value", [7.0, NAN, INF, -INF, -1e-300, np.nextafter(1.0, 2.0)])
def test_weights_are_fractions(name, value):
    values = full(0.5)
    values[2, 1] = value
    with pytest.raises(ValueError, match=rf"^{name} must be in \[0, 1\], got "):
        plan(**{name: values})


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"weight": full(0.5, np.float32)}, TypeError, r"weight must be a NumPy array of float64, got a float32 array"),
        ({"weight": [[0.5] * K] * B}, TypeError, r"weight must be a NumPy array of float64, got \[\[0.5"),
        ({"weight": full(0.5).astype(">f8")}, TypeError, "weight must be a NumPy array of float64, got a >f8 array"),
        ({"weight": np.full(B, 0.5)}, ValueError, r"weight must have shape \(b, k\) with k at least 1, got \(4,\)"),
        ({"weight": np.zeros((B, 0))}, ValueError, r"weight must have shape \(b, k\) with k at least 1, got \(4, 0\)"),
        ({"lam": None}, TypeError, "lam must be a NumPy array of float64, got None"),
        ({"partner": np.zeros(B, np.int32)}, TypeError, "partner must be a NumPy array of int64, got a int32 array"),
        ({"partner": np.zeros(B)}, TypeError, "partner must be a NumPy array of int64"),
        ({"partner": np.array([0, 1, 2, -(2**63)])}, ValueError, r"partner must be in \[0, 4\), got -9223"),
        ({"params": np.zeros((B, K, 9))}, TypeError, "params must be a NumPy array of float32"),
        ({"params": params(V0, 1.5)}, ValueError, r"params must have v0 and v0 \+ dv in \[0, 1\]"),
        ({"params": params(V0, NAN)}, ValueError, r"params must have v0 and v0 \+ dv in \[0, 1\]"),
        ({"params": params(DV, 1.0)}, ValueError, r"params must have v0 and v0 \+ dv in \[0, 1\]"),
        ({"params": params(A, -1.0)}, ValueError, "params must have a at least 0 and finite, got -1.0"),
        ({"params": params(A, INF)}, ValueError, "params must have a at least 0 and finite"),
        ({"params": params(CY, 1e30)}, ValueError, "params must have borders and centres within 16777216 pixels"),
        ({"params": params(Y0, NAN)}, ValueError, "params must have borders and centres within 16777216 pixels"),
        ({"dense": dense(1.5)}, ValueError, r"dense must be in \[0, 1\], got 0.0 to 1.5"),
        ({"dense": dense(NAN)}, ValueError, r"dense must be in \[0, 1\], got nan"),
        ({"dense": dense(1e300, np.float64)}, ValueError, r"dense must be in \[0, 1\], got 0.0 to inf"),
        ({"dense": dense(44, np.uint8)}, ValueError, r"dense must be in \[0, 1\], got 0 to 44"),
        ({"dense": dense(1, np.int64)}, TypeError, "dense must be a NumPy array of float32 or uint8, got a int64"),
        ({"dense": 0.5}, TypeError, "dense must be a NumPy array of float32 or uint8, got 0.5"),
        ({"moves": moves(-1)}, ValueError, r"moves must be in \[0, 4\), got -1 to 0"),
        ({"moves": moves(4)}, ValueError, r"moves must be in \[0, 4\), got 0 to 4"),
        ({"moves": moves(0, blocks=5)}, ValueError, r"moves must have shape \(4, 2, 2, 4\), got \(4, 2, 2, 5\)"),
        ({"moves": moves(0, blocks=4)[..., :0]}, ValueError, r"moves must have shape \(4, 2, 2, 1\), got \(4, 2, 2, 0\)"),
        ({"moves": moves(0, blocks=9)}, ValueError, "moves must have 6x8 pixels in whole blocks, got 3 x 3 blocks"),
        ({"moves": moves(0, dtype=np.int64)}, TypeError, "moves must be a NumPy array of int32"),
        ({"inset": np.ones(B, np.uint8)}, TypeError, "inset must be a NumPy array of bool, got a uint8 array"),
        ({"inset": np.ones(3, np.bool_)}, ValueError, r"inset must have shape \(4,\), got \(3,\)"),
        ({"inset": INSET, "params": params(Y0, 1.5)}, ValueError, "params must have boxes of whole pixels inside 6x8 in "
         "rows of inset, got edges 1.5 and "),
        ({"inset": INSET, "params": params(X1, 9)}, ValueError, "params must have boxes of whole pixels inside 6x8"),
        ({"inset": INSET, "params": params(Y1, -1)}, ValueError, "params must have boxes of whole pixels inside 6x8"),
        ({"height": 0}, ValueError, "height must be at least 1, got 0"),
        ({"width": 2**24 + 1}, ValueError, "width must be at most 16777216, got 16777217"),
        ({"width": 8.0}, TypeError, "width must be an integer, got 8.0"),
        ({"height": True}, TypeError, "height must be an integer, got True"),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_by_name(changes, error, message):
    with pytest.raises(error, match=f"^{message}"):
        plan(**changes)


def test_the_ends_of_the_ranges_are_taken():
    p = np.zeros((B, K, 9), np.float32)
    p[..., V0], p[..., DV], p[..., A], p[..., Y0] = 1, -1, -0.0, -(2**24)
    made = plan(weight=full(-0.0), lam=full(1.0), params=p, moves=moves(3), partner=np.full(B, B - 1))
    assert made.mask().min() >= 0 and made.mask().max() == 1
    assert MixPlan(np.arange(0), np.ones((0, 1)), np.ones((0, 1)), np.zeros((0, 1, 9), np.float32), 1, 1).batch_size == 0


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.bool_])
def test_dense_masks_of_other_dtypes_are_converted(dtype):
    made = plan(dense=dense(1, dtype))
    assert made.dense.dtype == (np.uint8 if dtype == np.bool_ else np.float32)
    np.testing.assert_array_equal(made.dense, dense(1))


@given(st.lists(st.floats(width=32), min_size=1, max_size=8), st.sampled_from([np.float32, np.float64]))
def test_the_look_at_the_bits_is_the_comparison(values, dtype):
    array = np.array(values, dtype)
    assert _within_one(array) == bool(((array >= 0) & (array <= 1)).all())


@pytest.mark.parametrize("alpha", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("mixer", [MixUp, CutMix, HMix, GMix, FMix], ids=lambda mixer: mixer.__name__)
def test_what_mixers_draw_is_taken(mixer, alpha):
    """Also with lambdas of 0 and 1, of which small alphas have many, and on sides of one pixel."""
    for k, (h, w) in enumerate(((1, 1), (1, 9), (224, 224), (31, 3)), 1):
        made = mixer(alpha, interpolations=k).plan(Key(k), batch_size=64, height=h, width=w)
        assert 0 <= made.mask().min() <= made.mask().max() <= 1
    Switch([mixer(alpha), CutMix()], prob=0.5).plan(Key(2), batch_size=64, height=9, width=9)


# ------------------------------------------------------------------------------------------------------------- JSON


def text(**changes):
    fields = json.loads(plan(dense=dense(0.5), moves=moves(3)).to_json())
    return json.dumps({**fields, **changes})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"weight": [[7.0] * K] * B}, r"weight must be in \[0, 1\]"),
        ({"weight": [[NAN] * K] * B}, r"weight must be in \[0, 1\]"),
        ({"weight": [["0.5"] * K] * B}, "weight must be lists of numbers"),
        ({"weight": [[0.5]] * (B - 1) + [[0.5, 0.5]]}, "weight must be lists of one length"),
        ({"weight": None}, "weight must be lists of numbers, got None"),
        ({"lam": [[True] * K] * B}, "lam must be lists of numbers"),
        ({"lam": {"a": 1}}, "lam must be lists of numbers"),
        ({"params": [[[1e300] * 9] * K] * B}, "params must have v0"),
        ({"partner": [0.5, 1, 2, 3]}, "partner must be lists of integers"),
        ({"partner": None}, "partner must be lists of integers, got None"),
        ({"partner": [2**70, 0, 1, 2]}, "partner must be lists of integers"),
        ({"partner": [2**63 - 1, 0, 1, 2]}, r"partner must be in \[0, 4\)"),
        ({"dense": dense(300, np.int64).tolist()}, "dense must be in the range of uint8, got 0 to 300"),
        ({"dense": dense(2, np.int64).tolist()}, r"dense must be in \[0, 1\], got 0 to 2"),
        ({"moves": moves(-1).tolist()}, r"moves must be in \[0, 4\)"),
        ({"moves": moves(2**32, dtype=np.int64).tolist()}, "moves must be in the range of int32"),
        ({"height": "6"}, "height must be an integer, got '6'"),
        ({"height": None}, "height must be an integer, got None"),
        ({"extra": 1}, "text must have the keys dense, height, lam, moves, params, partner, version, weight, width"),
    ],
)
def test_json_of_the_wrong_kind_is_refused_by_name(changes, message):
    with pytest.raises(ValueError, match=message):
        MixPlan.from_json(text(**changes))


@pytest.mark.parametrize(
    "written", ["", "{", "[" * 100_000, "1" * 10_000, "null", "[]", '{"version": 1}', '{"version": NaN}']
)
def test_text_that_is_no_plan_is_refused(written):
    with pytest.raises(ValueError, match=r"text must (be a plan|have the keys)"):
        MixPlan.from_json(written)


def test_only_text_is_read():
    with pytest.raises(TypeError, match="text must be JSON text, got b"):
        MixPlan.from_json(text().encode())


def test_the_text_of_a_plan_is_read_back():
    back = MixPlan.from_json(text())
    assert back.dense.dtype == np.float32 and back.moves.dtype == np.int32 and back.partner.dtype == np.int64
    np.testing.assert_array_equal(back.moves, moves(3))
