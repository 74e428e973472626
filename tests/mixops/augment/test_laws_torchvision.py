"""torchvision's laws: 200,000 draws against its own tables, and its own functions on PIL images against our bytes."""

from __future__ import annotations

import math
from collections import Counter
from itertools import product

import numpy as np
import pytest
from PIL import Image
from scipy import stats
from support.augmentations import images, plan_of
from torchvision import transforms as T
from torchvision.transforms import InterpolationMode
from torchvision.transforms import autoaugment as theirs
from torchvision.transforms import functional as F

from mixops import Key
from mixops.augment import (
    AugMix,
    AutoAugment,
    ColorJitter,
    RandAugment,
    RandomGrayscale,
    RandomSolarize,
    TrivialAugmentWide,
    augment_images,
)
from mixops.augment.operations import FACTORS, Filter, Op
from mixops.augment.policies.base import Words
from mixops.key import Stream

N, SIZE = 200_000, (120, 200)
NAMES = {
    "Identity": Op.KEEP, "ShearX": Op.SHEAR_X, "ShearY": Op.SHEAR_Y, "TranslateX": Op.TRANSLATE_X,
    "TranslateY": Op.TRANSLATE_Y, "Rotate": Op.ROTATE, "Brightness": Op.BRIGHTNESS, "Color": Op.COLOR,
    "Contrast": Op.CONTRAST, "Sharpness": Op.SHARPNESS, "Posterize": Op.POSTERIZE, "Solarize": Op.SOLARIZE,
    "AutoContrast": Op.AUTOCONTRAST, "Equalize": Op.EQUALIZE, "Invert": Op.INVERT,
}  # fmt: skip
Law = dict[tuple[int, float], float]  # (operation, argument) -> probability


def draw(policy, n=N):
    words = Words(Key(11).uniform(Stream.AUGMENT, (n, policy.words)))
    return policy.draw(words, *SIZE, (0.5, 0.5, 0.5))


def argument(op: Op, magnitude: float) -> float:
    """What torchvision's ``_apply_op`` makes of a magnitude, to six digits (``torch.linspace`` differs between machines)."""
    magnitude = float(f"{magnitude:.6g}")
    if op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
        return float(int(magnitude))
    return float(f"{1 + magnitude if op in FACTORS else magnitude:.6g}")


def law(space, which=None) -> Law:
    """The law of one operation chosen from torchvision's augmentation space, at any or one of its magnitudes."""
    found: Law = Counter()
    for name, (magnitudes, signed) in space.items():
        op = NAMES[name]
        levels = magnitudes.flatten().tolist()
        levels = levels if which is None or len(levels) == 1 else [levels[i] for i in which]
        for level, sign in product(levels, (1, -1) if signed else (1,)):
            found[int(op), argument(op, sign * level) + 0.0] += 1 / len(space) / len(levels) / (2 if signed else 1)
    return found


def keys(op, arg) -> tuple[list[tuple[int, float]], np.ndarray]:
    """The different (operation, argument) that were drawn, and which of them each draw is."""
    found, which = np.unique(op + 1j * arg.astype(np.float64), return_inverse=True)
    args = [argument(Op(int(v.real)), v.imag - 1 if int(v.real) in FACTORS else v.imag) + 0.0 for v in found]
    return [(int(v.real), arg) for v, arg in zip(found, args, strict=True)], which.reshape(op.shape)


def check_law(op, arg, expected: Law) -> None:
    """Chi-square of what was drawn; what cannot be drawn was not."""
    drawn: Counter = Counter()
    found, which = keys(op, arg)
    for key, count in zip(found, np.bincount(which.ravel()), strict=True):
        drawn[key] += count
    assert set(drawn) <= set(expected), set(drawn) - set(expected)
    assert sum(expected.values()) == pytest.approx(1)
    counts = np.array([(drawn[key], p * op.size) for key, p in expected.items()])
    assert stats.chisquare(*counts.T).pvalue > 1e-4


def test_trivial_augment_wide():
    drawn = draw(TrivialAugmentWide())
    check_law(drawn.op[:, 0], drawn.arg[:, 0], law(theirs.TrivialAugmentWide()._augmentation_space(31)))


