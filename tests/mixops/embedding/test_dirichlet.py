"""Gammas and Dirichlet weights: their distribution, and that a counter names them."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mixops.embedding.dirichlet import CounterGammas, dirichlet, gammas
from mixops.kernels.gamma import philox
from mixops.key import Key

WORDS = np.array([1, 2, 3], np.uint32)


def draws(alpha: float, tuples: int, samples: int, words: np.ndarray = WORDS) -> np.ndarray:
    """Gammas of one concentration, (tuples, samples)."""
    return CounterGammas(np.full((1, tuples), alpha, np.float32), samples, words)(0, 1)[0].numpy()


def slow_philox(counter: list[int], key: list[int]) -> list[int]:
    """Philox-4x32-10 in Python integers, from the paper."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return c


def test_philox_gives_the_published_words():
    """The known answers of Random123 1.14 (kat_vectors), which the loop in Python also gives."""
    ones = [0xFFFFFFFF] * 6
    pi = [0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344, 0xA4093822, 0x299F31D0]
    answers = [
        ([0] * 6, [0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8]),
        (ones, [0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD]),
        (pi, [0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1]),
    ]
    for words, answer in answers:
        assert slow_philox(words[:4], words[4:]) == answer
        assert [int(w) for w in philox(*[np.uint32(w) for w in words])] == answer


@pytest.mark.parametrize("alpha", [0.2, 0.5, 0.999, 1.0, 1.001, 2.0, 7.5])
def test_gammas_are_distributed_as_gamma(alpha):
    g = draws(alpha, 1500, 131).astype(np.float64)
    assert stats.kstest(g.ravel(), stats.gamma(alpha).cdf).pvalue > 1e-4
    assert stats.kstest(g[:, -1], stats.gamma(alpha).cdf).pvalue > 1e-4  # the odd column is no worse
    assert abs(g.mean() - alpha) < 6 * np.sqrt(alpha / g.size)
    assert abs(g.var() - alpha) < 6 * np.sqrt((3 * alpha**2 + 6 * alpha - alpha**2) / g.size)


def test_neighbours_are_not_correlated():
    g = draws(1.5, 2000, 64)
    uniform = stats.gamma(1.5).cdf(g.astype(np.float64))
    correlation = np.corrcoef(uniform.T) - np.eye(64)
    assert np.abs(correlation).max() < 5.5 / np.sqrt(2000)  # columns, among them the two normals of one Box-Muller draw
    rows = np.corrcoef(uniform[:200, :]) - np.eye(200)
    assert np.abs(rows).max() < 5.5 / np.sqrt(64)


@settings(max_examples=40, deadline=None)
@given(
    samples=st.integers(1, 300), tuples=st.integers(1, 40), positions=st.integers(1, 4),
    alpha=st.tuples(st.floats(0.01, 3), st.floats(0, 3)).map(lambda t: (t[0], t[0] + t[1])),
    seed=st.integers(0, 2**64 - 1),
)  # fmt: skip
def test_columns_are_on_the_simplex(samples, tuples, positions, alpha, seed):
    lam = dirichlet(Key(seed), positions=positions, tuples=tuples, samples=samples, alpha=alpha)
    assert lam.shape == (positions, samples, tuples) and lam.dtype == torch.float32
    assert (lam > 0).all() and torch.isfinite(lam).all()
    torch.testing.assert_close(lam.sum(1), torch.ones(positions, tuples), atol=1e-5, rtol=0)


@pytest.mark.parametrize("alpha", [(0.5, 2.0), 1.0])
def test_a_position_can_be_drawn_alone_and_on_any_number_of_threads(alpha):
    draw = gammas(Key(5, 1, 2, 3), positions=5, tuples=37, samples=19, alpha=alpha)
    before = torch.get_num_threads()
    whole = []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            whole.append(draw(0, 5))
    finally:
        torch.set_num_threads(before)
    assert torch.equal(whole[0], whole[1]) and torch.equal(whole[0], whole[2])
    assert torch.equal(torch.cat([draw(j, j + 1) for j in range(5)]), whole[0])
    assert len({x.item() for x in whole[0].flatten()}) > 0.999 * whole[0].numel()  # no position repeats another


