"""timm's laws: its strings, its tables, and its own functions called with our arguments."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from support.augmentations import images, plan_of
from support.nightly import nightly

from mixops import Key
from mixops.augment import (
    GaussianBlur,
    ThreeAugment,
    TimmAugMix,
    TimmAutoAugment,
    TimmRandAugment,
    augment_images,
    parse_augment,
    parse_timm,
)  # fmt: skip
from mixops.augment.operations import Filter, Op
from mixops.augment.policies.base import Words
from mixops.augment.timm.tables import LAWS, NAMES, arguments
from mixops.key import Stream

timm = pytest.importorskip("timm.data.auto_augment", reason="timm is not installed")
N, SIZE = 200_000, (120, 200)
HPARAMS = {"translate_const": 100, "img_mean": (124, 116, 104)}


def draw(policy, n=N):
    words = Words(Key(12).uniform(Stream.AUGMENT, (n, policy.words)))
    return policy.draw(words, *SIZE, (0.485, 0.456, 0.406))


def theirs(text):
    """timm's transform of a string."""
    if text.startswith("rand"):
        return timm.rand_augment_transform(text, dict(HPARAMS))
    if text.startswith("augmix"):
        return timm.augment_and_mix_transform(text, dict(HPARAMS))
    return timm.auto_augment_transform(text, dict(HPARAMS))


RAND = (
    "rand", "rand-m9-mstd0.5-inc1", "rand-m9-mstd0.5", "rand-m9-n3-p0.7-inc1", "rand-m15-mmax20-mstd101-inc1",
    "rand-m7-n1-t3a", "rand-mstd1-tweights", "rand-m6-n3-t3aw",
)  # fmt: skip


@pytest.mark.parametrize("text", RAND)
def test_rand_augment(text):
    """Names, probability, number and magnitude as timm's own objects hold them, and the law of the choice."""
    ours, its = parse_timm(text), theirs(text)
    first = its.ops[0]
    assert ours == parse_augment(text).members[0]
    assert (ours.num_layers, ours.prob, ours.magnitude) == (its.num_layers, first.prob, first.magnitude)
    assert ours.magnitude_std == first.magnitude_std and ours.magnitude_max == (first.magnitude_max or 10)
    names = [op.name for op in its.ops]
    chosen: list[np.ndarray] = []

    def record(name, *rest):
        chosen.append(name)
        return arguments(name, *rest)

    with mock.patch("mixops.augment.timm.policies.arguments", record):
        drawn = draw(ours)
    expected = np.full(len(names), 1 / len(names)) if its.choice_weights is None else its.choice_weights
    counts = np.bincount(chosen[0][:, 0], minlength=len(NAMES))
    assert counts.sum() == counts[[NAMES.index(name) for name in names]].sum()
    assert stats.chisquare(counts[[NAMES.index(name) for name in names]], expected * N).pvalue > 1e-4
    if its.choice_weights is not None:
        assert (np.diff(np.sort(chosen[0], 1), axis=1) > 0).all()  # none twice
        last = np.array([NAMES.index(n) for n in names])[_successive(expected, ours.num_layers)[:, -1]]
        both = [np.bincount(x, minlength=len(NAMES))[[NAMES.index(n) for n in names]] for x in (chosen[0][:, -1], last)]
        assert stats.chi2_contingency(both).pvalue > 1e-4
    elif ours.num_layers > 1:
        table = stats.contingency.crosstab(chosen[0][:, 0], chosen[0][:, 1]).count
        assert table.shape == (len(names),) * 2 and stats.chi2_contingency(table).pvalue > 1e-4
    signed = np.isin(chosen[0], [NAMES.index(n) for n in NAMES if n.startswith(("Rotate", "Shear", "Translate"))])
    done = (drawn.op != Op.KEEP)[signed]
    if done.size:
        assert abs(done.mean() - ours.prob) < 5 * 0.5 / done.size**0.5


def _successive(weights, count):
    """NumPy's own choice without replacement, as timm asks for it."""
    generator = np.random.RandomState(0)
    return np.array([generator.choice(len(weights), count, replace=False, p=weights) for _ in range(4000)])


