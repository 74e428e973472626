"""SuperMix: its steps against a slow reference without autograd, the authors' smoothing, and what its masks must be."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch
from support.hostile_arguments import Call, no_surprise
from torch import nn

from mixops import Key, mix_images, mix_targets
from mixops.offline import super_mix
from mixops.offline.teacher_masks import _masks, _Problem, _smoothed, gaussian, newton_step

SIDE, CLASSES = 8, 6
super_mix_small = partial(super_mix, mask_size=4)


def teacher(bias: float = 0.0) -> nn.Module:
    """A linear classifier that sees class c where block c of the image is bright."""
    model = nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, CLASSES)).double()
    rng = np.random.default_rng(0)
    weight = 0.02 * rng.standard_normal((CLASSES, SIDE, SIDE))
    for c in range(CLASSES):
        y, x = divmod(c, 3)
        weight[c, 4 * y : 4 * y + 4, 3 * x : 3 * x + 2] += 0.5
    with torch.no_grad():
        model[1].weight.copy_(torch.from_numpy(weight.reshape(CLASSES, -1)))
        model[1].bias.copy_(torch.linspace(0, bias, CLASSES))
    return model.eval()


def pictures(b: int = 6) -> torch.Tensor:
    """Image i has the block of class i."""
    rng = np.random.default_rng(1)
    images = 0.2 * rng.random((b, 1, SIDE, SIDE))
    for i in range(b):
        y, x = divmod(i % CLASSES, 3)
        images[i, 0, 4 * y : 4 * y + 4, 3 * x : 3 * x + 2] += 1
    return torch.from_numpy(images)


# ------------------------------------------------------------------------------------------------------- slow reference


def enlargement(m: int, n: int) -> np.ndarray:
    """Bilinear enlargement of m cells to n pixels as a matrix (n, m), centres of cells and pixels being those of areas."""
    matrix = np.zeros((n, m))
    for i in range(n):
        at = max((i + 0.5) * m / n - 0.5, 0)
        low = min(int(at), m - 1)
        high = min(low + 1, m - 1)
        matrix[i, low] += 1 - (at - low)
        matrix[i, high] += at - low
    return matrix


def authors_blur(x: np.ndarray, sigma: float) -> np.ndarray:
    """Their kernel of int(5 sigma) taps and their padding, a cell at a time."""
    size = int(sigma * 5)
    t = (np.arange(size) - (size - 1) / 2) * 5
    weight = np.exp(-((t / size) ** 2) * 0.5)
    weight /= weight.sum()
    even, pad = 1 - size % 2, size // 2
    padded = np.pad(x, ((pad - even, pad), (pad - even, pad)))
    out = np.zeros_like(x)
    for i, j in np.ndindex(*x.shape):
        out[i, j] = weight @ padded[i : i + size, j : j + size] @ weight
    return out


def masks_of(z: np.ndarray, grow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    share = 1 / (1 + np.exp(-np.stack([grow @ cells @ grow.T for cells in z])))
    return share / share.sum(0), share


def literal(images: np.ndarray, model: nn.Module, lam: np.ndarray, m: int, steps: int, sparsity: float) -> np.ndarray:
    """The masks (s, n, n) of one row after the steps of the authors' code at sigma = 1, gradients by hand, float64."""
    weight, bias = model[1].weight.detach().numpy(), model[1].bias.detach().numpy()
    grow, x = enlargement(m, SIDE), images[:, 0]
    classes = [int((weight @ image.reshape(-1) + bias).argmax()) for image in x]
    target = np.zeros(CLASSES)
    np.add.at(target, classes, lam)
    z = np.zeros((len(x), m, m))
    for _ in range(steps):
        mask, share = masks_of(z, grow)
        logits = weight @ (mask * x).sum(0).reshape(-1) + bias
        p = np.exp(logits - logits.max())
        p /= p.sum()
        present = target > 0
        loss = (target[present] * np.log(target[present] / p[present])).sum() + sparsity * np.abs(mask * (mask - 1)).mean()
        by_pixel = ((p - target) @ weight).reshape(SIDE, SIDE)
        by_mask = x * by_pixel + sparsity * (1 - 2 * mask) / mask.size
        by_share = (by_mask - (by_mask * mask).sum(0)) / share.sum(0)
        gradient = np.stack([grow.T @ (d * s * (1 - s)) @ grow for d, s in zip(by_share, share, strict=True)])
        smooth = np.stack([authors_blur(g, 1) for g in gradient])
        length = np.clip(abs(loss) / ((gradient * smooth).sum() + 1e-10), 1e-4, 2000)
        z = z - length * smooth
        mask, _ = masks_of(z, grow)
        logits = weight @ (mask * x).sum(0).reshape(-1) + bias
        if set(np.argsort(-logits)[: len(set(classes))]) == set(classes):
            break
    return mask


@pytest.mark.parametrize("sources", [2, 3])
@pytest.mark.parametrize("steps", [1, 4])
def test_masks_are_those_of_the_slow_reference(sources, steps):
    model, images = teacher(bias=1.0), pictures()[[0, 1, 2, 3, 0, 0]]  # some rows are of one class twice
    found = super_mix_small(model, images, key=Key(3), sources=sources, steps=steps, sparsity=10.0)
    same = [len(set(row)) < sources for row in np.array([0, 1, 2, 3, 0, 0])[found.plan.sources].tolist()]
    assert any(same) and not all(same)
    for i in range(6):
        several = images.numpy()[found.plan.sources[i]]
        expected = literal(several, model, found.lam[i], 4, steps, 10.0)
        np.testing.assert_allclose(found.plan.masks()[i, 0], expected, rtol=0, atol=1e-6)


