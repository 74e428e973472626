"""What the papers prove, of the masks and plans that are used: coefficients, expectations, variance of the gradient."""

from __future__ import annotations

import itertools
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy import special
from support.checks import injected

from mixops import CutMix, GMix, HMix, Key, MixUp
from mixops.key import Stream

EXAMPLE = Path(__file__).parents[2] / "examples" / "coefficients.py"
sys.path.insert(0, str(EXAMPLE.parent))
import coefficients as example  # noqa: E402


@pytest.mark.parametrize(("lam", "n", "r"), [(0.5, 16, 0.5), (0.3, 11, 0.75), (0.8, 8, 1.0)])
def test_counted_coefficients_are_those_of_the_masks(lam, n, r):
    found = example.coefficients(lam, n, r)
    assert len(found) == 8
    for name, (a, exact) in found.items():
        if exact is not None:
            np.testing.assert_allclose(a, exact, rtol=0, atol=1e-6, err_msg=name)
    assert [name for name, (_, exact) in found.items() if exact is None] == (["FMix"] if lam >= 0.5 else ["GMix", "FMix"])


@pytest.mark.nightly
def test_the_example_writes_its_figure(tmp_path):
    out = tmp_path / "figure.png"
    command = [sys.executable, str(EXAMPLE), "--out", str(out), "--side", "12"]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "CutMix" in printed and "wrote" in printed
    assert out.read_bytes().startswith(b"\x89PNG") and out.stat().st_size > 10_000


def inside_count(j, k, n, s):
    """The share of the n - s + 1 boxes of s pixels wholly on a line of n that hold pixels j and k."""
    count = min(min(j, k), n - s) - max(max(j, k) - s + 1, 0) + 1
    return max(count, 0) / (n - s + 1)


@pytest.mark.parametrize(("n", "s"), [(1, 1), (7, 1), (7, 3), (8, 8), (12, 7)])
def test_boxes_wholly_inside_are_counted_exactly(n, s):
    """The discrete form of eq. 10 against every box there is."""
    for j, k in itertools.product(range(n), repeat=2):
        holds = [low <= j < low + s and low <= k < low + s for low in range(n - s + 1)]
        assert inside_count(j, k, n, s) == pytest.approx(np.mean(holds))


