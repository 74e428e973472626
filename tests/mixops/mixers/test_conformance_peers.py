"""Installed peers given the same parameters: torchvision, timm, kornia. Where they deviate, the figure stands here."""

from __future__ import annotations

import itertools
import math
from unittest import mock

import numpy as np
import pytest
import torch
from support.checks import injected

from mixops import CutMix, Key, MixPlan, MixUp, mix_images, mix_targets

LAMBDAS = (0.0, 0.1, 0.35, 0.5, 0.8, 1.0)
CENTRES = ((0, 0), (5, 11), (19, 23), (0, 23), (12, 1))
GRID = pytest.mark.parametrize(("lam", "centre"), list(itertools.product(LAMBDAS, CENTRES)))
H, W, B, CLASSES = 20, 24, 6, 5


def batch():
    rng = torch.Generator().manual_seed(0)
    return torch.rand(B, 3, H, W, generator=rng), torch.randint(CLASSES, (B,), generator=rng)


def assert_same(plan, theirs, images, labels, smoothing=0.0):
    np.testing.assert_allclose(mix_images(images, plan), theirs[0], rtol=0, atol=1e-6)
    ours = mix_targets(labels, plan, num_classes=CLASSES, smoothing=smoothing)
    np.testing.assert_allclose(ours, theirs[1], rtol=0, atol=1e-6)


# ----------------------------------------------------------------------------------------------------- torchvision


def torchvision_draws(lam, centre):
    """What torchvision draws: lambda, then the column and the row of the centre."""
    beta = mock.Mock(sample=mock.Mock(return_value=torch.tensor(lam, dtype=torch.float64)))
    randint = mock.Mock(side_effect=[torch.tensor([centre[1]]), torch.tensor([centre[0]])])
    return beta, mock.patch("torch.randint", randint)


@GRID
@pytest.mark.parametrize("ours", [MixUp, CutMix])
def test_torchvision(ours, lam, centre):
    v2 = pytest.importorskip("torchvision.transforms.v2")
    images, labels = batch()
    theirs = getattr(v2, ours.__name__)(alpha=1.0, num_classes=CLASSES)
    theirs._dist, randint = torchvision_draws(lam, centre)
    with randint:
        mixed = theirs(images, labels)
    assert_same(injected(ours(), np.full((B, 1), lam), *centre, H, W), mixed, images, labels)


def test_torchvision_refuses_uint8_and_mixes_a_single_image_with_itself():
    v2 = pytest.importorskip("torchvision.transforms.v2")
    with pytest.raises(RuntimeError, match="can't be cast to the desired output type"):
        v2.MixUp(num_classes=2)(torch.zeros(2, 3, 4, 4, dtype=torch.uint8), torch.arange(2))
    alone = torch.rand(1, 3, 4, 4)
    np.testing.assert_allclose(v2.MixUp(num_classes=2)(alone, torch.zeros(1, dtype=torch.int64))[0], alone, atol=1e-6)
    plan = MixUp().plan(Key(), batch_size=1, height=4, width=4)
    np.testing.assert_allclose(mix_images(alone, plan), alone, atol=1e-6)


# ------------------------------------------------------------------------------------------------------------ timm


def timm_mixup(**options):
    return pytest.importorskip("timm.data.mixup").Mixup(num_classes=CLASSES, **options)


def timm_draws(lam, cut, boxes):
    """What timm draws: which rows are cut, lambdas, then for each box the row and the column of its centre."""
    centres = iter([c for box in boxes for c in box])
    return mock.patch.multiple(
        "numpy.random",
        beta=mock.Mock(return_value=np.asarray(lam, np.float64) if np.ndim(lam) else float(lam)),
        rand=mock.Mock(side_effect=lambda *size: np.zeros(size) if size else 0.0),
        randint=mock.Mock(side_effect=lambda low, high, size=None: next(centres)),
    )


def even_lambda(lam):
    """A lambda near ``lam`` whose box has an even number of rows and columns."""
    candidates = np.linspace(0, 1, 2001)
    even = [x for x in candidates if not int(H * math.sqrt(1 - x)) % 2 and not int(W * math.sqrt(1 - x)) % 2]
    return min(even, key=lambda x: abs(x - lam))


