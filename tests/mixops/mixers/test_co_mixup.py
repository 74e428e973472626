"""Co-Mixup: its labelling against every labelling there is, and the plans that it makes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
import torch
from support import reference

from mixops import CoMixUp, Key, Switch, ZetaMixUp, mix_images, mix_targets
from mixops.kernels.co_mixup import apart, energy, expand, label_output, label_part
from mixops.mixers.saliency.co_mixup import _compatible, _in_order, _priors


def vector(inputs: int, i: int, j: int) -> np.ndarray:
    """A label as shares of the inputs."""
    z = np.zeros(inputs)
    z[i] += 0.5
    z[j] += 0.5
    return z


def literal_energy(cost: np.ndarray, n: int, beta: float, bonus: float, labels: list[tuple[int, int]]) -> float:
    """The cost of one output's labels, from the formula."""
    z = np.array([vector(len(cost), i, j) for i, j in labels]).reshape(n, n, -1)
    total = (z * cost.T.reshape(n, n, -1)).sum() - bonus * sum(i != j for i, j in labels)
    return float(total + beta / 2 * ((np.diff(z, axis=0) ** 2).sum() + (np.diff(z, axis=1) ** 2).sum()))


def problems(count: int, inputs: int, n: int):
    rng = np.random.default_rng(inputs)
    for _ in range(count):
        yield rng.random((inputs, n * n)) / n**2, rng.uniform(0.02, 1) / n**2


def test_the_energy_is_the_formula():
    rng = np.random.default_rng(0)
    for cost, beta in problems(20, 4, 3):
        first, second = rng.integers(0, 4, (2, 9))
        expected = literal_energy(cost, 3, beta, 0.01, list(zip(first, second, strict=True)))
        assert energy(cost, 3, beta, 0.01, first, second) == pytest.approx(expected, abs=1e-12)
    assert apart(0, 0, 1, 1) == 2 and apart(0, 0, 0, 0) == 0 and apart(0, 0, 0, 1) == 0.5 and apart(0, 1, 2, 2) == 1.5


def test_an_expansion_is_the_best_choice_of_all_blocks():
    """Against all 2^9 of them."""
    rng = np.random.default_rng(1)
    for cost, beta in problems(20, 3, 3):
        first, second = rng.integers(0, 3, (2, 9))
        before = list(zip(first, second, strict=True))
        best = min(
            literal_energy(cost, 3, beta, 0.003, [(1, 2) if c else label for c, label in zip(choice, before, strict=True)])
            for choice in product((0, 1), repeat=9)
        )
        expand(cost, 3, beta, 0.003, 1, 2, first, second)
        assert energy(cost, 3, beta, 0.003, first, second) == pytest.approx(best, abs=1e-12)


@pytest.mark.parametrize(("inputs", "exact"), [(2, 1.0), (3, 0.9)])
def test_an_output_is_labelled_as_well_as_by_trying_everything(inputs, exact):
    """Two inputs are one choice a block, and exact; of three, expansions reach the best nearly always, or come near."""
    found, best = [], []
    for cost, beta in problems(40, inputs, 2):
        first = np.zeros(4, np.int64)
        second = first.copy()
        label_output(cost, 2, beta, 0.0, False, first, second)
        found.append(energy(cost, 2, beta, 0.0, first, second))
        labels = product([(i, i) for i in range(inputs)], repeat=4)
        best.append(min(literal_energy(cost, 2, beta, 0.0, list(one)) for one in labels))
    gap = np.array(found) - np.array(best)
    assert gap.min() > -1e-12 and (gap < 1e-12).mean() >= exact and gap.max() <= 0.05 * np.ptp(best)


def test_blends_are_tried_with_the_rest():
    """Of two inputs with blends: three labels a block, against all 3^4."""
    worse = 0
    for cost, beta in problems(30, 2, 2):
        first = np.array([0, 1, 1, 0])
        second = first.copy()
        label_output(cost, 2, beta, 0.02, True, first, second)
        best = min(literal_energy(cost, 2, beta, 0.02, list(one)) for one in product([(0, 0), (1, 1), (0, 1)], repeat=4))
        worse += energy(cost, 2, beta, 0.02, first, second) > best + 1e-12
    assert worse <= 3


def test_each_output_is_the_best_given_the_others():
    """Two outputs of three inputs on 2 x 2 blocks: after the last pass no relabelling of the last output is cheaper."""
    rng = np.random.default_rng(2)
    better = 0
    for cost, beta in problems(25, 3, 2):
        compatible = np.eye(3)
        first = rng.integers(0, 3, (2, 4))
        second = first.copy()
        label_part(cost, compatible, 2, beta, 0.25, 1.5, 0.0, 6, first, second)
        others = np.array([vector(3, i, j) for i, j in zip(first[0], second[0], strict=True)]).sum(0)
        charged = cost + (2 * 0.25 * others * (others > 1.5))[:, None]
        mine = energy(charged, 2, beta, 0.0, first[1], second[1])
        best = min(literal_energy(charged, 2, beta, 0.0, list(one)) for one in product([(i, i) for i in range(3)], repeat=4))
        better += mine > best + 1e-12
    assert better <= 2


