"""StyleMix and StyleCutMix: draws, shares and labels, and the authors' formulas on a tiny network in float64."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from support.hostile_arguments import Call, no_surprise
from torch import nn
from torch.nn.functional import interpolate

from mixops import Key, MixPlan, ZetaMixUp, mix_targets, sparse_targets
from mixops.masks import DV, FLOATS, X0, X1, Y0, Y1
from mixops.offline import (
    StyleCutMix,
    StyleCutPlan,
    StyleMix,
    StylePlan,
    adaptive_instance_norm,
    class_gammas,
    class_style_distances,
    mix_styles,
    mix_styles_in_boxes,
    style_vectors,
)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def networks() -> tuple[nn.Module, nn.Module]:
    """A tiny random encoder to maps of half the size, and a decoder back."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        encoder = nn.Sequential(nn.Conv2d(3, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(5, 6, 1))
        decoder = nn.Sequential(nn.Conv2d(6, 5, 3, padding=1), nn.Tanh(), nn.Upsample(scale_factor=2), nn.Conv2d(5, 3, 1))
    return encoder.double().eval(), decoder.double().eval()


def pictures(b: int = 5, h: int = 6, w: int = 10) -> torch.Tensor:
    return torch.rand(b, 3, h, w, dtype=torch.float64, generator=generator())


def adain(content: np.ndarray, style: np.ndarray) -> np.ndarray:
    """The authors' function, a channel of an image at a time."""
    out = np.empty_like(content)
    for c in range(len(content)):
        std, style_std = (np.sqrt(x[c].var(ddof=1) + 1e-5) for x in (content, style))
        out[c] = (content[c] - content[c].mean()) / std * style_std + style[c].mean()
    return out


# ----------------------------------------------------------------------------------------------------------- statistics


def test_adain_is_the_loop_over_channels():
    content, style = torch.randn(3, 4, 5, 2, generator=generator()).double(), torch.randn(3, 4, 3, 3).double() * 3 + 1
    found = adaptive_instance_norm(content, style)
    for i in range(3):
        np.testing.assert_allclose(found[i], adain(content[i].numpy(), style[i].numpy()), rtol=0, atol=1e-12)
    np.testing.assert_allclose(found.mean((2, 3)), style.mean((2, 3)), rtol=0, atol=1e-12)
    np.testing.assert_allclose(adaptive_instance_norm(content, content), content, rtol=0, atol=1e-12)


def test_distances_are_those_of_the_classes_mean_styles():
    maps = [torch.randn(7, 2, 4, 4, generator=generator()), torch.randn(7, 3, 2, 2, generator=generator())]
    vectors, labels = style_vectors(maps), torch.tensor([0, 2, 0, 2, 2, 0, 0])
    assert vectors.shape == (7, 10)
    expected = [maps[0].mean((2, 3)), (maps[0].var((2, 3)) + 1e-5).sqrt(), maps[1].mean((2, 3))]
    np.testing.assert_allclose(vectors[:, :7], torch.cat(expected, 1), rtol=0, atol=1e-6)
    found = class_style_distances(vectors, labels, 4)
    mean = [vectors[labels == c].double().mean(0).numpy() for c in (0, 2)]
    assert found[0, 2] == found[2, 0] == pytest.approx(np.mean((mean[0] - mean[1]) ** 2), abs=1e-12)
    assert found[0, 0] == found[2, 2] == 0 and np.isnan(found[[1, 3]]).all() and np.isnan(found[:, [1, 3]]).all()


def test_gammas_are_those_of_the_authors():
    """Their matrix has 2 added on its diagonal."""
    distances = np.array([[0.0, 1.5], [1.5, 0.0]])
    found = class_gammas(torch.tensor([0, 0, 1]), np.array([1, 2, 0]), distances, delta=3.0)
    np.testing.assert_allclose(found, np.tanh(np.array([2, 1.5, 1.5]) / 3), rtol=0, atol=1e-15)


# ---------------------------------------------------------------------------------------------------------------- draws


