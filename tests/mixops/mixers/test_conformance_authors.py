"""The authors' published formulas, parameters injected: masks and labels must be theirs, deviations are written down.

Written from the papers and from the descriptions of the authors' code (hongyi-zhang/mixup, clovaai/CutMix-PyTorch,
naver-ai/hmix-gmix, AnmingGu/kmixup-cifar10): square images, one lambda and one centre a batch.
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment
from scipy.spatial import distance_matrix
from support import reference
from support.checks import injected

from mixops import CutMix, GMix, HMix, Key, MixUp, OptimalMatching, mix_images, mix_targets
from mixops.pairing.blocks import Blocks

N = 32
LAMBDAS = (0.0, 0.01, 0.2, 0.4999, 0.5, 0.75, 0.9, 0.999, 1.0)
CENTRES = ((0, 0), (0, 31), (15, 16), (31, 3), (7, 31))
grid = pytest.mark.parametrize(("lam", "centre"), list(itertools.product(LAMBDAS, CENTRES)))


def batch():
    rng = np.random.default_rng(0)
    return rng.standard_normal((4, 3, N, N)), np.array([0, 1, 2, 1]), np.array([2, 0, 3, 1])


def assert_theirs(plan, images, labels, mixed, target_weight):
    """Mixed pixels and the label weight of the row's own image."""
    np.testing.assert_allclose(mix_images(images, plan), mixed, rtol=0, atol=1e-6)
    onehot = np.eye(3)[labels]
    targets = target_weight * onehot + (1 - target_weight) * onehot[plan.partner]
    np.testing.assert_allclose(mix_targets(labels, plan, num_classes=3), targets, rtol=0, atol=1e-6)


@grid
def test_mixup(lam, centre):
    x, y, perm = batch()
    plan = injected(MixUp(), np.full((4, 1), lam), *centre, N, N, perm)
    assert_theirs(plan, x, y, lam * x + (1 - lam) * x[perm], lam)