@pytest.mark.parametrize("magnitude", [0, 9, 30])
def test_rand_augment(magnitude):
    drawn = draw(RandAugment(2, magnitude), N // 2)
    expected = law(theirs.RandAugment()._augmentation_space(31, SIZE), [magnitude])
    for i in range(2):
        check_law(drawn.op[:, i], drawn.arg[:, i], expected)
    table = stats.contingency.crosstab(drawn.op[:, 0], drawn.op[:, 1]).count
    assert table.shape == (14, 14) and stats.chi2_contingency(table).pvalue > 1e-4  # one does not depend on the other


@pytest.mark.parametrize("name", ["imagenet", "cifar10", "svhn"])
def test_auto_augment(name):
    """The law of both operations together."""
    policy = theirs.AutoAugment(theirs.AutoAugmentPolicy(name))
    space = policy._augmentation_space(10, SIZE)
    expected: dict[tuple[int, float, int, float], float] = Counter()
    for pair in policy.policies:
        choices = []
        for operation, probability, level in pair:
            magnitudes, signed = space[operation]
            op, value = NAMES[operation], 0.0 if level is None else float(magnitudes[level])
            signs = (1, -1) if signed else (1,)
            choices.append([(0, 0.0, 1 - probability)] + [
                (int(op), argument(op, sign * value) + 0.0, probability / len(signs)) for sign in signs
            ])  # fmt: skip
        for (op, arg, p), (other, value, q) in product(*choices):
            expected[op, arg, other, value] += p * q / len(policy.policies)
    drawn = draw(AutoAugment(name))
    found, which = keys(drawn.op, drawn.arg)
    pairs, times = np.unique(which, axis=0, return_counts=True)
    counts: Counter = Counter()
    for (first, second), count in zip(pairs, times, strict=True):
        counts[(*found[first], *found[second])] += count
    assert set(counts) <= {key for key, p in expected.items() if p > 0}
    table = np.array([(counts[key], p * N) for key, p in expected.items() if p > 0])
    assert (table[:, 1] >= 5).all() and stats.chisquare(*table.T).pvalue > 1e-4


@pytest.mark.parametrize("options", [{}, {"severity": 10, "mixture_width": 2, "chain_depth": 4, "all_ops": False}])
def test_augmix(options):
    drawn = draw(AugMix(**options), N // 10)
    chains, theirs_ = drawn.chains, theirs.AugMix(**options)
    here = chains.op != Op.KEEP
    expected = law(theirs_._augmentation_space(10, SIZE), range(theirs_.severity))
    assert (drawn.op == Op.AUGMIX).all() and drawn.op.shape[1] == 1
    check_law(chains.op[here], chains.arg[here], expected)
    depth = here.sum(2)
    if theirs_.chain_depth > 0:
        assert (depth == theirs_.chain_depth).all()
    else:
        assert (np.diff(here.astype(int), axis=2) <= 0).all()  # from the left
        assert stats.chisquare(np.bincount(depth.ravel(), minlength=4)[1:]).pvalue > 1e-4
    assert np.abs(chains.weight.sum(1) - 1).max() < 1e-6
    own, rest = chains.weight[:, 0].astype(float), chains.weight[:, 1:] / (1 - chains.weight[:, :1].astype(float))
    assert stats.kstest(own, stats.uniform.cdf).pvalue > 1e-4  # alpha = 1
    width = theirs_.mixture_width
    for i in range(width):
        assert stats.kstest(rest[:, i], stats.beta(1, width - 1).cdf).pvalue > 1e-4
        assert abs(np.corrcoef(own, rest[:, i])[0, 1]) < 5 / len(own) ** 0.5


@pytest.mark.parametrize("alpha", [0.3, 4.0])
def test_augmix_shares_have_the_law_of_alpha(alpha):
    weight = draw(AugMix(alpha=alpha), 20_000).chains.weight.astype(float)
    assert stats.kstest(weight[:, 0], stats.beta(alpha, alpha).cdf).pvalue > 1e-4
    share = weight[:, 1:] / np.maximum(1 - weight[:, :1], 1e-30)
    kept = weight[:, 0] < 0.999  # of the rest float32 leaves few digits
    assert stats.kstest(share[kept, 0], stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-4


def test_color_jitter():
    ours, theirs_ = ColorJitter(0.4, (0.5, 3.0), 2.0, 0.1), T.ColorJitter(0.4, (0.5, 3.0), 2.0, 0.1)
    drawn = draw(ours, 50_000)
    orders = Counter(map(tuple, drawn.op.tolist()))
    assert len(orders) == math.factorial(4) and stats.chisquare(list(orders.values())).pvalue > 1e-4
    for op, name in ((Op.BRIGHTNESS, "brightness"), (Op.CONTRAST, "contrast"), (Op.COLOR, "saturation"), (Op.HUE, "hue")):
        low, high = getattr(theirs_, name)
        assert stats.kstest(drawn.arg[drawn.op == op], stats.uniform(low, high - low).cdf).pvalue > 1e-4
    assert draw(ColorJitter(0.4, 0.0, 0.2), 10).op.shape == (10, 2)  # what would change nothing is not drawn
    some = draw(ColorJitter(0.4, p=0.3), 50_000).op[:, 0] != Op.KEEP
    assert abs(some.mean() - 0.3) < 5 * 0.5 / 50_000**0.5


def test_single_operations():
    for policy, op, p in ((RandomGrayscale(), Op.GRAYSCALE, 0.1), (RandomSolarize(99.5), Op.SOLARIZE, 0.5)):
        drawn = draw(policy)
        done = drawn.op[:, 0] == op
        assert abs(done.mean() - p) < 5 * 0.5 / N**0.5 and (drawn.op[~done] == Op.KEEP).all()
        assert (drawn.arg[done] == (99.5 if op == Op.SOLARIZE else 0)).all()


@pytest.mark.parametrize("interpolation", [InterpolationMode.NEAREST, InterpolationMode.BILINEAR, InterpolationMode.BICUBIC])
def test_its_functions_give_our_bytes(interpolation):
    """Every operation, magnitude and sign of the three spaces, by torchvision's own code on PIL images."""
    height, width = 45, 61
    filter, fill = Filter[interpolation.name], (10, 20, 30)
    spaces = (
        theirs.TrivialAugmentWide()._augmentation_space(31),
        theirs.RandAugment()._augmentation_space(31, (height, width)),
        theirs.AutoAugment()._augmentation_space(10, (height, width)),
        theirs.AugMix()._augmentation_space(10, (height, width)),
    )  # fmt: skip
    for name in NAMES:
        op = NAMES[name]
        found = {float(m) for space in spaces if name in space for m in space[name][0].flatten()}
        signs = (1, -1) if any(space[name][1] for space in spaces if name in space) else (1,)
        values = [sign * m for sign in signs for m in sorted(found) if name != "Posterize" or m >= 1]
        source = images(len(values), height, width)
        args = [float(int(v)) if name.startswith("Translate") else 1 + v if op in FACTORS else v for v in values]
        ours = augment_images(source, plan_of(op, args, height, width, filter, fill))
        for image, value, result in zip(source, values, ours, strict=True):
            expected = theirs._apply_op(Image.fromarray(image), name, value, interpolation, list(fill))
            assert (np.asarray(expected) == result).all(), (name, value)


def test_its_single_transforms_give_our_bytes():
    source = images(8, 45, 61)
    factors = np.linspace(-0.5, 0.5, 8)
    ours = augment_images(source, plan_of(Op.HUE, factors, 45, 61))
    for image, factor, result in zip(source, factors, ours, strict=True):
        assert (np.asarray(F.adjust_hue(Image.fromarray(image), float(np.float32(factor)))) == result).all()
    grey = augment_images(source, plan_of(Op.GRAYSCALE, [0] * 8, 45, 61))
    solar = augment_images(source, plan_of(Op.SOLARIZE, [128] * 8, 45, 61))
    for image, first, second in zip(source, grey, solar, strict=True):
        assert (np.asarray(T.Grayscale(3)(Image.fromarray(image))) == first).all()
        assert (np.asarray(T.RandomSolarize(128, p=1)(Image.fromarray(image))) == second).all()
