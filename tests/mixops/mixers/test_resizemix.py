"""ResizeMix: the whole partner in a box, by torch's own resize, by the authors' code, and wherever a plan goes."""

from __future__ import annotations

from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from support import reference
from torch.nn.functional import interpolate

from mixops import CutMix, FMix, Key, ManifoldMix, MixPlan, MixUp, ResizeMix, Switch, ZetaMixUp, mix_images, mix_label_maps
from mixops.mixers.base import CENTRE_X, CENTRE_Y, SHARED_WORDS, Pairs
from mixops.plan import concatenate

OTHERS = (CutMix(), MixUp(), FMix(), ZetaMixUp(ranks=3))


def box(plan: MixPlan, i: int, k: int = 0) -> tuple[slice, slice]:
    y0, y1, x0, x1 = (int(edge) for edge in plan.params[i, k, 2:6])
    return slice(y0, y1), slice(x0, x1)


def pictures(b: int, c: int, h: int, w: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return (255 * torch.rand(b, c, h, w, generator=torch.Generator().manual_seed(0))).to(dtype)


def injected(tau: float, cy: float, cx: float, side: int) -> MixPlan:
    """The plan of two rows of square images whose words say ``tau`` and the place."""
    u = np.zeros((2, SHARED_WORDS + 3))
    u[:, CENTRE_Y], u[:, CENTRE_X], u[:, SHARED_WORDS] = cy, cx, tau
    with mock.patch.object(ResizeMix, "words", lambda *_: u):
        return ResizeMix((0, 1)).plan_pairs(Pairs(Key(), np.array([1, 0]), np.arange(2), side, side))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_the_box_shows_the_whole_partner_as_torch_resizes_it(dtype, backend):
    images = pictures(5, 3, 31, 40, dtype)
    plan = ResizeMix((0.3, 0.9), interpolations=2).plan(Key(1), images=images)
    mixed = mix_images(images, plan, backend=backend).view(5, 2, 3, 31, 40)
    for i, k in np.ndindex(5, 2):
        rows, columns = box(plan, i, k)
        side = rows.stop - rows.start, columns.stop - columns.start
        expected = images[i].clone()
        small = interpolate(images[plan.partner[i]][None].float(), side, mode="nearest")[0]
        expected[:, rows, columns] = small.to(dtype)
        assert torch.equal(mixed[i, k], expected)
        assert plan.weight[i, k] == pytest.approx(1 - side[0] * side[1] / (31 * 40), abs=1e-6)


@pytest.mark.parametrize("tau", [0.1, 0.25, 0.3333, 0.45, 0.5, 0.71, 0.8])
@pytest.mark.parametrize("side", [32, 224])
def test_sides_and_labels_are_those_of_the_authors_code(tau, side):
    """``interpolate(x, scale_factor=rate)`` in a box of its own size; lam = 1 - its area (JayQine/ResizeMix)."""
    images = pictures(2, 3, side, side)
    small = interpolate(images, scale_factor=tau)
    h, w = small.shape[2:]
    plan = injected(tau, 0.3, 0.9, side)
    rows, columns = box(plan, 0)
    assert (rows.stop - rows.start, columns.stop - columns.start) == (h, w)
    assert plan.weight[0, 0] == pytest.approx(1 - h * w / side**2, abs=1e-7)
    shown = mix_images(images, plan)[0, :, rows, columns]
    theirs, ours = (torch.arange(h) * np.float32(1 / tau)).long(), torch.arange(h) * side // h
    assert torch.equal(small[1], images[1][:, theirs][:, :, theirs]) and torch.equal(shown, images[1][:, ours][:, :, ours])
    assert (theirs - ours).abs().max() <= 1 / tau + 1  # they go on by 1 / rate, here by what leads to the end of the image


def test_boxes_lie_inside_and_anywhere():
    plans = [ResizeMix((0.25, 0.75)).plan(Key(step=i), batch_size=50, height=40, width=64) for i in range(40)]
    params = np.concatenate([plan.params[:, 0] for plan in plans])
    low_y, high_y, low_x, high_x = params[:, 2:6].T
    assert low_y.min() == 0 and high_y.max() == 40 and low_x.min() == 0 and high_x.max() == 64
    tau = np.sqrt(1 - np.concatenate([plan.lam[:, 0] for plan in plans]))
    np.testing.assert_array_equal(high_y - low_y, np.floor(40 * tau + 1e-5))
    np.testing.assert_array_equal(high_x - low_x, np.floor(64 * tau + 1e-5))
    for low, high, side in ((low_y, high_y, 40), (low_x, high_x, 64)):
        place = (low + 0.5) / (side - (high - low) + 1)  # uniform in (0, 1)
        assert abs(place.mean() - 0.5) < 0.03 and abs(place.var() - 1 / 12) < 0.01
    assert abs(np.corrcoef(low_y / (41 - high_y + low_y), low_x / (65 - high_x + low_x))[0, 1]) < 0.1


def test_boxes_of_a_pair_share_their_centre_at_odd_sides():
    plan = ResizeMix((0, 1), interpolations=5).plan(Key(3), batch_size=64, height=37, width=53)
    for low, high in ((2, 3), (4, 5)):
        middle = plan.params[..., low] + plan.params[..., high]
        assert (middle == middle[:, :1]).all()
    assert (np.diff(plan.weight, axis=1) <= 0).all()


@pytest.mark.parametrize("other", OTHERS, ids=lambda mixer: type(mixer).__name__)
def test_a_switch_shows_whole_only_what_resizemix_mixes(other):
    images = pictures(12, 3, 16, 16) / 255
    plan = Switch([ResizeMix((0.4, 0.9)), other]).plan(Key(2), images=images)
    assert plan.inset.any() and not plan.inset.all()
    expected = reference.mix_images(images.numpy(), plan)
    np.testing.assert_allclose(mix_images(images, plan), expected, rtol=0, atol=1e-6)
    alone = ResizeMix((0.4, 0.9)).plan(Key(2), images=images), other.plan(Key(2), images=images)
    for i, inset in enumerate(plan.inset):
        assert torch.equal(mix_images(images, plan)[i], mix_images(images, alone[0 if inset else 1])[i])
    again = MixPlan.from_json(plan.to_json())
    assert torch.equal(mix_images(images, again), mix_images(images, plan))


def test_joined_and_shortened_plans_keep_what_is_inset():
    images = pictures(8, 3, 16, 16)
    plans = [mixer.plan(Key(3), batch_size=4, height=16, width=16) for mixer in (ResizeMix(), CutMix())]
    joined = concatenate(plans)
    parts = torch.cat([mix_images(images[4 * i : 4 * i + 4], plan) for i, plan in enumerate(plans)])
    assert torch.equal(mix_images(images, joined), parts)
    assert torch.equal(mix_images(images[:4], joined.rows(4)), parts[:4])
    with pytest.raises(ValueError, match="inset must be in the range of bool, got 0 to 2"):
        MixPlan.from_json(joined.to_json().replace('"inset": [1', '"inset": [2'))


@pytest.mark.parametrize(
    "mixer", [ResizeMix((0.4, 0.9), interpolations=2), Switch([ResizeMix((0.4, 0.9)), ZetaMixUp(ranks=3)])]
)
def test_label_maps_are_shown_as_their_images(mixer):
    plan = mixer.plan(Key(1), batch_size=6, height=9, width=12)
    maps = torch.randint(0, 5, (6, 9, 12), generator=torch.Generator().manual_seed(0))
    soft = mix_label_maps(maps, plan, num_classes=5)
    onehot = torch.nn.functional.one_hot(maps, 5).movedim(3, 1).float()
    torch.testing.assert_close(soft, mix_images(onehot, plan), rtol=0, atol=1e-6)
    if plan.more is None:
        assert torch.equal(mix_label_maps(maps, plan), soft.argmax(1))


@pytest.mark.parametrize("backend", ["eager", "numba"])
def test_a_bad_partner_is_seen_in_the_box_alone(backend):
    images = pictures(4, 3, 12, 14)
    plan = ResizeMix((0.3, 0.6)).plan(Key(5), images=images)
    images[2] = float("nan")
    mixed = mix_images(images, plan, backend=backend)
    for i in set(range(4)) - {2}:
        seen = torch.zeros(12, 14, dtype=torch.bool)
        seen[box(plan, i)] = bool(plan.partner[i] == 2)
        assert torch.equal(mixed[i].isnan(), seen.expand(3, -1, -1))


def test_gradients_go_to_the_pixels_that_are_shown():
    images = pictures(3, 2, 10, 11).double().requires_grad_()
    plan = ResizeMix((0.3, 0.9), interpolations=2).plan(Key(2), batch_size=3, height=10, width=11)
    assert torch.autograd.gradcheck(lambda x: mix_images(x, plan), images)


def test_a_signal_is_an_image_of_height_one():
    images = pictures(3, 4, 1, 30)
    plan = ResizeMix((1, 1)).plan(Key(), batch_size=3, height=1, width=30)
    y0, y1, x0, x1 = 0, 1, 5, 25
    params = plan.params.copy()
    params[..., 2:6] = y0, y1, x0, x1
    plan = replace(plan, params=params)
    for backend in ("eager", "numba"):
        mixed = mix_images(images[:, :, 0], plan, backend=backend)
        assert torch.equal(mixed, mix_images(images, plan, backend=backend)[:, :, 0])
        np.testing.assert_array_equal(mixed, reference.mix_images(images[:, :, 0].numpy(), plan))


def test_activations_are_mixed_as_images_are():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, padding=1), torch.nn.Flatten(), torch.nn.Linear(256, 5))
    mixed = ManifoldMix(model, [0, 1], ResizeMix((0.3, 0.9)))(
        pictures(4, 3, 8, 8), torch.arange(4), num_classes=5, key=Key(1)
    )
    assert torch.isfinite(mixed[0]).all()