def rand_bbox(side, ratio, centre):
    cut = int(side * ratio)
    edges = [np.clip([c - cut // 2, c + cut // 2], 0, side) for c in centre]
    return slice(*edges[0]), slice(*edges[1])


@grid
def test_cutmix(lam, centre):
    x, y, perm = batch()
    rows, columns = rand_bbox(N, np.sqrt(1.0 - lam), centre)
    mixed = x.copy()
    mixed[:, :, rows, columns] = x[perm][:, :, rows, columns]
    label = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (N * N)
    plan = injected(CutMix(), np.full((4, 1), lam), *centre, N, N, perm)
    assert_theirs(plan, x, y, mixed, label)


@grid
@pytest.mark.parametrize("r", [0.0, 0.25, 0.5, 1.0])
def test_hmix(lam, centre, r):
    x, y, perm = batch()
    rows, columns = rand_bbox(N, np.sqrt(1.0 - lam) * np.sqrt(r), centre)
    outside = 1 - (rows.stop - rows.start) * (columns.stop - columns.start) / (N * N)
    m = lam / outside if outside else 0.0  # the authors' code divides by zero there
    mixed = m * x + (1 - m) * x[perm]
    mixed[:, :, rows, columns] = x[perm][:, :, rows, columns]
    plan = injected(HMix(r=r), np.full((4, 1), lam), *centre, N, N, perm)
    assert_theirs(plan, x, y, mixed, lam)


@grid
def test_gmix(lam, centre):
    x, y, perm = batch()
    p = min(lam, 1 - lam)
    yy, xx = np.mgrid[:N, :N]
    d2 = (yy - centre[0]) ** 2 + (xx - centre[1]) ** 2
    kernel = np.exp(-math.pi * d2 / (p * N**2)) if p else np.zeros((N, N))  # NaN at the centre in the authors' code
    mask = kernel if lam < 0.5 else 1 - kernel
    plan = injected(GMix(), np.full((4, 1), lam), *centre, N, N, perm)
    assert_theirs(plan, x, y, mask * x + (1 - mask) * x[perm], mask.mean())


@pytest.mark.parametrize("k", [1, 2, 4, 8])
def test_k_mixup_matches_as_the_authors_do_within_blocks(k):
    """Their cost matrix: walls of 1000 around blocks of un-squared distances, and one assignment for the batch."""
    rng = np.random.default_rng(1)
    x, perm = rng.standard_normal((16, 3, 4, 4)), rng.permutation(16)
    flat = x.reshape(16, -1)
    cost = np.full((16, 16), 1000.0)
    for start in range(0, 16, k):
        block = slice(start, start + k)
        cost[block, block] = distance_matrix(flat[block], flat[perm[block]])
    theirs = perm[linear_sum_assignment(cost)[1]]
    matching = OptimalMatching(k=k, metric="l2", resolution=None)
    np.testing.assert_array_equal(matching.partner(Blocks(np.arange(16), perm, k), x), theirs)
    if k <= 4:  # and by trying every permutation of a block
        for start in range(0, 16, k):
            block, choices = np.arange(start, start + k), itertools.permutations(range(start, start + k))
            best = min(choices, key=lambda choice: sum(cost[i, j] for i, j in zip(block, choice, strict=True)))
            np.testing.assert_array_equal(theirs[block], perm[list(best)])


# ------------------------------------------------------------------------------------------------- where we deviate


def test_walls_of_1000_leak_at_imagenet_size():
    """Distances of 224x224 images pass 1000, so that the authors' assignment leaves its blocks; ours cannot."""
    rng = np.random.default_rng(2)
    x = rng.standard_normal((8, 3 * 224 * 224)).astype(np.float32) * np.repeat([1.0, 6.0], 4)[:, None]
    perm = np.array([4, 5, 6, 7, 0, 1, 2, 3])
    cost = np.full((8, 8), 1000.0)
    for start in (0, 4):
        block = slice(start, start + 4)
        cost[block, block] = distance_matrix(x[block], x[perm[block]])
    assert cost.max() > 1000
    assert (linear_sum_assignment(cost)[1] // 4 != np.arange(8) // 4).any()
    ours = OptimalMatching(k=4, metric="l2", resolution=None).partner(Blocks(np.arange(8), perm, 4), x)
    np.testing.assert_array_equal(ours // 4, perm // 4)


def test_the_papers_cost_is_squared_and_the_codes_is_not():
    """With one far image the squared cost, our default, chooses another match than the un-squared one."""
    x = np.array([[0.0], [1.0], [0.9], [3.0]])[:, :, None, None]
    blocks = Blocks(np.arange(4), np.array([2, 3, 0, 1]), 2)
    found = {m: OptimalMatching(k=2, metric=m, resolution=None).partner(blocks, x).tolist() for m in ("sqeuclidean", "l2")}
    total = {
        metric: sum(
            abs(x[i, 0, 0, 0] - x[j, 0, 0, 0]) ** (2 if metric == "sqeuclidean" else 1) for i, j in enumerate(partner)
        )
        for metric, partner in found.items()
    }
    # matches 0-2, 1-3 cost .81 + 4 or .9 + 2; matches 0-3, 1-2 cost 9 + .01 or 3 + .1
    assert found["sqeuclidean"] == [2, 3, 0, 1] and total["sqeuclidean"] == pytest.approx(2 * 4.81)
    assert total["l2"] == pytest.approx(2 * 2.9)


def test_cutmix_with_alpha_one_does_not_give_uniform_labels():
    """Clipping: E[lambda] = .5 becomes E[label] = .682 at 224 pixels and .701 at 32."""
    for side, expected in ((224, 0.682), (32, 0.701)):
        plans = [CutMix().plan(Key(1, step=i), batch_size=256, height=side, width=side) for i in range(40)]
        label = np.concatenate([plan.weight for plan in plans])
        assert label.mean() == pytest.approx(expected, abs=0.01)
        assert np.concatenate([plan.lam for plan in plans]).mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize(("lam", "expected"), [(0.1, 0.485), (0.3, 0.581), (0.5, 0.676), (0.7, 0.809), (0.9, 0.917)])
def test_mean_of_clipped_boxes(lam, expected):
    """At 32 pixels, where lambda = .7 has a side of 17, of which 16 are cut, and in the limit of many pixels.

    That is 1 - (s - s^2 / 4)^2 for a box of s = sqrt(1 - lambda) of the side. Rows and columns of the centre are
    independent, so one line of centres says it.
    """
    s = math.sqrt(1 - lam)
    for side, mean, tolerance in ((32, expected, 6e-4), (20_000, 1 - (s - s * s / 4) ** 2, 3e-4)):
        plan = injected(CutMix(), np.full((side, 1), lam), np.arange(side), np.arange(side), side, side)
        covered = (plan.params[:, 0, 3] - plan.params[:, 0, 2]).mean(dtype=float) / side
        assert 1 - covered**2 == pytest.approx(mean, abs=tolerance)


@pytest.mark.parametrize(("r", "mean", "largest"), [(0.25, 0.010, 0.056), (0.5, 0.034, 0.138), (0.75, 0.090, 0.285)])
def test_hmix_of_the_code_and_of_the_paper(r, mean, largest):
    """Outside the box the code shows less of the own image, by up to ``largest``, because clipping is paid there."""
    keys = [Key(2, step=i) for i in range(40)]
    size = {"batch_size": 256, "height": 224, "width": 224}
    code, paper = (
        np.concatenate([HMix(r=r, convention=convention).plan(key, **size).params[..., 0] for key in keys]).astype(float)
        for convention in ("authors", "paper")
    )
    difference = paper - code
    # the box has whole pixels: where it is not clipped it is a little smaller than its formula
    assert difference.min() > -0.005
    assert difference.mean() == pytest.approx(mean, abs=0.005)
    assert difference.max() == pytest.approx(largest, abs=0.02)


def test_hmix_with_r_one_is_not_cutmix_in_the_code_but_is_in_the_paper():
    """97 % of draws are clipped and then blended outside, where .684 of the own image is left on average."""
    size = {"batch_size": 256, "height": 224, "width": 224}
    keys = [Key(3, step=i) for i in range(40)]
    outside = np.concatenate([HMix(r=1.0).plan(key, **size).params[..., 0] for key in keys])
    assert (outside < 0.999).mean() == pytest.approx(0.97, abs=0.015)
    assert outside.mean() == pytest.approx(0.684, abs=0.015)
    for key in keys[:5]:
        paper, cutmix = HMix(r=1.0, convention="paper").plan(key, **size), CutMix().plan(key, **size)
        np.testing.assert_allclose(paper.params[:, :, 0], 1, rtol=0, atol=1e-6)
        np.testing.assert_array_equal(paper.params[..., 2:], cutmix.params[..., 2:])


def test_hmix_with_r_zero_is_mixup():
    for key in (Key(4), Key(5)):
        size = {"batch_size": 64, "height": 33, "width": 31}
        hmix, mixup = HMix(0.4, r=0).plan(key, **size), MixUp(0.4).plan(key, **size)
        np.testing.assert_array_equal(hmix.mask(), mixup.mask())
        np.testing.assert_array_equal(hmix.weight, mixup.weight)


def test_gmix_labels_are_truncated_gaussians_not_lambda():
    """Truncation at the border moves the label from lambda by .083 on average; at lambda = .5 the label is .700."""
    plans = [GMix().plan(Key(6, step=i), batch_size=256, height=64, width=64) for i in range(40)]
    moved = np.concatenate([np.abs(plan.weight - plan.lam) for plan in plans])
    assert moved.mean() == pytest.approx(0.083, abs=0.01)
    centres = np.array(list(itertools.product(range(64), repeat=2)))
    half = injected(GMix(), np.full((len(centres), 1), 0.5), *centres.T, 64, 64)
    assert 1 - half.weight.mean() == pytest.approx(0.300, abs=0.002)


def test_gmix_takes_images_that_are_not_square():
    """The authors' grids both have the height's size, so that a 64x96 batch fails; the bump here has N^2 = h * w."""
    plan = injected(GMix(), np.full((1, 1), 0.6), 30, 50, 64, 96)
    assert plan.mask().shape == (1, 1, 64, 96)
    np.testing.assert_allclose(plan.mask()[0, 0], reference.gmix_mask(0.6, 30, 50, 64, 96), rtol=0, atol=1e-6)


def test_multi_mix_counts_lambda_from_the_other_side():
    """arXiv 2406.01417, eq. 2 weighs the second image: its box has sqrt(lambda) of the side, ours sqrt(1 - lambda)."""
    theirs = np.sort(np.array([0.1, 0.3, 0.8]))  # lambda_1 < ... < lambda_K, the nearest to x first
    plan = injected(CutMix(), 1 - theirs[None], 16, 16, N, N)
    for k, lam in enumerate(theirs):
        half = int(N * math.sqrt(lam)) // 2
        assert plan.params[0, k, 2:6].tolist() == [16 - half, 16 + half, 16 - half, 16 + half]
    assert (np.diff(plan.weight) < 0).all()