@pytest.mark.parametrize(("draw", "k"), [("sample", 1), ("batch", 1), ("sample", 3)])
def test_shares_are_in_their_limits_and_of_the_law(draw, k):
    """Of all outputs together, too: what is sorted is the draws of a pair, content and style of each as they were drawn."""
    mixer = StyleMix(alpha=0.5, draw=draw, interpolations=k)
    plans = [mixer.plan(Key(step=i), batch_size=16) for i in range(400 if draw == "batch" else 60)]
    for plan in plans:
        assert (plan.shares >= -1e-12).all() and (plan.partner != np.arange(16)).all() and plan.mixed.all()
        np.testing.assert_allclose(plan.shares.sum((2, 3)), 1, rtol=0, atol=1e-12)
        for values in (plan.content, plan.style, plan.both):
            assert values.shape == (16, k) and len(np.unique(values)) == (k if draw == "batch" else 16 * k)
    content, style, both = (np.concatenate([getattr(p, n).ravel() for p in plans]) for n in ("content", "style", "both"))
    for share in (content, style):
        assert share.mean() == pytest.approx(0.5, abs=0.06) and share.var() == pytest.approx(0.125, abs=0.015)
    least, most = np.maximum(0, content + style - 1), np.minimum(content, style)
    wide = most - least > 1e-3
    place = (both - least)[wide] / (most - least)[wide]
    assert place.mean() == pytest.approx(0.5, abs=0.06) and place.var() == pytest.approx(1 / 12, abs=0.015)
    assert np.corrcoef(content, style)[0, 1] == pytest.approx(0, abs=0.15)


def test_a_plan_is_a_function_of_its_key():
    size = {"batch_size": 6, "height": 7, "width": 9}
    one, same, other = (StyleCutMix().plan(key, **size) for key in (Key(1), Key(1), Key(2)))
    for name in ("style", "gamma"):
        np.testing.assert_array_equal(getattr(one, name), getattr(same, name))
        assert (getattr(one, name) != getattr(other, name)).all()
    np.testing.assert_array_equal(one.content.params, same.content.params)
    assert (StyleMix().plan(Key(1), batch_size=6).content != StyleMix().plan(Key(2), batch_size=6).content).all()


def test_prob_leaves_rows_and_their_labels_alone():
    encoder, decoder = networks()
    images, labels = pictures(40), torch.arange(40)
    plan = StyleMix(prob=0.3).plan(Key(), batch_size=40)
    cut = StyleCutMix(prob=0.3).plan(Key(), batch_size=40, height=6, width=10)
    for found, mixed in ((plan, mix_styles(images, plan, encoder, decoder)),
                         (cut, mix_styles_in_boxes(images, cut, encoder, decoder))):  # fmt: skip
        assert 0.1 < found.mixed.mean() < 0.5
        np.testing.assert_array_equal((mixed == images).flatten(1).all(1), ~found.mixed)
        targets = mix_targets(labels, found.labels, num_classes=40)
        np.testing.assert_array_equal(targets[~found.mixed], np.eye(40)[~found.mixed])


# ----------------------------------------------------------------------------------------------- several outputs of a pair


def test_outputs_of_a_pair_are_sorted_by_the_label_and_share_a_centre():
    plan = StyleMix(interpolations=4).plan(Key(1), batch_size=20)
    cut = StyleCutMix(interpolations=4, prob=0.7).plan(Key(1), batch_size=20, height=40, width=30)
    for weight in (plan.labels.weight, cut.labels.weight):
        assert weight.shape == (20, 4) and (np.diff(weight, axis=1) <= 0).all()
    assert (np.diff(cut.content.weight, axis=1) > 0).any()  # more style of one's own may weigh more than a larger box
    area = np.sort(cut.content.mask()[cut.mixed].reshape(-1, 4, 40 * 30), axis=1)
    np.testing.assert_array_equal(np.unique(area), [0, 1])  # boxes are nested: the smallest is where all of them are
    smallest = cut.content.weight[cut.mixed].min(1)
    np.testing.assert_allclose(area[:, 0].mean(1), smallest, rtol=0, atol=1e-12)