@GRID
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("ours", [MixUp, CutMix])
def test_timm_batch_mode(ours, lam, centre, smoothing):
    lam = even_lambda(lam)
    images, labels = batch()
    alphas = {"mixup_alpha": 1.0, "cutmix_alpha": 0.0} if ours is MixUp else {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}
    theirs = timm_mixup(mode="batch", label_smoothing=smoothing, **alphas)
    with timm_draws(lam, None, [centre]):
        mixed = theirs(images.clone(), labels)
    flip = np.arange(B)[::-1]
    assert_same(injected(ours(), np.full((B, 1), lam), *centre, H, W, flip), mixed, images, labels, smoothing)


@pytest.mark.parametrize("mode", ["elem", "pair"])
@pytest.mark.parametrize("ours", [MixUp, CutMix])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_timm_elem_and_pair_mode(ours, mode, smoothing):
    images, labels = batch()
    lam = np.array([even_lambda(x) for x in (0.2, 0.9, 0.5, 0.7, 0.05, 0.45)])
    boxes = [(0, 0), (5, 11), (19, 23), (3, 3), (12, 1), (8, 20)]
    if mode == "pair":  # rows i and B - 1 - i share a lambda and a box
        lam, boxes = np.concatenate([lam[:3], lam[2::-1]]), boxes[:3] + boxes[2::-1]
    alphas = {"mixup_alpha": 1.0, "cutmix_alpha": 0.0} if ours is MixUp else {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}
    theirs = timm_mixup(mode=mode, label_smoothing=smoothing, **alphas)
    drawn = len(lam) if mode == "elem" else len(lam) // 2
    with timm_draws(lam[:drawn], None, boxes[:drawn]):
        mixed = theirs(images.clone(), labels)
    plan = injected(ours(), lam[:, None], *np.array(boxes).T, H, W, np.arange(B)[::-1])
    assert_same(plan, mixed, images, labels, smoothing)


def test_timm_without_the_correction_is_label_sampled():
    """timm's correct_lam=False, which rwightman found better on fine-grained classes: the sampled lambda is the label."""
    images, labels = batch()
    theirs = timm_mixup(mixup_alpha=0.0, cutmix_alpha=1.0, correct_lam=False, label_smoothing=0.0)
    lam = even_lambda(0.3)
    with timm_draws(lam, None, [(0, 0)]):
        targets = theirs(images.clone(), labels)[1]
    plan = injected(CutMix(), np.full((B, 1), lam), 0, 0, H, W, np.arange(B)[::-1])
    sampled = MixPlan(plan.partner, plan.lam, plan.lam, plan.params, H, W)
    np.testing.assert_allclose(mix_targets(labels, sampled, num_classes=CLASSES), targets, rtol=0, atol=1e-6)
    assert CutMix(label="sampled").plan(Key(), batch_size=3, height=H, width=W).weight.tolist() == (
        CutMix(label="sampled").plan(Key(), batch_size=3, height=H, width=W).lam.tolist()
    )


def test_timm_keeps_the_pixel_of_an_odd_box_that_the_authors_lose():
    """Since 1.0.2x its box is ``cut // 2`` before and ``(cut + 1) // 2`` behind the centre: for odd sides one row more."""
    bbox = pytest.importorskip("timm.data.mixup").rand_bbox
    lam = 1 - (7.5 / H) ** 2  # int(H * ratio) is 7, int(W * ratio) is 9
    with timm_draws(lam, None, [(10, 12)]):
        theirs = [int(edge) for edge in bbox((H, W), lam)]
    ours = injected(CutMix(), [[lam]], 10, 12, H, W).params[0, 0, 2:6].astype(int).tolist()
    assert theirs in ([7, 14, 8, 17], [7, 13, 8, 16])  # the second in older versions
    assert ours == [7, 13, 8, 16]


def test_timm_needs_even_batches_and_we_do_not():
    images, labels = torch.rand(3, 3, H, W), torch.arange(3)
    with pytest.raises(AssertionError, match="Batch size should be even"):
        timm_mixup(mixup_alpha=1.0)(images, labels)
    mixed, targets = MixUp()(images, labels, num_classes=CLASSES, key=Key())
    assert mixed.shape == (3, 3, H, W) and targets.shape == (3, CLASSES)


# ---------------------------------------------------------------------------------------------------------- kornia


def kornia_mix(name, **options):
    augmentation = pytest.importorskip("kornia.augmentation")
    return getattr(augmentation, name)(data_keys=["input", "class"], **options)