@pytest.mark.parametrize("magnitude", [0.0, 3.3, 5.0, 9.0, 10.0, 17.5])
@pytest.mark.parametrize("name", NAMES)
def test_its_own_functions_give_our_arguments(name, magnitude):
    """``LEVEL_TO_ARG``, negated and not; what timm would crash at (more bits than eight, fewer than none) is cut off."""
    assert set(NAMES) == set(timm.LEVEL_TO_ARG) - {"TranslateX", "TranslateY"}
    level = timm.LEVEL_TO_ARG[name]
    for u, sign in ((0.25, -1), (0.75, 1)):
        with mock.patch.object(random, "random", lambda sign=sign: 0.5 - 0.1 * sign):  # timm negates above one half
            expected = level(magnitude, {"translate_pct": 0.3})[0] if level else 0.0
        op, arg = arguments(np.array([NAMES.index(name)]), np.array([magnitude]), np.array([u]), 100, 100, 0.3)
        assert op[0] == LAWS[name][0]
        if name == "Desaturate":
            expected = min(1.0, max(0.0, 1.0 - expected))
        elif name == "GaussianBlurRand":
            expected = 0.1 + (2.0 * expected - 0.1) * u
        elif name.startswith("Translate"):
            expected *= 100
        elif name.startswith("Posterize"):
            expected = min(max(expected, 0), 8)
        assert arg[0] == np.float32(expected) or arg[0] == pytest.approx(expected, rel=1e-6, abs=1e-6), (u, sign)


@pytest.mark.parametrize("std", [0.5, 3.0])
def test_magnitudes_are_normal_and_cut_off(std):
    drawn = draw(TimmRandAugment(magnitude=9, magnitude_std=std, prob=1.0, transforms="increasing"))
    degrees = np.abs(drawn.arg[drawn.op == Op.ROTATE]).astype(float)
    expected = np.clip(np.random.default_rng(0).normal(9, std, 100_000), 0, 10) * 3
    assert abs((degrees == 30).mean() - (expected == 30).mean()) < 0.01
    assert stats.ks_2samp(degrees[degrees < 30], expected[expected < 30]).pvalue > 1e-4
    uniform = draw(TimmRandAugment(magnitude=9, magnitude_std=np.inf, prob=1.0))
    degrees = np.abs(uniform.arg[uniform.op == Op.ROTATE])
    assert stats.kstest(degrees, stats.uniform(0, 27).cdf).pvalue > 1e-4


@pytest.mark.parametrize(
    "text",
    ["v0", "originalr", *nightly(("v0r", "original", "3a", "v0-mstd0.5"))],
)
def test_auto_augment(text):
    """The lines of its tables, and how often each operation of each line is done."""
    ours, its = parse_timm(text), theirs(text)
    lines: Counter = Counter()

    def record(name, magnitude, *rest):
        lines["name"], lines["magnitude"] = name, magnitude
        return arguments(name, magnitude, *rest)

    with mock.patch("mixops.augment.timm.policies.arguments", record):
        drawn = draw(ours)
    assert isinstance(ours, TimmAutoAugment) and ours.magnitude_std == its.policy[0][0].magnitude_std
    expected: Counter = Counter()
    for line in its.policy:
        expected[tuple((op.name, None if ours.magnitude_std else float(op.magnitude)) for op in line)] += 1 / len(its.policy)
    names, magnitudes = lines["name"], lines["magnitude"]
    seen: Counter = Counter()
    found, times = (
        np.unique(np.stack([names, 0 * names if ours.magnitude_std else magnitudes]), axis=1, return_counts=True),
        None,
    )
    found, times = found
    width = names.shape[1]
    rows = np.concatenate([names, 0 * magnitudes if ours.magnitude_std else magnitudes], 1)
    found, times = np.unique(rows, axis=0, return_counts=True)
    for row, count in zip(found, times, strict=True):
        pairs = zip(row[:width], row[width:], strict=True)
        seen[tuple((NAMES[int(n)], None if ours.magnitude_std else float(m)) for n, m in pairs)] = count
    assert set(seen) == set(expected)
    assert stats.chisquare([seen[key] for key in expected], [p * N for p in expected.values()]).pvalue > 1e-4
    for i in range(width):
        probability = np.array([line[i].prob for line in its.policy]).mean()
        always = np.isin(drawn.op[:, i], (Op.KEEP,)).mean()  # nothing else is KEEP
        assert abs((1 - always) - probability) < 5 * 0.5 / N**0.5