def test_smoothing_is_the_authors_at_one_and_not_half_a_cell_off_at_two():
    """Their kernel for a sigma of 2 has ten taps, so what it smooths moves by half a cell; here there are eleven."""
    x = torch.zeros(1, 1, 16, 16, dtype=torch.float64)
    x[0, 0, 7, 8] = 1
    np.testing.assert_allclose(_smoothed(x, gaussian(1.0))[0, 0], authors_blur(x[0, 0].numpy(), 1), rtol=0, atol=1e-12)
    yy, xx = np.mgrid[:16, :16]
    ours, theirs = _smoothed(x, gaussian(2.0))[0, 0].numpy(), authors_blur(x[0, 0].numpy(), 2)
    assert [(ours * t).sum() for t in (yy, xx)] == pytest.approx([7, 8], abs=1e-9)
    assert [(theirs * t).sum() for t in (yy, xx)] == pytest.approx([6.5, 7.5], abs=1e-9)
    assert np.abs(ours - theirs).max() == pytest.approx(0.0084, abs=1e-4)
    assert torch.equal(_smoothed(x, gaussian(0.0)), x)


# ----------------------------------------------------------------------------------------------------- what must hold


def test_a_row_is_done_when_the_teacher_sees_the_classes_of_its_images():
    model, images = teacher(), pictures()
    found = super_mix_small(model, images, key=Key(1))
    with torch.no_grad():
        logits = model(mix_images(images, found.plan))
    np.testing.assert_allclose(found.logits, logits, rtol=0, atol=1e-5)
    highest = [set(row.topk(2).indices.tolist()) for row in logits]
    shown = [
        seen == set(row) for seen, row in zip(highest, found.plan.sources.tolist(), strict=True)
    ]  # image i is of class i
    assert found.done.tolist() == shown and any(shown)


def test_steps_lower_the_loss():
    model, images = teacher(), pictures()
    rows = torch.tensor([[i, (i + 1) % 6] for i in range(6)])
    target = 0.6 * torch.eye(6).double()[rows[:, 0]] + 0.4 * torch.eye(6).double()[rows[:, 1]]
    problem = _Problem(images[rows], target, target > 0, 5.0)

    def loss(z: torch.Tensor) -> torch.Tensor:
        masks = _masks(z, SIDE, SIDE)
        log_p = model((masks[:, :, None] * problem.images).sum(1)).log_softmax(1)
        return torch.special.entr(target).sum(1).neg() - (target * log_p).sum(1) + 5 * (masks * (1 - masks)).mean((1, 2, 3))

    z = torch.zeros(6, 2, 4, 4, dtype=torch.float64)
    losses = [loss(z)]
    for _ in range(20):
        z = newton_step(model, problem, z, gaussian(1.0))
        losses.append(loss(z))
    assert (torch.stack(losses).amin(0) < 0.7 * losses[0]).all()


@pytest.mark.parametrize("sources", [2, 3])
def test_labels_are_the_means_of_masks_that_sum_to_one(sources):
    images = pictures()
    found = super_mix_small(teacher(), images, key=Key(4), sources=sources, sparsity=40.0)
    masks = found.plan.masks()
    np.testing.assert_allclose(masks.sum(2), 1, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found.plan.weights, masks.mean((3, 4)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.lam.sum(1), 1, rtol=0, atol=1e-12)
    targets = mix_targets(np.arange(6), found.plan, num_classes=6)
    np.testing.assert_allclose(
        np.take_along_axis(targets, found.plan.sources, 1), found.plan.weights[:, 0], rtol=0, atol=1e-6
    )
    assert (found.plan.sources[:, 0] == np.arange(6)).all() and len(set(found.plan.sources[0])) == sources


def test_images_of_one_class_add_and_are_done_when_it_is_highest():
    model = teacher()
    images = pictures()[[0, 0]] + 0.01
    found = super_mix_small(model, images, key=Key(), steps=3)
    assert found.done.all() and (found.logits.argmax(1) == 0).all()


def test_rows_and_keys_decide_and_nothing_is_left_behind():
    model, images = teacher(), pictures().requires_grad_()
    model.train()
    one, same, other = (super_mix(model, images, key=Key(seed), steps=2) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one.plan.masks(), same.plan.masks())
    assert (one.lam != other.lam).all() and model.training and images.grad is None
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
    assert not one.logits.requires_grad


def test_images_need_not_be_square_and_may_be_fewer_than_the_sources():
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    found = super_mix(model, torch.rand(2, 3, 9, 14), key=Key(), sources=3, mask_size=4, sigma=0.5, steps=2)
    assert found.plan.masks().shape == (2, 1, 3, 9, 14) and found.plan.sources.tolist() == [[0, 1, 0], [1, 0, 1]]


def test_what_does_not_fit_is_refused():
    images = pictures()
    with pytest.raises(ValueError, match=r"mask_size must be in \[1, 8\], got 9"):
        super_mix(teacher(), images, key=Key(), mask_size=9)
    with pytest.raises(ValueError, match=r"model must return finite logits \(6, classes\), got shape \(6, 1, 8, 8\)"):
        super_mix_small(nn.Identity(), images, key=Key())
    with pytest.raises(ValueError, match="sources must be"):
        super_mix_small(teacher(), images, key=Key(), sources=1)


def test_what_is_wrong_is_refused_by_its_name():
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten(), nn.Linear(32, 4))
    arguments = {"model": model, "images": torch.rand(3, 3, 4, 4), "key": Key(), "mask_size": 2, "steps": 1}
    no_surprise(Call(super_mix, partial(dict, arguments)), "super_mix")
