"""timm's Mixup as a mixer: each option alone, its laws against timm's own draws."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import ks_2samp

from mixops import CutMix, HMix, Key, MixUp, Switch
from mixops.mixers.timm import timm_mixup

SIDE, ROWS = 224, 6000
OPTIONS = {
    "both": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0},
    "--mixup alone": {"mixup_alpha": 0.2},
    "--cutmix alone": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0},
    "--mixup-prob": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "prob": 0.6},
    "--mixup-switch-prob": {"mixup_alpha": 0.8, "cutmix_alpha": 1.0, "switch_prob": 0.1},
    "correct_lam=False": {"mixup_alpha": 0.0, "cutmix_alpha": 1.0, "correct_lam": False},
}


def timms(options, rows):
    """Label weights that timm draws for ``rows`` elements, and which of them are CutMix's."""
    mixup = pytest.importorskip("timm.data.mixup")
    theirs = mixup.Mixup(mode="elem", **options)
    weight, cut = theirs._params_per_elem(rows)
    for i in np.flatnonzero(cut & (weight != 1)):
        _, weight[i] = mixup.cutmix_bbox_and_lam((3, SIDE, SIDE), weight[i], correct_lam=theirs.correct_lam)
    return weight, cut & (weight != 1)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_lambda_has_timms_law(options):
    np.random.seed(0)  # noqa: NPY002 (timm draws from it)
    expected, cut = timms(options, ROWS)
    plan = timm_mixup(mode="elem", **options).plan(Key(1), batch_size=ROWS, height=SIDE, width=SIDE)
    weight = plan.weight[:, 0]
    assert ks_2samp(weight, expected).pvalue > 1e-3
    masks = timm_mixup(mode="elem", **options).plan(Key(2), batch_size=2000, height=32, width=32).mask()
    assert abs((np.ptp(masks, axis=(1, 2, 3)) > 0).mean() - cut.mean()) < 0.05  # as often a box


@pytest.mark.parametrize("options", [OPTIONS["both"], OPTIONS["--mixup-prob"]], ids=["both", "prob"])
def test_a_batch_has_one_draw_of_timms_law(options):
    np.random.seed(1)  # noqa: NPY002 (timm draws from it)
    mixer = timm_mixup(**options)
    plans = [mixer.plan(Key(2, 0, step), batch_size=3, height=SIDE, width=SIDE) for step in range(1500)]
    assert all(len(np.unique(plan.weight)) == 1 for plan in plans)
    assert ks_2samp([plan.weight[0, 0] for plan in plans], timms(options, 6000)[0]).pvalue > 1e-3


def test_options_are_those_of_timm():
    """Names and defaults, so that ``Mixup(**arguments)`` becomes ``timm_mixup(**arguments)``."""
    import inspect

    mixup = pytest.importorskip("timm.data.mixup")
    theirs = {name: p.default for name, p in inspect.signature(mixup.Mixup).parameters.items()}
    ours = {name: p.default for name, p in inspect.signature(timm_mixup).parameters.items()}
    assert ours == {name: theirs[name] for name in ours} and set(theirs) - set(ours) <= {"multi_label"}


def test_what_each_option_becomes():
    rest = {"num_classes": 10, "smoothing": 0.1, "draw": "batch"}
    both = timm_mixup(0.8, 1.0, switch_prob=0.25, num_classes=10)
    assert both == Switch([MixUp(0.8), CutMix(1.0)], [0.75, 0.25], **rest)
    assert timm_mixup(0.8, num_classes=10) == MixUp(0.8, **rest)
    assert timm_mixup(0.0, 1.0, num_classes=10) == CutMix(1.0, **rest)
    assert timm_mixup(0.8, mode="elem", prob=0.5).draw == "sample"
    assert timm_mixup(0.0, 1.0, correct_lam=False).label == "sampled"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixup_alpha": 0.0}, "mixup_alpha or cutmix_alpha must be positive, got 0 and 0"),
        ({"mixup_alpha": -1.0}, "mixup_alpha must be at least 0"),
        ({"cutmix_minmax": (0.2, 0.8)}, "cutmix_minmax must be None"),
        ({"mode": "pair"}, "mode must be 'batch' or 'elem', since"),
        ({"mode": "half"}, "mode must be 'batch' or 'elem', got 'half'"),
    ],
)
def test_what_no_mixer_has_is_named(options, message):
    with pytest.raises(ValueError, match=message):
        timm_mixup(**options)


def test_a_mixer_stands_where_mixup_fn_stands():
    """Number of classes and smoothing are fixed when it is made; targets are timm's for its lambdas and pairs."""
    mixup = pytest.importorskip("timm.data.mixup")
    images, labels = torch.rand(8, 3, 16, 16), torch.arange(8)
    mixer = HMix(1.0, r=0.75, num_classes=1000, smoothing=0.1)
    mixed, targets = mixer(images, labels)
    assert mixed.shape == images.shape and targets.shape == (8, 1000)
    plan = mixer.plan(Key(torch.initial_seed() % 2**64), images=images)
    off, on = 0.1 / 1000, 0.9 + 0.1 / 1000
    own, other = (mixup.one_hot(each, 1000, on, off) for each in (labels, labels[plan.partner]))
    weight = torch.from_numpy(plan.weight).float()
    torch.testing.assert_close(targets, own * weight + other * (1 - weight))
    with_others = mixer(images, labels, num_classes=9, smoothing=0.0, key=Key(3))[1]
    assert with_others.shape == (8, 9) and with_others.min() == 0  # a smoothing of 0 is one, too
    torch.testing.assert_close(with_others.sum(1), torch.ones(8))
    assert "num_classes=1000, smoothing=0.1" in repr(mixer)


@pytest.mark.parametrize("name", ["num_classes", "smoothing"])
def test_members_leave_both_to_the_switch(name):
    with pytest.raises(ValueError, match=f"mixers must leave {name} to the Switch"):
        Switch([MixUp(**{name: 1 if name == "num_classes" else 0.1}), CutMix()])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"num_classes": 0}, "num_classes must be at least 1, got 0"), ({"smoothing": 1.0}, "smoothing must be")],
)
def test_both_are_checked_when_a_mixer_is_made(options, message):
    with pytest.raises(ValueError, match=message):
        MixUp(**options)
