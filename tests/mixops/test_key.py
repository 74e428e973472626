"""The words of a key against Philox in Python integers, and what is drawn from them."""

from __future__ import annotations

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support import reference

from mixops import CutMix, Key, MixUp
from mixops.key import Stream, order_of
from mixops.mixers.beta import symmetric_beta

integers = st.integers(0, 2**64 - 1) | st.sampled_from([0, 1, 2**32, 2**63, 2**64 - 1])


@given(integers, integers, integers, integers, st.sampled_from(Stream), st.integers(0, 30), st.integers(0, 30))
def test_words_are_philox(seed, epoch, step, rank, stream, start, count):
    expected = reference.words(seed, epoch, step, rank, int(stream), start + count)[start:]
    words = Key(seed, epoch, step, rank).words(stream, count, start)
    assert words.dtype == np.uint64
    assert words.tolist() == expected


def test_philox_in_python_makes_the_published_words():
    """The known answers of Random123, kat_vectors, philox4x64-10."""
    assert reference.philox4x64((0, 0, 0, 0), (0, 0)) == (
        0x16554D9ECA36314C, 0xDB20FE9D672D0FDC, 0xD7E772CEE186176B, 0x7E68B68AEC7BA23B,
    )  # fmt: skip
    ones = 2**64 - 1
    assert reference.philox4x64((ones,) * 4, (ones,) * 2) == (
        0x87B092C3013FE90B, 0x438C3C67BE8D0224, 0x9CC7D7C69CD777B6, 0xA09CAEBF594F0BA0,
    )  # fmt: skip


def test_words_of_different_keys_and_streams_never_meet():
    keys = [Key(), Key(1), Key(0, 1), Key(0, 0, 1), Key(0, 0, 0, 1), Key(1, 1, 1, 1)]
    words = np.concatenate([key.words(stream, 4000) for key in keys for stream in Stream])
    assert len(np.unique(words)) == len(words)


@given(st.integers(0, 2**32), st.integers(0, 50))
def test_uniform_numbers_are_the_upper_53_bits(seed, start):
    key = Key(seed)
    u = key.uniform(Stream.MIX, (3, 5), start)
    assert u.dtype == np.float64 and u.shape == (3, 5)
    assert u.ravel().tolist() == reference.uniforms(reference.words(seed, 0, 0, 0, 3, start + 15)[start:])


def test_the_largest_word_is_below_one():
    assert reference.uniforms([2**64 - 1])[0] < 1


def test_permutations_are_uniform():
    counts = {}
    for step in range(4800):
        order = tuple(Key(5, step=step).permutation(Stream.PAIRING, 4).tolist())
        counts[order] = counts.get(order, 0) + 1
    assert len(counts) == 24
    assert stats.chisquare(list(counts.values())).pvalue > 1e-4


def test_a_permutation_is_the_order_of_its_words():
    words = reference.words(9, 1, 2, 3, 2, 50)
    assert Key(9, 1, 2, 3).permutation(Stream.PAIRING, 50).tolist() == sorted(range(50), key=words.__getitem__)


@pytest.mark.parametrize("n", [0, 1, 2, 65535, 65536, 65537, 131073, pytest.param(300_000, marks=pytest.mark.nightly)])
def test_the_order_of_many_words_is_that_of_a_stable_sort(n):
    """Also where words share all bits but the lowest, where these decide against the position, and where all are shared."""
    rng = np.random.default_rng(n)
    spread = rng.integers(0, 2**64, n, np.uint64)
    few = rng.integers(0, 1000, n).astype(np.uint64) << np.uint64(50)
    for words in (
        spread, spread & ~np.uint64(2**40 - 1), few, few + rng.integers(0, 3, n).astype(np.uint64),
        few + np.arange(n, dtype=np.uint64)[::-1], np.arange(n, dtype=np.uint64)[::-1].copy(), np.zeros(n, np.uint64),
    ):  # fmt: skip
        kept = words.copy()
        order = order_of(words)
        assert order.dtype == np.int64 and np.array_equal(order, np.argsort(words, kind="stable"))
        assert np.array_equal(words, kept)


@pytest.mark.parametrize("name", ["seed", "epoch", "step", "rank"])
@pytest.mark.parametrize(
    ("value", "error"), [(-1, ValueError), (2**64, ValueError), (1.0, TypeError), ("1", TypeError), (True, TypeError)]
)
def test_bad_parts_are_refused_by_name(name, value, error):
    with pytest.raises(error, match=f"{name} must be .*{value}"):
        Key(**{name: value})


def test_a_key_is_a_value():
    key = Key(np.int64(1), np.uint8(2), 3, 4)
    assert key == Key(1, 2, 3, 4) and hash(key) == hash(Key(1, 2, 3, 4)) and type(key.seed) is int
    assert pickle.loads(pickle.dumps(key)) == key
    assert repr(key) == "Key(seed=1, epoch=2, step=3, rank=4)"
    assert Key(0, 1, 9) < Key(0, 2, 0)


@pytest.mark.parametrize("alpha", [1e-3, 0.05, 0.2, 1.0, 8.0, 1e3])
def test_lambdas_are_those_of_another_mathematics_library(alpha):
    """NumPy's vector loops and the C library may differ in a last digit; rounded to float32 nothing of it is seen."""
    u = Key(3).uniform(Stream.MIX, (3000, 3))
    fast = symmetric_beta(u, alpha)
    assert fast.tolist() == [reference.symmetric_beta(*row, alpha) for row in u.tolist()]


@pytest.mark.parametrize("u", [0.0, 2.0**-53, 0.5, 1 - 2.0**-53])
@pytest.mark.parametrize("v", [0.0, 0.25, 0.75, 1 - 2.0**-53])
@pytest.mark.parametrize("alpha", [1e-300, 1e-3, 1.0, 1e3, 1e300])
def test_lambda_is_a_share_for_the_most_extreme_words(u, v, alpha):
    lam = symmetric_beta(np.array([[u, v, 0.0], [u, v, 0.9]]), alpha)
    assert np.isfinite(lam).all() and (lam >= 0).all() and (lam <= 1).all()
    assert lam[0] <= 0.5 <= lam[1] and abs(lam.sum() - 1) < 1e-7


def test_another_process_makes_the_same_plan():
    code = (
        "from mixops import *; p = CutMix(0.7, interpolations=2).plan(Key(3, 1, 4, 1), batch_size=9, height=31, width=17);"
        "print(MixUp(0.7).plan(Key(3), batch_size=9, height=1, width=1).to_json() + p.to_json())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    mixup = MixUp(0.7).plan(Key(3), batch_size=9, height=1, width=1)
    cutmix = CutMix(0.7, interpolations=2).plan(Key(3, 1, 4, 1), batch_size=9, height=31, width=17)
    assert out == mixup.to_json() + cutmix.to_json()