@pytest.mark.parametrize("k", [1, 3])
def test_every_output_is_that_of_a_plan_of_its_own(k):
    encoder, decoder = networks()
    images, labels = pictures(), torch.arange(5)
    plan = StyleMix(interpolations=k, prob=0.7).plan(Key(2), batch_size=5)
    cut = StyleCutMix(interpolations=k, prob=0.7).plan(Key(2), batch_size=5, height=6, width=10)
    assert 0 < plan.mixed.sum() < 5 and 0 < cut.mixed.sum() < 5
    mixed, boxes = mix_styles(images, plan, encoder, decoder), mix_styles_in_boxes(images, cut, encoder, decoder)
    assert mixed.shape == boxes.shape == (5 * k, 3, 6, 10)
    targets, box_targets = (mix_targets(labels, p.labels, num_classes=5) for p in (plan, cut))
    for j in range(k):
        one = replace(plan, **{name: getattr(plan, name)[:, j : j + 1] for name in ("content", "style", "both")})
        np.testing.assert_allclose(mixed[j::k], mix_styles(images, one, encoder, decoder), rtol=0, atol=1e-12)
        np.testing.assert_array_equal(targets[j::k], mix_targets(labels, one.labels, num_classes=5))
        parts = {name: getattr(cut.content, name)[:, j : j + 1] for name in ("weight", "lam", "params")}
        one_box = replace(cut, content=replace(cut.content, **parts), style=cut.style[:, j : j + 1])
        found = mix_styles_in_boxes(images, one_box, encoder, decoder)
        np.testing.assert_allclose(boxes[j::k], found, rtol=0, atol=1e-12)
        np.testing.assert_array_equal(box_targets[j::k], mix_targets(labels, one_box.labels, num_classes=5))


def test_a_pair_goes_through_the_network_of_boxes_once():
    encoder, decoder = networks()
    seen: list[int] = []
    cut = StyleCutMix(interpolations=5).plan(Key(), batch_size=4, height=6, width=10)
    encoder.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    decoder.register_forward_hook(lambda module, args, out: seen.append(len(args[0])))
    assert mix_styles_in_boxes(pictures(4), cut, encoder, decoder).shape[0] == 20 and seen == [4, 8]


# ------------------------------------------------------------------------------------------------------- StyleMix itself


@pytest.mark.parametrize(("c", "s", "place"), [(0.3, 0.6, 0.25), (0.9, 0.8, 0.0), (0.2, 0.1, 1.0), (1.0, 1.0, 0.5)])
def test_style_mix_is_the_authors_formula(c, s, place):
    encoder, decoder = networks()
    images, partner = pictures(), np.array([2, 0, 4, 1, 3])
    t = max(0, c + s - 1) + place * (min(c, s) - max(0, c + s - 1))
    plan = StylePlan(partner, *(np.full((5, 1), x) for x in (c, s, t)), np.ones(5, bool))
    with torch.no_grad():
        features = encoder(images).numpy()
        theirs = np.stack([
            t * features[i] + (1 - c - s + t) * features[j] + (c - t) * adain(features[i], features[j])
            + (s - t) * adain(features[j], features[i]) for i, j in enumerate(partner)
        ])  # fmt: skip
        expected = decoder(torch.from_numpy(theirs))
    np.testing.assert_allclose(mix_styles(images, plan, encoder, decoder), expected, rtol=0, atol=1e-12)
    # their loss is r CE(c) + (1 - r) CE(s)
    targets = mix_targets(np.arange(5), plan.labels, num_classes=5)
    for i, j in enumerate(partner):
        own, other = np.eye(5)[i], np.eye(5)[j]
        both = 0.7 * (c * own + (1 - c) * other) + 0.3 * (s * own + (1 - s) * other)
        np.testing.assert_allclose(targets[i], both, rtol=0, atol=1e-6)


def test_all_of_content_and_style_is_the_decoded_image():
    encoder, decoder = networks()
    images, ones = pictures(), np.ones((5, 1))
    plan = StylePlan(np.roll(np.arange(5), 1), ones, ones, ones, np.ones(5, bool))
    with torch.no_grad():
        np.testing.assert_allclose(mix_styles(images, plan, encoder, decoder), decoder(encoder(images)), rtol=0, atol=1e-12)
    assert (plan.labels.weight == 1).all()