def test_what_is_shown_elsewhere_is_dear():
    """One image with all the saliency: without demand everybody shows it, with demand about threshold outputs do."""
    share = np.full((8, 16), 1e-3)
    share[0] = 1 / 16
    counts = {}
    for gamma in (0.0, 1 / 16):
        first = np.random.default_rng(0).integers(0, 8, (8, 16))
        second = first.copy()
        label_part(-share, np.eye(8), 4, 0.0, gamma, 0.83 * 16, 0.0, 4, first, second)
        counts[gamma] = (first == 0).sum() + (second == 0).sum()
    assert counts[0.0] == 2 * 8 * 16 and counts[1 / 16] <= 2 * 2 * 16


def test_a_plan_shows_what_is_salient_and_says_so():
    """Four images that are salient in a quarter each: outputs are put together from those, and labels are their shares."""
    b, h, w = 4, 16, 20
    saliency = np.full((b, h, w), 1e-4, np.float32)
    for row, (y, x) in enumerate(((0, 0), (0, 10), (8, 0), (8, 10))):
        saliency[row, y : y + 8, x : x + 10] = 1
    mixer = CoMixUp(eta=0.0, gamma=0.0, saliency="gradient")
    plan = mixer.plan(Key(1), batch_size=b, height=h, width=w, saliency=saliency)
    masks = np.zeros((b, b, h, w))
    for row in range(b):
        for j, source in enumerate(plan.sources[row]):
            masks[row, source] += plan.masks()[row, 0, j]
    seen = (masks * saliency).sum((1, 2, 3)) / (h * w)
    assert seen.min() > 0.9
    images = np.eye(b, dtype=np.float32)[:, :, None, None] * np.ones((h, w), np.float32)
    mixed = mix_images(images, plan)
    np.testing.assert_allclose(mixed, reference.mix_images(images, plan), rtol=0, atol=1e-6)
    np.testing.assert_allclose(mix_targets(np.arange(b), plan, num_classes=b), mixed.mean((2, 3)), rtol=0, atol=1e-6)


def test_parts_keep_to_themselves_and_cover_all_rows():
    images = torch.rand(50, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plan = CoMixUp(saliency="spectral", part=20).plan(Key(2), images=images)
    order = _in_order(np.roll(np.arange(50), -1))
    assert sorted(order.tolist()) == list(range(50))
    shown = {
        tuple(sorted(set(row[weight > 0].tolist()))) for row, weight in zip(plan.sources, plan.weights[:, 0], strict=True)
    }
    groups = [set(one) for one in shown]
    for _ in range(50):  # rows that show one another are of one part
        for a, c in product(groups, groups):
            if a & c:
                a |= c
    assert max(map(len, groups)) <= 17  # 50 rows in parts of 17, 17 and 16
    assert (plan.sources[:, 0] == np.arange(50)).all()
    prior = _priors(Key(2), 2, 50, 20, 2.0, one=False, order=np.arange(50))
    assert [round(float(prior[0, part].sum()), 9) for part in np.array_split(np.arange(50), 3)] == [1, 1, 1]


def test_distance_is_scaled_as_the_authors_do():
    share = np.random.default_rng(0).random((5, 16))
    a = _compatible(share, 4, 0.25)
    y, x = np.divmod(share.argmax(1), 4)
    far = np.abs(y[:, None] - y) + np.abs(x[:, None] - x)
    np.testing.assert_allclose(a, 0.75 * np.eye(5) + 0.25 * far / far.sum() * 5)


def test_a_switch_with_others():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plan = Switch([CoMixUp(saliency="spectral"), ZetaMixUp()]).plan(Key(1), images=images)
    np.testing.assert_allclose(mix_images(images, plan), reference.mix_images(images.numpy(), plan), rtol=0, atol=1e-6)


def test_what_cannot_be_is_refused():
    for options, message in (
        ({"block_num": 9}, r"block_num must be in \[2, 8\], got 9"),
        ({"omega": 2}, r"omega must be in \[0, 1\], got 2"),
        ({"alpha": 0}, "alpha must be"),
    ):
        with pytest.raises(ValueError, match=message):
            CoMixUp(**options)
    with pytest.raises(ValueError, match="block_num must divide both sides of 6x8, got 4"):
        CoMixUp().plan(Key(), batch_size=2, height=6, width=8, saliency=np.ones((2, 6, 8)))
    with pytest.raises(ValueError, match="saliency must be at least 0"):
        CoMixUp().plan(Key(), batch_size=2, height=8, width=8, saliency=np.linspace(-1, 9, 128).reshape(2, 8, 8))