def test_scales_are_checked():
    for scale in ((0.8, 0.1), (-0.1, 0.5), (0.5, 1.5), 0.5, (0.1, 0.2, 0.3)):
        with pytest.raises((ValueError, TypeError), match="scale must be"):
            ResizeMix(scale)
    assert ResizeMix([0.2, 0.4]) == ResizeMix((0.2, 0.4)) and hash(ResizeMix([0.2, 0.4]))


@pytest.mark.parametrize("backend", ["numba", "triton"])
def test_kernels_that_cannot_resize_say_so(backend):
    several = Switch([ResizeMix(), ZetaMixUp()]).plan(Key(), batch_size=2, height=8, width=8)
    with pytest.raises(ValueError, match=f"whole in a box in rows of several sources, got '{backend}'"):
        mix_images(pictures(2, 3, 8, 8), several, backend=backend)


def test_a_pipeline_of_dalis_operators_refuses_it():
    dali = pytest.importorskip("pipelines.dali")
    for mixer in (ResizeMix(), Switch([MixUp(), ResizeMix()])):
        message = (
            r"mixer must leave partners as large as they are in a DALI pipeline, got .*: mix where the images come out, by"
        )
        with pytest.raises(ValueError, match=message):
            dali.plan_source(mixer, batch_size=8, height=8, width=8, epoch_size=16)