@pytest.mark.parametrize("r", [0.0, 0.7, 1.0])
def test_the_label_says_what_the_features_hold(r):
    """The encoder gives content and style by themselves: a pattern that sums to 0, times a spread, plus a mean."""
    rng = np.random.default_rng(0)
    plan = StyleMix(r=r).plan(Key(5), batch_size=8)
    pattern = rng.standard_normal((8, 1, 4, 4))
    pattern -= pattern.mean((2, 3), keepdims=True)
    pattern /= np.sqrt(pattern.var((2, 3), ddof=1, keepdims=True))
    level = rng.uniform(1, 3, (8, 1, 1, 1))
    features = torch.from_numpy(pattern + level)  # all of one spread, so that content adds up in patterns, style in levels
    mixed = mix_styles(features, plan, lambda x: x, lambda f: f).numpy()
    c, s = (x[:, :, None, None] for x in (plan.content, plan.style))
    np.testing.assert_allclose(mixed, c * pattern + (1 - c) * pattern[plan.partner] + s * level
                               + (1 - s) * level[plan.partner], rtol=0, atol=1e-9)  # fmt: skip
    np.testing.assert_allclose(plan.labels.weight, r * plan.content + (1 - r) * plan.style, rtol=0, atol=1e-15)


# ---------------------------------------------------------------------------------------------------- StyleCutMix itself


def box_plan(rows: slice, columns: slice, h: int, w: int, s: float, gamma: float, partner: np.ndarray) -> StyleCutPlan:
    params = np.zeros((len(partner), 1, FLOATS), np.float32)
    params[..., DV] = 1
    params[..., Y0 : Y1 + 1], params[..., X0 : X1 + 1] = (rows.start, rows.stop), (columns.start, columns.stop)
    share = np.full((len(partner), 1), (rows.stop - rows.start) * (columns.stop - columns.start) / (h * w))
    content = MixPlan(partner, share, share.copy(), params, h, w)
    count = len(partner)
    return StyleCutPlan(content, np.full((count, 1), s), np.full(count, gamma), np.ones(count, bool))


@pytest.mark.parametrize(("s", "gamma"), [(0.3, 0.6), (0.0, 0.0), (1.0, 0.2), (0.8, 1.0)])
@pytest.mark.parametrize(("rows", "columns"), [((0, 6), (0, 10)), ((1, 4), (2, 9)), ((3, 3), (0, 10))])
def test_style_cut_mix_is_the_authors_formula(s, gamma, rows, columns):
    encoder, decoder = networks()
    images, partner = pictures(), np.array([2, 0, 4, 1, 3])
    rows, columns = slice(*rows), slice(*columns)
    plan = box_plan(rows, columns, 6, 10, s, gamma, partner)
    x, mask = images.numpy(), np.zeros((6, 10))
    mask[rows, columns] = 1
    both = np.maximum(0, mask + s - 1)
    with torch.no_grad():
        features = encoder(images).numpy()
        found = mix_styles_in_boxes(images, plan, encoder, decoder).numpy()
        for i, j in enumerate(partner):
            restyled = [decoder(torch.from_numpy(adain(features[a], features[b]))[None])[0] for a, b in ((i, j), (j, i))]
            g12, g21 = (gamma * x[a] + (1 - gamma) * y.numpy() for a, y in zip((i, j), restyled, strict=True))
            theirs = both * x[i] + (1 - mask - s + both) * x[j] + (mask - both) * g12 + (s - both) * g21
            np.testing.assert_allclose(found[i], theirs, rtol=0, atol=1e-12)
    lam = mask.mean()
    weight = 0.7 * lam + 0.3 * (gamma * lam + (1 - gamma) * s)
    np.testing.assert_allclose(plan.labels.weight, weight, rtol=0, atol=1e-15)
    index, shares = sparse_targets(torch.arange(5), plan.labels)
    assert index[:, 1].tolist() == partner.tolist() and torch.allclose(shares[:, 0], torch.tensor(weight).float())