@pytest.mark.parametrize("text", ["augmix-m5-w4-d2", "augmix", "augmix-m3-w2-a0.5-mstd1.5"])
def test_augmix(text):
    ours, its = parse_timm(text), theirs(text)
    assert isinstance(ours, TimmAugMix)
    assert (ours.width, ours.depth, ours.alpha) == (its.width, its.depth, its.alpha)
    assert (ours.magnitude, ours.magnitude_std) == (its.ops[0].magnitude, its.ops[0].magnitude_std)
    names: list[np.ndarray] = []

    def record(name, *rest):
        names.append(name)
        return arguments(name, *rest)

    with mock.patch("mixops.augment.timm.policies.arguments", record):
        chains = draw(ours, N // 10).chains
    counts = np.bincount(names[0].ravel(), minlength=len(NAMES))
    assert counts.sum() == counts[[NAMES.index(op.name) for op in its.ops]].sum()
    assert stats.chisquare(counts[[NAMES.index(op.name) for op in its.ops]]).pvalue > 1e-4
    assert chains.blend and np.abs(chains.weight[:, 1:].sum(1) - 1).max() < 1e-6
    assert stats.kstest(chains.weight[:, 0].astype(float), stats.beta(its.alpha, its.alpha).cdf).pvalue > 1e-4


def test_random_interpolation_and_fill_are_timms():
    drawn = draw(parse_timm("rand-m9-inc1"), 50_000)
    share = (drawn.filter == Filter.BICUBIC).mean()
    assert abs(share - 0.5) < 5 * 0.5 / 100_000**0.5 and set(np.unique(drawn.filter)) == {Filter.BILINEAR, Filter.BICUBIC}
    assert drawn.fill.tolist() == [124, 116, 104]
    assert (draw(parse_timm("v0", interpolation="bicubic"), 10).filter == Filter.BICUBIC).all()


@pytest.mark.parametrize("filter", [Filter.BILINEAR, Filter.BICUBIC], ids=lambda f: f.name)
def test_its_operations_give_our_bytes(filter):
    """timm's functions with the arguments of our plans."""
    options = {"resample": Image.Resampling(int(filter)), "fillcolor": (124, 116, 104)}
    height, width = 45, 61
    for name in NAMES:
        kind, magnitude = np.full(12, NAMES.index(name)), np.linspace(0.3, 10, 12)
        u = np.tile([0.2, 0.8], 6)
        op, arg = arguments(kind, magnitude, u, height, width, 0.45)
        source = images(12, height, width)
        ours = augment_images(source, plan_of(Op(op[0]), arg, height, width, filter, options["fillcolor"]))
        function = timm.NAME_TO_OP[name]
        for image, value, result in zip(source, arg.tolist(), ours, strict=True):
            if name.startswith("Posterize") and value == 0:
                continue  # Pillow refuses
            value = int(value) if name.startswith(("Posterize", "SolarizeAdd")) else value
            value = 1 - value if name == "Desaturate" else value
            value = -value / (width if name == "TranslateXRel" else height) if name.startswith("Translate") else value
            function = timm.gaussian_blur if name == "GaussianBlurRand" else timm.NAME_TO_OP[name]
            args = () if timm.LEVEL_TO_ARG[name] is None else (value,)
            expected = np.asarray(function(Image.fromarray(image), *args, **options))
            if name.startswith("Translate"):  # a share times the side is rounded once more than the pixels
                assert np.abs(expected.astype(int) - result).max() <= 1 and (expected != result).mean() < 0.01, value
            elif name == "Desaturate":
                assert np.abs(expected.astype(int) - result).max() <= 1
            else:
                assert (expected == result).all(), (name, value)


def test_augmix_mixes_as_timm_does():
    """timm's own mixture of chains that keep the image, blended with it: two roundings."""
    plan = parse_augment("augmix-w3-d1").draw(Key(1), np.arange(6), (20, 30))
    chains = replace(plan.chains, op=np.full_like(plan.chains.op, Op.INVERT), arg=np.zeros_like(plan.chains.arg))
    source = images(6, 20, 30)
    ours = augment_images(source, replace(plan, chains=chains))
    for image, weight, result in zip(source, chains.weight, ours, strict=True):
        its = timm.AugMixAugment([lambda x: timm.invert(x)], width=3, depth=1)
        expected = its._apply_basic(Image.fromarray(image), weight[1:], float(np.float32(1) - weight[0]))
        assert (np.asarray(expected) == result).all()


def test_three_augment_is_the_authors():
    """Each a third, then jitter; the blur's deviation uniform in [0.1, 2]."""
    drawn = draw(ThreeAugment(0.3))
    kinds = [Op.GRAYSCALE, Op.SOLARIZE, Op.BLUR]
    assert stats.chisquare([(drawn.op[:, 0] == kind).sum() for kind in kinds]).pvalue > 1e-4
    assert (drawn.arg[drawn.op == Op.SOLARIZE] == 128).all()
    assert stats.kstest(drawn.arg[drawn.op == Op.BLUR], stats.uniform(0.1, 1.9).cdf).pvalue > 1e-4
    jitter = {Op.BRIGHTNESS, Op.CONTRAST, Op.COLOR}
    assert set(np.unique(drawn.op[:, 1:])) == jitter
    assert stats.kstest(drawn.arg[:, 1], stats.uniform(0.7, 0.6).cdf).pvalue > 1e-4
    blur = draw(GaussianBlur(sigma=(1.0, 3.0), p=0.25))
    done = blur.op[:, 0] == Op.BLUR
    assert abs(done.mean() - 0.25) < 5 * 0.5 / N**0.5
    assert stats.kstest(blur.arg[done], stats.uniform(1, 2).cdf).pvalue > 1e-4