@pytest.mark.parametrize(("n", "error"), [(32, 0.19), (64, 0.092), (256, 0.024), (1024, 0.006)])
def test_equation_10_is_the_limit_of_many_pixels(n, error):
    """The largest error at lambda = 1/2, over pixels on the diagonal; it falls like 1 / n."""
    s = int(math.sqrt(0.5) * n)
    step = max(n // 64, 1)
    worst = 0.0
    for j, k in itertools.product(range(0, n, step), repeat=2):
        up, down = min(j, n - s), min(k, n - s)
        limit = max(min(up - max(k - s, 0), down - max(j - s, 0)), 0) / (n - s)
        worst = max(worst, abs(inside_count(j, k, n, s) ** 2 - limit**2))
    assert worst == pytest.approx(error, rel=0.1)


@pytest.mark.parametrize("lam", [0.9, 0.95, 0.99])
def test_equation_11_holds_far_from_the_border(lam):
    """(1 - lambda) exp(-pi |(i - j) / 2|^2 / ((1 - lambda) N^2)); the authors' kernel, without the 2, has another."""
    n = 256
    middle, step = n // 2, max(int(n * math.sqrt(1 - lam) / 4), 1)
    pixels = np.arange(n)
    for convention, share, factor in (("paper", 1 - lam, 1), ("authors", (1 - lam) / 2, 2)):
        a = math.pi * factor / (2 * (1 - lam) * n * n)
        i, j = middle, middle + step
        line = (np.exp(-a * ((i - pixels) ** 2 + (j - pixels) ** 2)).sum() / n) * (
            np.exp(-2 * a * (i - pixels) ** 2).sum() / n
        )
        closed = share * math.exp(-math.pi * factor * (step / 2) ** 2 / ((1 - lam) * n * n))
        assert line == pytest.approx(closed, rel=2e-2), convention
        cx = pixels
        plan = injected(GMix(convention=convention), np.full((n, 1), lam), np.full(n, i), cx, n, n)
        row = plan.mask()[:, 0, i]  # (centres along x, pixels along x), the centre's y being i
        along_x = ((1 - row[:, i]) * (1 - row[:, j])).mean()
        assert along_x == pytest.approx(np.exp(-a * ((i - pixels) ** 2 + (j - pixels) ** 2)).mean(), abs=1e-6)


@pytest.mark.parametrize("lam", [0.9, 0.97])
def test_the_papers_gaussian_has_a_mean_of_two_lambda_less_one(lam):
    """In the middle of a large image, where nothing of the bump is cut off; the authors' has lambda."""
    n = 200
    for convention, expected in (("paper", 2 * lam - 1), ("authors", lam)):
        plan = injected(GMix(convention=convention), [[lam]], n // 2, n // 2, n, n)
        assert plan.weight[0, 0] == pytest.approx(expected, abs=3e-3)


@pytest.mark.parametrize("r", [0.25, 0.5, 1.0])
@pytest.mark.parametrize("lam", [0.2, 0.5, 0.8])
def test_expected_masks(lam, r):
    """Exact, over all centres: E[M_i] = w (1 - P[i in box]); HMix of the authors has mean(M) = lambda for every centre."""
    n = 24
    centres = np.array(list(itertools.product(range(n), repeat=2)))
    for mixer, share, w in (
        (CutMix(), 1 - lam, 1.0),
        (HMix(r=r, convention="paper"), (1 - lam) * r, lam / (1 - (1 - lam) * r)),
    ):
        half = int(n * math.sqrt(1 - lam) * math.sqrt(share / (1 - lam))) // 2
        covered = np.array([min(i + half, n - 1) - max(i - half + 1, 0) + 1 for i in range(n)]) / n
        plan = injected(mixer, np.full((n * n, 1), lam), *centres.T, n, n)
        np.testing.assert_allclose(plan.mask()[:, 0].mean(0), w * (1 - covered[:, None] * covered), rtol=0, atol=1e-6)
    authors = injected(HMix(r=r), np.full((n * n, 1), lam), *centres.T, n, n)
    np.testing.assert_allclose(authors.weight, lam, rtol=0, atol=1e-6)


# ------------------------------------------------------------------------------------------- multi-mix, Prop. III.1


class Toy:
    """Logistic regression at fixed weights on mixed points: the gradient of a batch, given its plan."""

    def __init__(self, b=4, population=12, features=3):
        rng = np.random.default_rng(0)
        self.x, self.y = rng.standard_normal((population, features)), rng.integers(0, 2, population).astype(float)
        self.theta, self.b = rng.standard_normal(features), b

    def gradient(self, ids, partner, lam):
        """Of the mean loss over all outputs; ``lam`` (b, k)."""
        x, y, lam = self.x[ids], self.y[ids], lam[..., None]
        mixed = lam * x[:, None] + (1 - lam) * x[partner][:, None]
        target = lam[..., 0] * y[:, None] + (1 - lam[..., 0]) * y[partner][:, None]
        error = 1 / (1 + np.exp(-mixed @ self.theta)) - target
        return (error[..., None] * mixed).mean((0, 1))

    def batches(self, count):
        """The batch of each step and its pairs, as a loader would draw them."""
        for step in range(count):
            yield step, Key(8, step=step).permutation(Stream.ORDER, len(self.x))[: self.b]


def variance(gradients):
    return float(np.var(np.array(gradients), axis=0).sum())


@pytest.mark.nightly
@pytest.mark.parametrize(("draw", "alpha"), [("sample", 1.0), ("batch", 0.5)])
def test_more_interpolations_lower_the_variance_as_predicted(draw, alpha):
    """Var(K) = Var[E over lambda] + E[Var over lambda] / K, whatever the pairs: Prop. III.1, eq. 12, B pairs at a time.

    Both terms are integrals over lambda by Gauss-Jacobi quadrature, given the very pairs that the plans draw.
    """
    toy, steps = Toy(), 1500
    nodes, mass = special.roots_jacobi(12, alpha - 1, alpha - 1)
    nodes, mass = (nodes + 1) / 2, mass / mass.sum()
    means, spreads, found = [], [], {1: [], 2: [], 5: []}
    for step, ids in toy.batches(steps):
        for k in found:
            mixer = MixUp(alpha, interpolations=k, draw=draw)
            plan = mixer.plan(Key(9, step=step), batch_size=toy.b, height=1, width=1)
            found[k].append(toy.gradient(ids, plan.partner, plan.weight))
        each = pair_gradients(toy, ids, plan.partner, nodes)
        means.append(np.tensordot(mass, each, 1).mean(0))
        if draw == "sample":
            spread = np.tensordot(mass, (each - np.tensordot(mass, each, 1)) ** 2, 1).sum(0) / toy.b**2
        else:
            batch = each.mean(1)
            spread = np.tensordot(mass, (batch - mass @ batch) ** 2, 1)
        spreads.append(spread.sum())
    between, within = variance(means), float(np.mean(spreads))
    for k, gradients in found.items():
        assert variance(gradients) / (between + within / k) == pytest.approx(1, abs=0.1)
    assert variance(found[5]) < variance(found[2]) < variance(found[1])


def pair_gradients(toy, ids, partner, nodes):
    """The gradient of each pair at each lambda, (nodes, pairs, features)."""
    x, y, lam = toy.x[ids], toy.y[ids], nodes[:, None]
    mixed = lam[..., None] * x + (1 - lam[..., None]) * x[partner]
    target = lam * y + (1 - lam) * y[partner]
    return (1 / (1 + np.exp(-mixed @ toy.theta)) - target)[..., None] * mixed