@pytest.mark.parametrize(("h", "w"), [(7, 9), (1, 5), (8, 3)])
def test_the_label_is_the_share_of_content_and_style_in_the_pixels(h, w):
    """What a pixel takes of the four images it is made of is read off by switching one of them on at a time."""
    b = 6
    plan = StyleCutMix(r=0.6).plan(Key(3), batch_size=b, height=h, width=w)

    def taken(rows: list[int], decoded: tuple[float, float]) -> np.ndarray:
        images = torch.zeros(b, 1, h, w, dtype=torch.float64)
        images[rows] = 1
        marks = torch.tensor(decoded).double().repeat_interleave(b)[:, None, None, None].expand(-1, 1, h, w)
        return mix_styles_in_boxes(images, plan, lambda x: torch.zeros(b, 1, 2), lambda f: marks).numpy()[:, 0]

    for i in range(b):
        own, restyled, in_own_style = taken([i], (0, 0))[i], taken([], (1, 0))[i], taken([], (0, 1))[i]
        partner = taken([int(plan.content.partner[i])], (0, 0))[i]
        np.testing.assert_allclose(own + partner + restyled + in_own_style, 1, rtol=0, atol=1e-12)
        content, style = (own + restyled).mean(), (own + in_own_style).mean()
        np.testing.assert_allclose(own + restyled, plan.content.mask()[i, 0], rtol=0, atol=1e-12)
        assert plan.style_share[i, 0] == pytest.approx(style, abs=1e-12)
        assert plan.labels.weight[i, 0] == pytest.approx(0.6 * content + 0.4 * style, abs=1e-12)


def test_a_box_has_the_law_of_the_authors():
    """Sides of int(side * sqrt(lambda)) // 2 on either side of a uniform centre, clipped; lambda is uniform."""
    plan = StyleCutMix().plan(Key(), batch_size=400, height=8, width=12).content
    lam = plan.lam[:, 0]
    assert lam.mean() == pytest.approx(0.5, abs=0.05) and lam.var() == pytest.approx(1 / 12, abs=0.015)
    params = plan.params[:, 0].astype(np.float64)
    low, high = params[:, [Y0, X0]], params[:, [Y1, X1]]
    whole = np.floor(np.sqrt(lam)[:, None] * [8, 12]) // 2 * 2
    inside = (low > 0) & (high < [8, 12])
    assert inside.all(1).sum() > 50
    np.testing.assert_array_equal((high - low)[inside], whole[inside])
    assert (high - low <= whole).all()
    np.testing.assert_allclose(plan.weight[:, 0], (high - low).prod(1) / 96, rtol=0, atol=1e-12)