def test_every_part_of_the_key_changes_the_draw():
    def draw(key):
        return gammas(key, positions=1, tuples=8, samples=8, alpha=(0.5, 2.0))(0, 1)

    base = draw(Key(1, 2, 3, 4))
    assert torch.equal(base, draw(Key(1, 2, 3, 4)))
    for other in (Key(0, 2, 3, 4), Key(1, 0, 3, 4), Key(1, 2, 0, 4), Key(1, 2, 3, 0)):
        assert not torch.isclose(base, draw(other)).any()


def test_a_generator_makes_it_reproducible_and_moves_on():
    def draw(generator):
        return dirichlet(generator, tuples=4, samples=6)

    a, b = torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    first = draw(a)
    assert torch.equal(first, draw(b))
    assert not torch.equal(first, draw(a))


def test_the_global_generators_are_left_alone():
    torch_state, numpy_state = torch.get_rng_state(), np.random.get_state()  # noqa: NPY002
    dirichlet(Key(), tuples=4, samples=6)
    assert torch.equal(torch_state, torch.get_rng_state())
    assert np.array_equal(numpy_state[1], np.random.get_state()[1])  # noqa: NPY002


@pytest.mark.parametrize("alpha", [(0.5, 2.0), (1.0, 1.0), (0.01, 0.01), (0.02, 0.9)])
def test_columns_are_those_of_numpys_dirichlet(alpha):
    """One concentration a tuple: the sum of squares tells a column's concentration, the largest weight its vertex.

    Weights below 1e-30 are as good as none and are not told apart.
    """
    tuples, samples = 2000, 50
    lam = dirichlet(Key(1), tuples=tuples, samples=samples, alpha=alpha)[0].T.double().numpy()
    rng = np.random.default_rng(1)
    theirs = rng.standard_gamma(rng.uniform(*alpha, (tuples, 1)), (tuples, samples))
    theirs /= theirs.sum(1, keepdims=True)
    for statistic in (lambda x: (x**2).sum(1), lambda x: x.max(1), lambda x: x[:, 0].clip(1e-30)):
        assert stats.ks_2samp(statistic(lam), statistic(theirs)).pvalue > 1e-4


@pytest.mark.parametrize(
    "alpha", [0, -1.0, (2.0, 0.5), 0.001, 1e39, (1.0, 1e38), 10**400, float("inf"), float("nan"), (0.5, float("nan"))]
)
def test_bad_concentrations(alpha):
    with pytest.raises(ValueError, match="alpha must be"):
        dirichlet(Key(), tuples=2, samples=2, alpha=alpha)


@pytest.mark.parametrize("alpha", ["1", None, (1.0,), (1.0, "2"), (1.0, 2.0, 3.0), True])
def test_concentrations_of_another_kind(alpha):
    with pytest.raises((TypeError, ValueError), match="alpha must be"):
        dirichlet(Key(), tuples=2, samples=2, alpha=alpha)


@pytest.mark.parametrize("name", ["tuples", "samples", "positions"])
@pytest.mark.parametrize("value", [0, -1, 2**40, 2.0, True, None])
def test_bad_numbers(name, value):
    with pytest.raises((TypeError, ValueError), match=f"{name} must be"):
        dirichlet(Key(), **{"tuples": 2, "samples": 2, name: value})


def test_the_largest_concentration_is_still_a_gamma():
    """Beyond it weights would no more be told from one another; at it they are distributed as they should be."""
    g = gammas(Key(3), positions=1, tuples=400, samples=50, alpha=1e5)(0, 1).double().numpy().ravel()
    assert stats.kstest(g, stats.gamma(1e5).cdf).pvalue > 1e-4


ENDLESS = """
import subprocess
import sys

import numpy as np
from mixops.kernels.gamma import gamma_rows
out = np.empty((4, 9), np.float32)
gamma_rows(0, 4, np.array([np.nan, np.inf, 1e39, -5], np.float32), 0, np.arange(3, dtype=np.uint32), out)
print("ended", bool((out > 0).all() | np.isnan(out).any()))
"""


@pytest.mark.nightly
def test_compiled_code_always_ends():
    """Where nothing is ever accepted; a loop in compiled code lets no signal through, so another process runs it."""
    done = subprocess.run([sys.executable, "-c", ENDLESS], capture_output=True, text=True, timeout=240)
    assert done.stdout.startswith("ended"), done.stderr


def test_bad_sources():
    with pytest.raises(TypeError, match=r"key must be a Key or a torch\.Generator, got 3"):
        dirichlet(3, tuples=2, samples=2)
