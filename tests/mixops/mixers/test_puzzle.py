"""Puzzle-mix: its mask problem against the authors' formulas, its solver against minimum cuts, its plans."""

from __future__ import annotations

import itertools
import math
import pickle
import runpy
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import avg_pool2d

from loaders.bench.puzzle_problems import (
    Pictures,
    best_constant_energies,
    digit_pictures,
    exact_masks,
    mask_energies,
    random_pictures,
)  # fmt: skip
from mixops import Key, MixUp, OptimalMatching, mix_images, mix_targets
from mixops.mixers.saliency.gradient import gradient_saliency
from mixops.mixers.saliency.puzzle import PuzzleMix
from mixops.mixers.saliency.puzzle_masks import MaskProblem, block_saliency, mask_problem, solve_masks


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The tensors here are small: threads that wait for each other cost more than they give."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pictures() -> dict[str, Pictures]:
    return {"random": random_pictures(200), "digits": digit_pictures(200)}


def lambdas(count: int, k: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.rand(count, k, generator=torch.Generator().manual_seed(seed)).sort(1, descending=True).values


def slow_energy(p: MaskProblem, b: int, mask: np.ndarray, lam: float, n_labels: int, eta: float) -> float:
    """The energy of one mask, block by block."""
    n, layers, total = len(mask), n_labels - 1, 0.0
    for y in range(n):
        for x in range(n):
            m = float(mask[y, x])
            label = round(m * layers)
            total += m * float(p.own[b, y, x]) + (1 - m) * float(p.partner[b, y, x])
            prior = math.comb(layers, label) * (lam + 1e-8) ** label * (1 - lam + 1e-8) ** (layers - label)
            total -= eta / n**2 * math.log(prior)
            if y + 1 < n:
                total += float(p.vertical[b, y, x]) * (m - float(mask[y + 1, x])) ** 2
            if x + 1 < n:
                total += float(p.horizontal[b, y, x]) * (m - float(mask[y, x + 1])) ** 2
    return total


@pytest.mark.parametrize(("n_labels", "n"), [(2, 2), (2, 3), (3, 2), (4, 2)])
def test_the_judge_is_right_on_small_grids(n_labels, n):
    """Minimum cuts against trying every mask, with the energy spelt out."""
    generator = torch.Generator().manual_seed(0)
    rand = lambda *shape: torch.rand(3, *shape, generator=generator, dtype=torch.float64)  # noqa: E731
    problem = MaskProblem(rand(n, n) / n**2, rand(n, n) / n**2, rand(n - 1, n) / 20, rand(n, n - 1) / 20)
    lam = lambdas(3, 2).double()
    exact = exact_masks(problem, lam, n_labels, 0.2)
    energies = mask_energies(problem, exact, lam, n_labels, 0.2)
    for b, k in itertools.product(range(3), range(2)):
        masks = itertools.product(np.arange(n_labels) / (n_labels - 1), repeat=n * n)
        least = min(slow_energy(problem, b, np.reshape(m, (n, n)), float(lam[b, k]), n_labels, 0.2) for m in masks)
        assert float(energies[b, k]) == pytest.approx(least, rel=1e-9)


@pytest.mark.parametrize("n_labels", [2, 3])
@pytest.mark.parametrize("n", [2, 4, 8, 16])
@pytest.mark.parametrize("kind", ["random", "digits"])
def test_masks_come_near_the_exact_ones(pictures, kind, n, n_labels):
    problem, lam = pictures[kind].problem(n), lambdas(200)
    mask = solve_masks(problem, lam, n_labels, 0.2)
    exact = mask_energies(problem, exact_masks(problem, lam, n_labels, 0.2), lam, n_labels, 0.2)
    found = mask_energies(problem, mask, lam, n_labels, 0.2)
    assert exact.min() > 0
    gap = (found - exact) / exact
    assert gap.min() > -1e-9, "nothing can be below the exact minimum"
    assert gap.mean() <= 0.0002 and gap.max() <= (0.02 if n_labels == 2 else 0.01)
    constant = best_constant_energies(problem, lam, n_labels, 0.2)
    assert (found - exact).sum() <= 0.005 * (constant - exact).sum()
    assert (mask.diff(dim=1) <= 0).all(), "the masks of a pair must be nested"


@pytest.mark.parametrize("n_labels", [4, 6])
def test_more_labels(n_labels):
    problem, lam = random_pictures(20).problem(4), lambdas(20)
    found, exact = (
        mask_energies(problem, mask, lam, n_labels, 0.2)
        for mask in (solve_masks(problem, lam, n_labels, 0.2), exact_masks(problem, lam, n_labels, 0.2))
    )
    assert ((found - exact) / exact).max() <= 0.01


def authors_problem(images, saliency, partner, n, beta, gamma, neigh_size) -> list[np.ndarray]:
    """The authors' terms, pair by pair, border by border, cell by cell, in float64."""
    b, _, h, w = images.shape
    high, wide = h // n, w // n
    base = beta / n / 16
    out = [np.zeros((b, n, n)), np.zeros((b, n, n)), np.zeros((b, n - 1, n)), np.zeros((b, n, n - 1))]
    share = avg_pool2d(saliency[:, None].double(), (high, wide))[:, 0].numpy()
    share /= share.sum((1, 2), keepdims=True)
    cell = avg_pool2d(images.double(), neigh_size).numpy()
    ky, kx = high // neigh_size, wide // neigh_size
    for i in range(b):
        pair = {1: cell[i], 2: cell[partner[i]]}
        out[0][i] += share[partner[i]]
        out[1][i] += share[i]
        for y, x, axis in itertools.product(range(n), range(n), (0, 1)):
            if (y, x)[axis] == n - 1:
                continue
            d = {}
            for first, second in itertools.product((1, 2), (1, 2)):
                if axis == 0:
                    cells = [
                        (pair[first][:, (y + 1) * ky - 1, c], pair[second][:, (y + 1) * ky, c])
                        for c in range(x * kx, x * kx + kx)
                    ]
                else:
                    cells = [
                        (pair[first][:, r, (x + 1) * kx - 1], pair[second][:, r, (x + 1) * kx])
                        for r in range(y * ky, y * ky + ky)
                    ]
                d[first, second] = base * gamma * np.mean([np.abs(a - c).mean() for a, c in cells])
            there = (y + 1, x) if axis == 0 else (y, x + 1)
            out[2 + axis][i, y, x] = base + (d[1, 2] + d[2, 1] - d[1, 1] - d[2, 2]) / 2
            out[0][i, y, x] += (d[1, 2] + d[1, 1]) / 2
            out[1][i, y, x] += (d[2, 1] + d[2, 2]) / 2
            out[0][i][there] += (d[2, 1] + d[1, 1]) / 2
            out[1][i][there] += (d[1, 2] + d[2, 2]) / 2
    return out


@pytest.mark.parametrize(
    ("size", "n", "neigh_size"), [((16, 16), 4, 4), ((16, 24), 4, 2), ((12, 12), 2, 3), ((8, 16), 8, 1)]
)
def test_the_problem_is_the_authors(size, n, neigh_size):
    generator = torch.Generator().manual_seed(1)
    images, saliency = torch.rand(3, 3, *size, generator=generator), torch.rand(3, *size, generator=generator)
    partner = torch.tensor([2, 0, 1])
    shares = block_saliency(saliency, n)
    found = mask_problem(shares, images, partner, torch.ones(3), beta=1.2, gamma=0.5, neigh_size=neigh_size)
    wanted = authors_problem(images, saliency, partner, n, 1.2, 0.5, neigh_size)
    for a, b in zip((found.own, found.partner, found.vertical, found.horizontal), wanted, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-7)


def test_the_problem_does_not_depend_on_how_images_are_stored():
    generator = torch.Generator().manual_seed(1)
    pixels = torch.randint(0, 256, (4, 3, 16, 16), generator=generator, dtype=torch.uint8)
    saliency = torch.rand(4, 16, 16, generator=generator)
    mean, std = torch.tensor([0.48, 0.45, 0.4])[:, None, None], (0.2, 0.3, 0.25)
    normalised = (pixels / 255 - mean) / torch.tensor(std)[:, None, None]
    mixer = PuzzleMix(1.0, interpolations=3)
    plans = [
        mixer.plan(Key(1), images=pixels, saliency=saliency),
        mixer.plan(Key(1), images=pixels / 255, saliency=saliency),
        mixer.replace(std=std).plan(Key(1), images=normalised, saliency=saliency),
        mixer.plan(Key(1), images=pixels.numpy(), saliency=saliency.numpy()),
        mixer.plan(Key(1), images=pixels, saliency=lambda images: saliency * 7),
    ]
    for plan in plans[1:]:
        np.testing.assert_array_equal(plan.dense, plans[0].dense)
        np.testing.assert_array_equal(plan.moves, plans[0].moves)


@given(
    k=st.integers(1, 4), sides=st.sampled_from([(16, 16), (8, 12), (2, 6), (32, 16)]), n_labels=st.integers(2, 4),
    seed=st.integers(0, 9), batch=st.integers(1, 5), alpha=st.sampled_from([1.0, 0.05]), prob=st.sampled_from([1.0, 0.5]),
)  # fmt: skip
@settings(deadline=None, max_examples=60)
def test_plans(k, sides, n_labels, seed, batch, alpha, prob):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(batch, 3, *sides, generator=generator)
    saliency = torch.rand(batch, *sides, generator=generator) ** 4
    mixer = PuzzleMix(alpha, interpolations=k, n_labels=n_labels, prob=prob)
    plan = mixer.plan(Key(seed), images=images, saliency=saliency)
    mask = plan.mask()
    assert mask.shape == (batch, k, *sides)
    np.testing.assert_allclose(plan.weight, mask.mean((2, 3)), atol=1e-6)
    assert set(np.unique(np.round(mask * (n_labels - 1), 5))) <= set(range(n_labels))
    assert (np.diff(mask, axis=1) <= 0).all()
    n = math.isqrt(plan.moves.shape[-1])
    assert n in (2, 4, 8, 16) and sides[0] % n == 0 and sides[1] % n == 0
    assert plan.moves.dtype == np.int32
    assert (np.sort(plan.moves, -1) == np.arange(n * n)).all()
    pairs = MixUp(alpha, interpolations=k, prob=prob).plan(Key(seed), batch_size=batch, height=sides[0], width=sides[1])
    np.testing.assert_array_equal(plan.partner, pairs.partner)
    np.testing.assert_array_equal(plan.lam, pairs.lam)
    assert (mask[plan.lam == 1] == 1).all() and (mask[plan.lam == 0] == 0).all()
    mixed = mix_images(images, plan)
    assert mixed.shape == (batch * k, 3, *sides)


def test_images_are_mixed_as_the_plan_says():
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(6, 3, 16, 16, generator=generator, dtype=torch.float64)
    saliency = torch.rand(6, 16, 16, generator=generator) ** 12
    plan = PuzzleMix(1.0, interpolations=2, block_num=4, t_eps=0.05).plan(Key(0), images=images.float(), saliency=saliency)
    assert (plan.moves != np.arange(16)).any(), "nothing moves, so nothing is tested"
    mixed = mix_images(images, plan).numpy()
    for i, k, place in itertools.product(range(6), range(2), range(16)):
        y, x = (4 * s for s in divmod(place, 4))
        shown = []
        for source, row in enumerate((i, plan.partner[i])):
            v, u = (4 * s for s in divmod(int(plan.moves[i, k, source, place]), 4))
            shown.append(images[row, :, v : v + 4, u : u + 4].numpy())
        m = plan.dense[i, k, y // 4, x // 4]
        np.testing.assert_allclose(mixed[2 * i + k, :, y : y + 4, x : x + 4], m * shown[0] + (1 - m) * shown[1], atol=1e-7)


def test_smooth_masks_follow_the_saliency():
    """Own image salient on the left, partner on the right: the mask shows the left of the own image."""
    saliency = torch.zeros(2, 16, 16)
    saliency[0, :, :8] = 1
    saliency[1, :, 8:] = 1
    plan = PuzzleMix(1.0, block_num=4, n_labels=2, transport=False).plan(
        Key(3), images=torch.full((2, 3, 16, 16), 0.5), saliency=saliency
    )
    assert plan.moves is None
    assert (plan.mask()[0, 0, :, :8] == 1).all() and (plan.mask()[0, 0, :, 8:] == 0).all()
    assert (plan.dense[1, 0] == 1 - plan.dense[0, 0]).all()


def test_images_without_saliency_count_as_salient_everywhere():
    generator = torch.Generator().manual_seed(0)
    images, saliency = torch.rand(4, 3, 16, 16, generator=generator), torch.rand(4, 16, 16, generator=generator)
    mixer, plans = PuzzleMix(1.0, interpolations=2), []
    for value in (0.0, math.nan, math.inf, 1.0):
        saliency[1] = value
        plans.append(mixer.plan(Key(0), images=images, saliency=saliency))
    for plan in plans[:3]:
        np.testing.assert_array_equal(plan.dense, plans[3].dense)
        np.testing.assert_array_equal(plan.moves, plans[3].moves)


def revealed(mask: np.ndarray, own: np.ndarray, partner: np.ndarray) -> np.ndarray:
    """The saliency that a mask leaves visible, of two in all."""
    return (mask * own).sum((-1, -2)) + ((1 - mask) * partner).sum((-1, -2))


@pytest.mark.parametrize("block_num", [2, 4, 8, 16])
def test_more_saliency_is_revealed_than_by_cutmix(pictures, block_num):
    """Paired over 200 pairs of digits: each mask against a random box of the same weight."""
    digits = pictures["digits"]
    share = (digits.saliency / digits.saliency.sum((1, 2), keepdim=True)).double().numpy()
    mixer = PuzzleMix(1.0, block_num=block_num, transport=False)
    plan = mixer.plan(Key(0), images=digits.images, saliency=digits.saliency)
    found = revealed(plan.mask()[:, 0], share, share[plan.partner])
    rng, boxes = np.random.default_rng(0), np.ones((200, 32, 32))
    for i, weight in enumerate(plan.weight[:, 0]):
        high = min(32, max(1, round(32 * math.sqrt(1 - weight))))
        wide = round((1 - weight) * 1024 / high)
        y, x = rng.integers(0, 33 - high), rng.integers(0, 33 - wide)
        boxes[i, y : y + high, x : x + wide] = 0
    assert np.abs(boxes.mean((1, 2)) - plan.weight[:, 0]).max() < 0.02
    margin = found - revealed(boxes, share, share[plan.partner])
    assert margin.mean() > 3 * margin.std() / math.sqrt(200)
    moved = mixer.replace(transport=True).plan(Key(0), images=digits.images, saliency=digits.saliency)
    blocks = block_saliency(digits.saliency, block_num).double().numpy().reshape(200, -1)
    shown = [np.take_along_axis(s, moved.moves[:, 0, i], 1) for i, s in enumerate((blocks, blocks[moved.partner]))]
    mask = moved.dense[:, 0].reshape(200, -1)
    with_transport = (mask * shown[0] + (1 - mask) * shown[1]).sum(1)
    without = (mask * blocks + (1 - mask) * blocks[moved.partner]).sum(1)
    assert with_transport.mean() >= without.mean() > revealed(boxes, share, share[plan.partner]).mean()


def test_in_a_training_step():
    from loaders.bench.puzzle_problems import load_digits, train_digits

    images, labels = (x[:12] for x in load_digits())
    model = train_digits(*load_digits(), steps=2)
    mixer = PuzzleMix(1.0, interpolations=3, block_num=(2, 4))
    x, y = mixer(images, labels, key=Key(0), num_classes=10, saliency=gradient_saliency(model, images, labels))
    assert x.shape == (36, 1, 32, 32) and y.shape == (36, 10)
    plan = mixer.plan(Key(0), images=images, saliency=gradient_saliency(model, images, labels))
    torch.testing.assert_close(y, mix_targets(labels, plan, num_classes=10))
    assert torch.equal(x, mix_images(images, plan))
    assert mixer(images, labels, num_classes=10, saliency=lambda x: x[:, 0])[0].shape == x.shape  # counts its own calls


def test_options():
    generator = torch.Generator().manual_seed(0)
    images, saliency = torch.rand(8, 3, 16, 16, generator=generator), torch.rand(8, 16, 16, generator=generator)
    draw = PuzzleMix(1.0, draw="batch").plan(Key(0), images=images, saliency=saliency)
    assert (draw.lam == draw.lam[:1]).all()
    sampled = PuzzleMix(1.0, label="sampled").plan(Key(0), images=images, saliency=saliency)
    np.testing.assert_array_equal(sampled.weight, sampled.lam)
    matched = PuzzleMix(1.0, matching=OptimalMatching(k=4)).plan(Key(0), images=images, saliency=saliency)
    expected = MixUp(1.0, matching=OptimalMatching(k=4)).plan(Key(0), batch_size=8, height=16, width=16, images=images)
    np.testing.assert_array_equal(matched.partner, expected.partner)
    drawn = {
        math.isqrt(PuzzleMix(1.0).plan(Key(s), images=images[:2], saliency=saliency[:2]).moves.shape[-1]) for s in range(40)
    }
    assert drawn == {2, 4, 8, 16}
    mixer = PuzzleMix(0.5, interpolations=5, block_num=[4], std=[0.2])
    assert pickle.loads(pickle.dumps(mixer)) == mixer and hash(mixer) is not None
    assert repr(PuzzleMix(0.5, n_labels=2)) == "PuzzleMix(alpha=0.5, n_labels=2)"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"block_num": 1}, r"block_num must be in \[2, 256\], got 1"),
        ({"block_num": ()}, "block_num must be a number or numbers of at least 2"),
        ({"n_labels": 1}, r"n_labels must be in \[2, 256\], got 1"),
        ({"gamma": 1.5}, r"gamma must be in \[0, 1\], got 1.5"),
        ({"beta": -1}, "beta must be in"),
        ({"eta": -0.1}, "eta must be in"),
        ({"t_eps": math.nan}, "t_eps must be in"),
        ({"neigh_size": 0}, "neigh_size must be at least 1, got 0"),
        ({"std": (0.2, 0)}, "std must be positive and finite, got 0"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        PuzzleMix(1.0, **options)


def test_bad_arguments():
    generator = torch.Generator().manual_seed(0)
    images, saliency = torch.rand(4, 3, 16, 16, generator=generator), torch.rand(4, 16, 16, generator=generator)
    mixer = PuzzleMix(1.0, block_num=(4,))
    for arguments, message in (
        (
            {"images": images},
            r'saliency must be given to PuzzleMix\.plan, got None; a mixer with saliency="spectral" needs none',
        ),
        ({"saliency": saliency}, r"images must be given to PuzzleMix\.plan, got None"),
        ({"images": images, "saliency": saliency[:3]}, r"saliency must have shape \(b, h, w\)"),
        ({"images": images, "saliency": saliency, "batch_size": 5}, "images must hold batch_size = 5 images, got 4"),
        ({"images": images, "saliency": saliency, "height": 8}, "images must be 8x16 pixels as the plan, got 16x16"),
        (
            {"images": images[..., :15], "saliency": saliency[..., :15]},
            "block_num must have a number that divides both sides",
        ),
        ({"images": images, "saliency": -saliency}, "saliency must be at least 0"),
        ({"images": images * 400, "saliency": saliency}, "std must undo the normalisation of images"),
        ({"images": images - 0.2, "saliency": saliency}, r"so that they span \[0, 1\], got None for values from -0\.2"),
    ):
        with pytest.raises(ValueError, match=message):
            mixer.plan(Key(0), **arguments)
    with pytest.raises(ValueError, match="std must have one value or one a channel, 3, got 2"):
        mixer.replace(std=(0.1, 0.2)).plan(Key(0), images=images, saliency=saliency)


@pytest.mark.nightly
def test_the_example_draws_its_picture(tmp_path):
    example = runpy.run_path(str(Path(__file__).parents[3] / "examples" / "puzzle_mix.py"))
    picture = tmp_path / "puzzle.png"
    example["main"](out=picture, pairs=3, interpolations=2, seed=0)
    assert picture.read_bytes().startswith(b"\x89PNG")