def test_kornia_mixup_counts_lambda_from_the_partner():
    """Its third column is the weight of the partner, drawn uniform from ``lambda_val``: there is no Beta."""
    images, labels = batch()
    theirs = kornia_mix("RandomMixUpV2")
    torch.manual_seed(0)
    mixed, columns = theirs(images, labels)
    partner, lam = theirs._params["mixup_pairs"].numpy(), theirs._params["mixup_lambdas"].double().numpy()
    plan = injected(MixUp(), 1 - lam[:, None], 0, 0, H, W, partner)
    np.testing.assert_allclose(mix_images(images, plan), mixed, rtol=0, atol=1e-6)
    np.testing.assert_allclose(columns[:, 2], 1 - plan.weight[:, 0], rtol=0, atol=1e-6)
    np.testing.assert_array_equal(columns[:, 1], labels[torch.from_numpy(partner)])


def test_kornia_cutmix_with_its_boxes_and_its_two_lambdas():
    """Its boxes are wholly inside. ``use_correct_lambda`` gives our weight, the default one minus it: the pasted area."""
    images, labels = batch()
    with pytest.warns(DeprecationWarning, match="old .inconsistent. lambda"):
        old = kornia_mix("RandomCutMixV2")
    new = kornia_mix("RandomCutMixV2", use_correct_lambda=True)
    torch.manual_seed(1)
    mixed, columns = new(images, labels)
    _, old_columns = old(images, labels, params=new._params)
    corners = new._params["crop_src"][0].numpy()  # (b, 4, 2): x, y of the four corner pixels, borders included
    partner = new._params["mix_pairs"][0].numpy()
    params = np.zeros((B, 1, 9), np.float32)
    params[:, 0, 0], params[:, 0, 1] = 1, -1
    params[:, 0, 2], params[:, 0, 3] = corners[:, 0, 1], corners[:, 2, 1] + 1
    params[:, 0, 4], params[:, 0, 5] = corners[:, 0, 0], corners[:, 2, 0] + 1
    area = (params[:, :, 3] - params[:, :, 2]) * (params[:, :, 5] - params[:, :, 4]) / (H * W)
    weight = 1 - area.astype(np.float64)
    plan = MixPlan(partner, weight, weight, params, H, W)
    np.testing.assert_allclose(mix_images(images, plan), mixed, rtol=0, atol=1e-6)
    np.testing.assert_allclose(columns[0, :, 2], plan.weight[:, 0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(old_columns[0, :, 2], 1 - plan.weight[:, 0], rtol=0, atol=1e-6)


def test_kornia_cutmix_labels_do_not_net_boxes_that_overlap():
    """With num_mix=3 the label that each box reports knows nothing of the others: no column is the own share."""
    theirs = kornia_mix("RandomCutMixV2", num_mix=3, use_correct_lambda=True)
    torch.manual_seed(2)
    own, other = torch.zeros(32, 1, H, W), torch.arange(32)
    images = own + torch.arange(32.0).view(-1, 1, 1, 1)
    mixed, columns = theirs(images, other)
    share = (mixed == images).double().mean((1, 2, 3))
    gap = (columns[:, :, 2].double() - share).mean(1)
    assert (gap > 0.1).all()  # each of the three says that more of the own image is left than is


# ------------------------------------------------------------------------------------------------------- smoothing


@pytest.mark.parametrize("smoothing", [0.05, 0.1, 0.3])
def test_smoothing_is_that_of_timm_and_torch(smoothing):
    timm = pytest.importorskip("timm.data.mixup")
    _, labels = batch()
    plan = MixUp().plan(Key(), batch_size=B, height=H, width=W)
    plan = MixPlan(np.arange(B)[::-1].copy(), plan.weight, plan.lam, plan.params, H, W)
    lam = torch.from_numpy(plan.weight).float()
    theirs = timm.mixup_target(labels, CLASSES, lam, smoothing)
    ours = mix_targets(labels, plan, num_classes=CLASSES, smoothing=smoothing)
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-6)
    logits = torch.randn(B, CLASSES, generator=torch.Generator().manual_seed(0))
    hard = mix_targets(labels, plan, num_classes=CLASSES)
    torch.testing.assert_close(
        torch.nn.functional.cross_entropy(logits, ours),
        torch.nn.functional.cross_entropy(logits, hard, label_smoothing=smoothing),
    )
