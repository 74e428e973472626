"""AlignMixup: couplings of feature maps, and ManifoldMix that mixes what they lay over one another."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from mixops import CutMix, Key, ManifoldMix, MixUp, Sinkhorn, ZetaMixUp, mix_images
from mixops.embedding.align import mix_aligned
from mixops.key import Stream


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def literal(cost: np.ndarray, eps: float, iterations: int) -> np.ndarray:
    """Sinkhorn's iterations in the plain domain, float64."""
    kernel = np.exp(-cost / eps)
    u = v = np.ones(len(cost))
    for _ in range(iterations):
        u = 1 / len(cost) / (kernel @ v)
        v = 1 / len(cost) / (kernel.T @ u)
    return u[:, None] * kernel * v


def test_shares_are_the_entropic_coupling():
    a, b = torch.rand(3, 6, 4, generator=generator()), torch.rand(3, 6, 4, generator=generator()) + 0.1
    shares = Sinkhorn(0.3, 500).shares(a, b)
    for i in range(3):
        cost = ((a[i, :, None] - b[i, None]) ** 2).sum(-1).double().numpy()
        coupling = literal(cost, 0.3, 500)
        np.testing.assert_allclose(shares[i] / 6, coupling, rtol=0, atol=1e-5)
        np.testing.assert_allclose(coupling.sum(1), 1 / 6, rtol=0, atol=1e-6)
        np.testing.assert_allclose(coupling.sum(0), 1 / 6, rtol=0, atol=1e-6)


@pytest.mark.parametrize("iterations", [1, 3, 100])
def test_rows_are_convex_combinations_however_early_it_stops(iterations):
    shares = Sinkhorn(1e-3, iterations).shares(5 * torch.rand(2, 7, 3), 5 * torch.rand(2, 7, 3))
    assert torch.isfinite(shares).all() and shares.min() >= 0
    np.testing.assert_allclose(shares.sum(2), 1, rtol=0, atol=1e-5)


def test_a_permuted_map_is_laid_over_itself():
    a, order = torch.randn(1, 9, 5, generator=generator()), torch.randperm(9, generator=generator())
    laid = a[:, order]
    np.testing.assert_allclose(Sinkhorn(1e-2, 200).shares(a, laid) @ laid, a, rtol=0, atol=1e-4)


def coin(key: Key) -> bool:
    """Whether the own map keeps its place."""
    return int(key.words(Stream.LAYER, 2)[1]) % 2 == 0


def test_mixing_is_the_formula_for_either_side_of_the_coin():
    hidden = torch.randn(4, 5, 2, 3, dtype=torch.float64, generator=generator())
    align, sides = Sinkhorn(0.5, 50), set()
    for step in range(8):
        key = Key(step=step)
        plan = MixUp(interpolations=2).plan(key, batch_size=4, height=2, width=3)
        mixed = mix_aligned(hidden, plan, align, key).reshape(4, 2, 5, 6)
        sides.add(coin(key))
        for i in range(4):
            own, other = hidden[i].flatten(1), hidden[plan.partner[i]].flatten(1)  # (5, 6)
            if coin(key):
                other = other @ align.shares(own.T[None], other.T[None])[0].double().T
            else:
                own = own @ align.shares(other.T[None], own.T[None])[0].double().T
            for k in range(2):
                lam = plan.lam[i, k]
                np.testing.assert_allclose(mixed[i, k], lam * own + (1 - lam) * other, rtol=0, atol=1e-6)
    assert sides == {True, False}


def test_no_gradient_goes_through_the_coupling():
    hidden = torch.randn(2, 3, 4, generator=generator(), requires_grad=True)
    key = next(Key(step=i) for i in range(20) if coin(Key(step=i)))
    plan = MixUp().plan(key, batch_size=2, height=1, width=1)
    mixed = mix_aligned(hidden, plan, Sinkhorn(0.5, 20), key)
    (found,) = torch.autograd.grad(mixed.sum(), hidden)
    weight = torch.from_numpy(plan.params[:, 0, 0])
    x = hidden.detach().mT
    expected = weight[:, None, None] * torch.ones_like(hidden)
    shares = Sinkhorn(0.5, 20).shares(x, x[torch.from_numpy(plan.partner)])
    for i, partner in enumerate(plan.partner):
        expected[partner] += (1 - weight[i]) * shares[i].sum(0)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_manifold_mix_aligns_maps_and_not_images():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5)).eval()
    images, labels = torch.rand(6, 3, 8, 8, generator=generator()), torch.arange(6) % 5
    key = Key(3)
    for layer in (0, 1):
        mix = ManifoldMix(model, [layer], MixUp(2.0), align=Sinkhorn())
        output, targets = mix(images, labels, key=key, num_classes=5)
        hidden = images if layer == 0 else model[0](images)
        plan = mix.plan(key, hidden)
        mixed = mix_images(hidden, plan) if layer == 0 else mix_aligned(hidden, plan, Sinkhorn(), key)
        expected = model(mixed) if layer == 0 else model[1:](mixed)
        assert torch.allclose(output, expected) and targets.shape == (6, 5)
        _, plain = ManifoldMix(model, [layer], MixUp(2.0))(images, labels, key=key, num_classes=5)
        assert torch.equal(targets, plain)


def test_what_cannot_be_aligned_is_refused():
    hidden, key = torch.rand(4, 3, 5, 5), Key()
    for mixer in (CutMix(), ZetaMixUp()):
        plan = mixer.plan(key, batch_size=4, height=5, width=5)
        with pytest.raises(ValueError, match="mixer must have constant masks of two images"):
            mix_aligned(hidden, plan, Sinkhorn(), key)
    with pytest.raises(ValueError, match=r"layers must return maps \(b, c, ...\) to be aligned"):
        mix_aligned(hidden[:, :, 0, 0], MixUp().plan(key, batch_size=4, height=1, width=1), Sinkhorn(), key)
    with pytest.raises(ValueError, match="eps must be positive"):
        Sinkhorn(eps=0)
    with pytest.raises(TypeError, match="align must be a Sinkhorn or None"):
        ManifoldMix(nn.Sequential(nn.Identity()), [0], MixUp(), align=0.1)