def test_what_the_authors_enlarging_does_to_pixels_and_labels():
    """32 pixels to 224 and back are the same pixels; of a box at 224 they show up to .053 more or less than the label."""
    images = torch.rand(2, 3, 32, 32, dtype=torch.float64, generator=generator())
    back = interpolate(interpolate(images, (224, 224), mode="bilinear"), (32, 32), mode="bilinear")
    np.testing.assert_allclose(back, images, rtol=0, atol=1e-12)
    seen = np.concatenate([[0], np.cumsum(np.arange(224) % 7 == 3)])  # how many of the 32 lie before a pixel of the 224
    centre, worst = np.arange(224), 0.0
    for cut in range(225):
        low, high = np.maximum(centre - cut // 2, 0), np.minimum(centre + cut // 2, 224)
        spans = np.unique(np.stack([(high - low) / 224, (seen[high] - seen[low]) / 32], 1), axis=0)
        label, shown = spans.T
        worst = max(worst, np.abs(np.outer(label, label) - np.outer(shown, shown)).max())
    assert worst == pytest.approx(0.0529, abs=1e-4)


# ------------------------------------------------------------------------------------------------- what does not matter


def test_networks_and_images_stay_as_they_are():
    encoder, decoder = networks()
    encoder.train()
    images = pictures().requires_grad_()
    before = images.detach().clone()
    plan, cut = StyleMix().plan(Key(), batch_size=5), StyleCutMix().plan(Key(), batch_size=5, height=6, width=10)
    for mixed in (mix_styles(images, plan, encoder, decoder), mix_styles_in_boxes(images, cut, encoder, decoder)):
        assert not mixed.requires_grad and mixed.dtype == images.dtype and mixed.shape == images.shape
    assert torch.equal(images, before) and encoder.training and all(p.grad is None for p in encoder.parameters())


def test_a_batch_of_one_is_mixed_with_itself():
    encoder, decoder = networks()
    plan = StyleMix().plan(Key(), batch_size=1)
    with torch.no_grad():
        expected = decoder(encoder(pictures(1)))
    np.testing.assert_allclose(mix_styles(pictures(1), plan, encoder, decoder), expected, rtol=0, atol=1e-9)
    assert mix_targets(np.array([1]), plan.labels, num_classes=2).tolist() == [[0, 1]]


def test_what_does_not_fit_is_refused():
    encoder, decoder = networks()
    plan, cut = StyleMix().plan(Key(), batch_size=5), StyleCutMix().plan(Key(), batch_size=5, height=6, width=10)
    with pytest.raises(ValueError, match=r"decoder must return images of the size it is given, \(5, 3, 6, 10\), got"):
        mix_styles(pictures(), plan, encoder, nn.Identity())
    with pytest.raises(ValueError, match=r"what encoder returns must be a floating map \(b, c, ...\) of at least two"):
        mix_styles(pictures(), plan, lambda x: x[:, :, :1, :1], decoder)
    with pytest.raises(ValueError, match="encoder must return a map for each of 5 images, got 4"):
        mix_styles(pictures(), plan, lambda x: x[:4], decoder)
    with pytest.raises(ValueError, match="images must be 6x10 as the plan's"):
        mix_styles_in_boxes(pictures(5, 6, 8), cut, encoder, decoder)
    with pytest.raises(ValueError, match="images must be 5 floating images"):
        mix_styles(pictures(4), plan, encoder, decoder)
    with pytest.raises(ValueError, match="both must be in"):
        replace(plan, both=np.ones((5, 1)))
    for value in (np.ones(5), np.ones((5, 0))):
        with pytest.raises(ValueError, match=r"content must have shape \(5, k\) with a value for each output"):
            replace(plan, content=value)
    with pytest.raises(ValueError, match=r"style must have the shape \(5, 1\), as partner has 5 rows, got \(5, 2\)"):
        replace(plan, style=np.ones((5, 2)))
    with pytest.raises(ValueError, match="mixed must be True for all rows whose content or style is below 1"):
        replace(plan, mixed=np.zeros(5, bool))
    with pytest.raises(ValueError, match=r"style must have the shape \(5, 2\), as partner has 5 rows, got \(5, 1\)"):
        replace(cut, content=MixPlan.identity(5, interpolations=2))
    with pytest.raises(ValueError, match="content must be a plan of two images without moves"):
        replace(cut, content=ZetaMixUp().plan(Key(), batch_size=5, height=6, width=10))
    with pytest.raises(ValueError, match="distances must be at least 0 for all pairs of labels"):
        class_gammas(torch.tensor([0, 1]), np.array([1, 0]), np.full((2, 2), np.nan))


def calls() -> dict[str, Call]:
    images, features = pictures(3, 4, 6).float(), torch.rand(3, 2, 4, generator=generator())
    plan, cut = StyleMix().plan(Key(), batch_size=3), StyleCutMix().plan(Key(), batch_size=3, height=4, width=6)
    arguments = {
        StyleMix: {}, StyleCutMix: {}, StyleMix().plan: {"key": Key(), "batch_size": 3},
        StyleCutMix().plan: {"key": Key(), "batch_size": 3, "height": 4, "width": 6},
        StylePlan: {name: getattr(plan, name) for name in plan.__dataclass_fields__},
        StyleCutPlan: {name: getattr(cut, name) for name in cut.__dataclass_fields__},
        mix_styles: {"images": images, "plan": plan, "encoder": nn.Identity(), "decoder": nn.Identity()},
        mix_styles_in_boxes: {"images": images, "plan": cut, "encoder": nn.Identity(), "decoder": lambda f: f},
        adaptive_instance_norm: {"content": features, "style": features}, style_vectors: {"maps": [features]},
        class_style_distances: {"vectors": features[:, 0], "labels": torch.arange(3), "num_classes": 3},
        class_gammas: {"labels": torch.arange(3), "partner": plan.partner, "distances": np.ones((3, 3))},
    }  # fmt: skip
    networks = frozenset({"encoder", "decoder"})
    return {f.__qualname__: Call(f, partial(dict, values), networks) for f, values in arguments.items()}


CALLS = calls()


@pytest.mark.parametrize("name", CALLS)
def test_what_is_wrong_is_refused_by_its_name(name):
    no_surprise(CALLS[name], name)
