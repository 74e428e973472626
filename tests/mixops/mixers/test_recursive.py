"""RecursiveMix: batches that are made of the batches before, by hand, by the authors' code, and after a kill at any step."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from support import reference
from torch.nn.functional import interpolate

from loaders import ImageLoader
from mixops import (
    CutMix,
    Key,
    ManifoldMix,
    MixPlan,
    MixUp,
    OptimalMatching,
    RecursiveMix,
    Switch,
    ZetaMixUp,
    mix_images,
    mix_label_maps,
    mix_targets,
    sparse_targets,
)
from mixops.mixers.base import CENTRE_X, CENTRE_Y, SHARED_WORDS, Pairs

CLASSES = 5


def batch(step: int, b: int = 6, side: int = 16) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(step)
    return torch.rand(b, 3, side, side, generator=generator), torch.randint(0, CLASSES, (b,), generator=generator)


def run(mixer, first: int, stop: int, smoothing: float = 0.0):
    """What the steps from ``first`` to ``stop`` mix."""
    history, found = None, []
    for step in range(first, stop):
        history = mixer(*batch(step), key=Key(7, 1, step), num_classes=CLASSES, smoothing=smoothing, history=history)
        found.append(history)
    return found


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize(
    "mixer", [RecursiveMix(), Switch([RecursiveMix(), CutMix()]), Switch([RecursiveMix(), ZetaMixUp(ranks=3)])]
)
def test_steps_by_hand(mixer, smoothing):
    """Pixels and labels of four steps, by loops in float64."""
    images = targets = None
    for step, (mixed, known) in enumerate(run(mixer, 0, 4, smoothing)):
        x, y = batch(step)
        plan = mixer.plan(Key(7, 1, step), images=x)
        assert plan.recalls == (step > 0)
        images = reference.mix_images(x.numpy(), plan, history=images)
        targets = reference.mix_targets(y.numpy(), plan, CLASSES, smoothing, targets)
        np.testing.assert_allclose(mixed, images, rtol=0, atol=1e-6)
        np.testing.assert_allclose(known, targets, rtol=0, atol=1e-6)
        np.testing.assert_allclose(known.sum(1), 1, rtol=0, atol=1e-6)
        assert known.min() >= smoothing / CLASSES - 1e-6  # smoothed once: the least that a class has stays


@pytest.mark.parametrize(
    "mixer", [RecursiveMix(restart=4), Switch([RecursiveMix(restart=2), RecursiveMix(restart=3), MixUp()])]
)
def test_a_run_that_is_killed_at_any_step_goes_on_with_the_same_bits(mixer):
    whole = run(mixer, 0, 13)  # twice the longer period, and begun anew
    for killed in range(len(whole)):
        first = killed - killed % mixer.period
        assert killed - first < mixer.period
        for again, before in zip(run(mixer, first, len(whole)), whole[first:], strict=True):
            assert all(torch.equal(a, b) for a, b in zip(again, before, strict=True))


def test_a_period_does_not_look_beyond_its_restart():
    mixer = RecursiveMix(restart=3)
    assert [mixer.plan(Key(step=step), batch_size=2, height=8, width=8).recalls for step in range(7)] == [
        False, True, True, False, True, True, False]  # fmt: skip
    images, labels = batch(3)
    other = torch.rand(6, 3, 16, 16), torch.rand(6, CLASSES)
    given, none = (mixer(images, labels, key=Key(step=3), num_classes=CLASSES, history=h) for h in (other, None))
    assert all(torch.equal(a, b) for a, b in zip(given, none, strict=True))
    assert RecursiveMix(restart=1).needs == frozenset() and mixer.needs == {"history"}
    assert Switch([RecursiveMix(restart=4), RecursiveMix(restart=6)]).period == 12


def theirs(x, old_x, y, old_y, side, centre):
    """``recursive_mix`` of implus/RecursiveMix-pytorch with its box given."""
    n, cut = x.shape[2], side // 2
    (y0, y1), (x0, x1) = (np.clip([c - cut, c + cut], 0, n) for c in centre)
    x = x.clone()
    if (y1 - y0, x1 - x0) != (0, 0):
        x[:, :, y0:y1, x0:x1] = interpolate(old_x, size=(y1 - y0, x1 - x0), mode="nearest")
    lam = 1 - (y1 - y0) * (x1 - x0) / n**2
    return x, lam * y + (1 - lam) * old_y


@pytest.mark.parametrize("share", [0.01, 0.2, 0.5])
@pytest.mark.parametrize("centre", [(0, 0), (3, 28), (15, 16), (31, 2)])
def test_the_authors_code(share, centre):
    """Its box for all rows and their own row of the history: pixels and labels."""
    u = np.zeros((6, SHARED_WORDS + 3))
    u[:, CENTRE_Y], u[:, CENTRE_X], u[:, SHARED_WORDS] = (centre[0] + 0.5) / 32, (centre[1] + 0.5) / 32, share
    with mock.patch.object(RecursiveMix, "words", lambda *_: u):
        plan = RecursiveMix(1.0).plan_pairs(Pairs(Key(step=1), np.arange(6), np.arange(6), 32, 32))
    (x, y), (old_x, _) = batch(1, side=32), batch(0, side=32)
    old_y = torch.rand(6, CLASSES)
    onehot = torch.nn.functional.one_hot(y, CLASSES).float()
    expected = theirs(x, old_x, onehot, old_y, int(32 * np.sqrt(share)), centre)
    torch.testing.assert_close(mix_images(x, plan, history=old_x), expected[0], rtol=0, atol=0)
    torch.testing.assert_close(mix_targets(y, plan, num_classes=CLASSES, history=old_y), expected[1], rtol=0, atol=1e-6)


def test_of_several_outputs_the_first_is_the_history():
    mixer = RecursiveMix(interpolations=3)
    first, second = run(mixer, 0, 2)
    x, y = batch(1)
    plan = mixer.plan(Key(7, 1, 1), images=x)
    assert torch.equal(second[0], mix_images(x, plan, history=first[0].unflatten(0, (6, 3))[:, 0]))
    known = first[1].unflatten(0, (6, 3))[:, 0]
    assert torch.equal(second[1], mix_targets(y, plan, num_classes=CLASSES, history=known))


def test_a_longer_batch_before_and_every_kind_of_images():
    plan = RecursiveMix().plan(Key(step=1), batch_size=3, height=8, width=10)
    for dtype in (torch.uint8, torch.float16, torch.float32, torch.float64):
        images, past = ((255 * torch.rand(b, 3, 8, 10)).to(dtype) for b in (3, 7))
        mixed = mix_images(images, plan, history=past)
        np.testing.assert_allclose(
            mixed, reference.mix_images(images.numpy(), plan, history=past.numpy()), rtol=0, atol=1e-3
        )
        assert torch.equal(torch.from_numpy(mix_images(images.numpy(), plan, history=past.numpy())), mixed)
        pixels = mix_images(images.permute(0, 2, 3, 1), plan, layout="NHWC", history=past.permute(0, 2, 3, 1))
        assert torch.equal(pixels.permute(0, 3, 1, 2), mixed)
    soft, known = torch.rand(3, CLASSES), torch.rand(7, CLASSES)
    targets = mix_targets(soft, plan, history=known)
    np.testing.assert_array_equal(mix_targets(soft.numpy(), plan, history=known.numpy()), targets)


def test_what_is_not_finite_before_is_seen_in_its_box_alone():
    images, past = torch.rand(4, 3, 12, 12), torch.full((4, 3, 12, 12), float("nan"))
    plan = RecursiveMix().plan(Key(step=1), images=images)
    seen = torch.from_numpy(plan.mask()[:, 0] == 0)[:, None].expand(-1, 3, -1, -1)
    assert torch.equal(mix_images(images, plan, history=past).isnan(), seen)


def test_a_plan_of_the_past_is_not_mixed_without_it():
    images, labels = batch(1)
    mixer = RecursiveMix()
    plan = mixer.plan(Key(step=1), images=images)
    with pytest.raises(ValueError, match=r"history must be the images that were mixed at the step before .*, got None"):
        mixer(images, labels, key=Key(step=1), num_classes=CLASSES)
    with pytest.raises(ValueError, match=r"history must be the targets of the batch that was mixed before .*, got None"):
        mix_targets(labels, plan, num_classes=CLASSES)
    for wrong in (images[:3], images[:, :, :8], images.double()):
        with pytest.raises(ValueError, match="history must be 6 images at least, like "):
            mix_images(images, plan, history=wrong)
    for wrong in (torch.rand(5, CLASSES), torch.rand(6, CLASSES + 1), labels):
        with pytest.raises(ValueError, match=r"history must be floating targets of \(6, 5\) at least"):
            mix_targets(labels, plan, num_classes=CLASSES, history=wrong)
    with pytest.raises(ValueError, match="plan must have its partners in the batch"):
        sparse_targets(labels, plan)
    with pytest.raises(ValueError, match="plan must have its partners in the batch"):
        mix_label_maps(torch.zeros(6, 16, 16, dtype=torch.long), plan)
    with pytest.raises(ValueError, match="accuracy must be that of a plan whose partners are in the batch"):
        plan.accuracy(torch.rand(6, CLASSES), labels)
    with pytest.raises(ValueError, match="backend must be 'eager' for plans whose partners were mixed before, got 'numba'"):
        mix_images(images, plan, history=images, backend="numba")
    assert MixPlan.from_json(plan.to_json()).recalls


def test_what_makes_no_sense_is_refused():
    for options, message in (({"area": 1.5}, "area must be"), ({"restart": 0}, "restart must be at least 1")):
        with pytest.raises(ValueError, match=message):
            RecursiveMix(**options)
    for mixer in (RecursiveMix, lambda **options: Switch([RecursiveMix(), CutMix()], **options)):
        with pytest.raises(ValueError, match="matching must be None for a mixer whose partners were mixed before"):
            mixer(matching=OptimalMatching(2))


@pytest.mark.parametrize(
    "mixer", [RecursiveMix(), Switch([MixUp(), RecursiveMix()])], ids=lambda mixer: type(mixer).__name__
)
def test_places_that_keep_no_batch_refuse_it(mixer, jpeg_folder: Path):
    message = r"mixer must need no history in .*, got .*RecursiveMix.*mix in the training step by mixer\(images, labels"
    with pytest.raises(ValueError, match=message):
        ImageLoader(jpeg_folder, backend="torchvision", batch_size=8, mixer=mixer)
    with pytest.raises(ValueError, match=message):
        ManifoldMix(torch.nn.Sequential(torch.nn.Linear(2, 2)), [0], mixer)
    dali = pytest.importorskip("pipelines.dali")
    with pytest.raises(ValueError, match=message):
        dali.plan_source(mixer, batch_size=8, height=8, width=8, epoch_size=16)
