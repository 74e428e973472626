"""OptTransMix: barycentres by loops, in closed form, in one dimension, and what must hold of any."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from support.hostile_arguments import Call, no_surprise

from mixops import CutMix, DirichletMixUp, Key, MixPlan, MixUp, PlanSources, mix_targets
from mixops.offline import opt_trans_mix


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def weighted(sources: list[list[int]], weights: list[list[float]]) -> MixPlan:
    """A plan of one output of each row, from its sources and their weights."""
    shares = np.array(weights)[:, None]
    more = PlanSources(np.array(sources), shares, shares.astype(np.float32))
    return MixPlan.of_sources(more, height=1, width=1)


def literal(channels: list[np.ndarray], weights: np.ndarray, eps: float, iterations: int) -> np.ndarray:
    """Projections in the plain domain with one matrix over all pairs of pixels, float64."""
    h, w = channels[0].shape
    places = [(y / max(h, w), x / max(h, w)) for y in range(h) for x in range(w)]
    kernel = np.array([[np.exp(-((a - c) ** 2 + (b - d) ** 2) / eps) for c, d in places] for a, b in places])
    p = [channel.reshape(-1) / channel.sum() for channel in channels]
    v = [np.ones(h * w) for _ in p]
    for _ in range(iterations):
        kept = [kernel.T @ (pj / (kernel @ vj)) for pj, vj in zip(p, v, strict=True)]
        b = np.prod([k**share for k, share in zip(kept, weights / weights.sum(), strict=True)], axis=0)
        v = [b / k for k in kept]
    mass = sum(weight * channel.sum() for weight, channel in zip(weights, channels, strict=True))
    return (b / b.sum() * mass).reshape(h, w)


@pytest.mark.parametrize(("h", "w"), [(4, 5), (6, 2), (1, 7)])
@pytest.mark.parametrize("mixer", [MixUp(interpolations=2), DirichletMixUp(sources=3)])
def test_barycentres_are_those_of_the_loop(mixer, h, w):
    images = torch.rand(4, 2, h, w, dtype=torch.float64, generator=generator()) ** 3
    images[0, :, 0] = 0  # pixels without mass
    images[0, :, 0, 0] = 0.4
    plan = mixer.plan(Key(1), batch_size=4, height=h, width=w)
    found = opt_trans_mix(images, plan, eps=0.05, iterations=40).reshape(4, -1, 2, h, w)
    assert found.shape[1] == mixer.interpolations
    for i, output, c in np.ndindex(*found.shape[:3]):
        channels = [images[j, c].numpy() for j in plan.sources[i]]
        expected = literal(channels, plan.weights[i, output], 0.05, 40)
        np.testing.assert_allclose(found[i, output, c], expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("eps", [1e-2, 1.5e-3, 1.4e-3, 1e-5])  # by products down to 1.5e-3, then by logarithms
def test_points_become_one_blurred_point_at_their_weighted_mean(eps):
    """The plan of a point mass is fixed, so b is exp(-sum_j w_j |x - x_j|^2 / eps) to a factor, in closed form."""
    images, places, weights = torch.zeros(3, 1, 9, 13, dtype=torch.float64), [(1, 2), (7, 2), (4, 11)], [0.5, 0.2, 0.3]
    for image, (y, x) in zip(images, places, strict=True):
        image[0, y, x] = 2.0
    plan = weighted([[0, 1, 2]] * 3, [weights] * 3)
    found = opt_trans_mix(images, plan, eps=eps, iterations=5)[0, 0].numpy()
    yy, xx = np.mgrid[:9, :13] / 13
    cost = sum(w * ((yy - y / 13) ** 2 + (xx - x / 13) ** 2) for w, (y, x) in zip(weights, places, strict=True))
    expected = np.exp(-(cost - cost.min()) / eps)
    np.testing.assert_allclose(found, 2 * expected / expected.sum(), rtol=0, atol=1e-10)
    assert np.unravel_index(found.argmax(), (9, 13)) == (3, 5)  # (.5 + 1.4 + 1.2, 1 + .4 + 3.3) is (3.1, 4.7)


def test_in_one_dimension_quantiles_are_averaged():
    """The barycentre of two bars is a bar between them (the exact one of no eps), where mixup shows both."""
    images = torch.zeros(2, 1, 1, 16, dtype=torch.float64)
    images[0, ..., 1:5], images[1, ..., 9:13] = 1, 1
    found = opt_trans_mix(images, weighted([[0, 1], [1, 0]], [[0.5, 0.5], [0.25, 0.75]]), eps=5e-4, iterations=300)
    expected = np.zeros((2, 16))
    expected[0, 5:9], expected[1, 3:7] = 1, 1  # row 1 has .25 of its own bar at 9: 1 + .25 * 8
    np.testing.assert_allclose(found[:, 0, 0], expected, rtol=0, atol=2e-3)


def test_a_weight_of_one_gives_the_image_blurred_by_nothing_but_eps():
    images = torch.rand(2, 3, 8, 8, dtype=torch.float64, generator=generator())
    found = opt_trans_mix(images, weighted([[0, 1], [1, 0]], [[1.0, 0.0]] * 2), eps=1e-4, iterations=50)
    np.testing.assert_allclose(found, images, rtol=0, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32, torch.float64])
def test_a_channel_has_the_mean_mass_and_its_place(dtype):
    """Masses are averaged as the labels are, and so are the centres of mass (of nearly equal spreads)."""
    images = torch.zeros(6, 2, 20, 24, dtype=dtype)
    rng = np.random.default_rng(0)
    corners = rng.integers(3, 12, (6, 2))
    for image, (y, x) in zip(images, corners, strict=True):
        image[:, y : y + 4, x : x + 4] = torch.tensor([0.25, 0.75])[:, None, None]
    images[0] /= 2
    plan = DirichletMixUp(sources=3).plan(Key(2), batch_size=6, height=20, width=24)
    found = opt_trans_mix(images, plan, iterations=60).double().numpy()
    assert opt_trans_mix(images, plan, iterations=1).dtype == dtype
    mass = images.double().sum((2, 3)).numpy()
    for i in range(6):
        weights = plan.weights[i, 0]
        np.testing.assert_allclose(found[i].sum((1, 2)), weights @ mass[plan.sources[i]], rtol=2e-3, atol=0)
        centre = [(found[i, 0] * t).sum() / found[i, 0].sum() for t in np.mgrid[:20, :24]]
        np.testing.assert_allclose(centre, weights @ (corners[plan.sources[i]] + 1.5), rtol=0, atol=0.1)
    targets = mix_targets(np.arange(6), plan, num_classes=6)
    np.testing.assert_allclose(np.take_along_axis(targets, plan.sources, 1), plan.weights[:, 0], rtol=0, atol=1e-7)


def test_an_empty_channel_takes_no_part_and_parts_do_not_matter(monkeypatch):
    images = torch.rand(3, 2, 6, 6, dtype=torch.float64, generator=generator())
    images[0] = 0
    images[:, 1] = 0
    plan = weighted([[0, 1, 2], [1, 2, 0], [2, 0, 1]], [[0.5, 0.2, 0.3]] * 3)
    found = opt_trans_mix(images, plan, eps=0.01)
    assert found.isfinite().all() and (found[:, 1] == 0).all()
    expected = literal([images[1, 0].numpy(), images[2, 0].numpy()], np.array([0.4, 0.6]), 0.01, 100)
    mass = 0.2 * images[1, 0].sum() + 0.3 * images[2, 0].sum()
    np.testing.assert_allclose(found[0, 0], expected / expected.sum() * mass.item(), rtol=0, atol=1e-10)
    monkeypatch.setattr("mixops.offline.barycentres._MOST_TERMS", 1)
    np.testing.assert_allclose(opt_trans_mix(images, plan, eps=0.01), found, rtol=0, atol=1e-14)
    monkeypatch.setattr("mixops.offline.barycentres._LEAST_PRODUCT_EPS", 1.0)
    np.testing.assert_allclose(opt_trans_mix(images, plan, eps=0.01), found, rtol=0, atol=1e-12)


def test_what_is_no_mass_is_refused():
    plan = MixUp().plan(Key(), batch_size=2, height=4, width=4)
    with pytest.raises(ValueError, match="images must be finite and at least 0, the mass of each pixel, got -1"):
        opt_trans_mix(-torch.ones(2, 3, 4, 4), plan)
    with pytest.raises(ValueError, match=r"images must be floating \(b, c, h, w\), got torch.uint8"):
        opt_trans_mix(torch.ones(2, 3, 4, 4, dtype=torch.uint8), plan)
    with pytest.raises(ValueError, match="images must have the plan's 2 rows, got 3"):
        opt_trans_mix(torch.ones(3, 3, 4, 4), plan)
    with pytest.raises(ValueError, match="plan must have constant masks"):
        opt_trans_mix(torch.ones(2, 3, 4, 4), CutMix().plan(Key(4), batch_size=2, height=4, width=4))


def test_what_is_wrong_is_refused_by_its_name():
    plan = MixUp().plan(Key(), batch_size=2, height=4, width=4)
    arguments = {"images": torch.rand(2, 3, 4, 4, generator=generator()), "plan": plan, "iterations": 2}
    no_surprise(Call(opt_trans_mix, partial(dict, arguments)), "opt_trans_mix")
