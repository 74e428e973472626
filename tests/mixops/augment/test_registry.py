"""Augmentations from text, and arguments that are refused by name."""

from __future__ import annotations

import pytest
from torchvision.transforms import AutoAugmentPolicy, InterpolationMode

from mixops.augment import AUGMENTATIONS, Augmentation, AutoAugment, TrivialAugmentWide, parse_augment, parse_timm


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rand-m9-x3", r"text must have sections of m, n, p, mstd, mmax, inc with a number, got 'x3' in 'rand-m9-x3'"),
        ("rand-m9-inc", "got 'inc' in"),
        ("rand-m9.5", "text must have a number after m, got 'm9.5'"),
        ("rand-m9-tnothing", "text must name one set of t3a, t3aw, tweights, got 'rand-m9-tnothing'"),
        ("rand-n20-tweights", "num_layers must be at most 15 with weights, got 20"),
        ("rand-p1.5", r"prob must be in \[0, 1\], got 1.5"),
        ("augmix-b1", r"text must not ask for blended chains \(b1\)"),
        ("augmix-w0", "width must be at least 1, got 0"),
        ("original-m3", "text must have sections of mstd with a number, got 'm3'"),
        ("original-mstd", "got 'mstd' in 'original-mstd'"),
    ],
)
def test_strings_that_timm_would_misread_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_augment(text)


def test_an_unknown_name_says_what_is_known():
    with pytest.raises(ValueError, match=r"text must begin with one of rand, augmix, v0, .*, got 'mand-m9'"):
        parse_timm("mand-m9")
    with pytest.raises(
        ValueError, match=r"augment must be one of TrivialAugmentWide, .* begin as rand, .*, got 'RandomAugment'"
    ):
        parse_augment("RandomAugment(3)")
    with pytest.raises(
        ValueError, match=r"augment must read like 'RandAugment\(2, 9\)' or 'rand-m9-inc1', got 'RandAugment\(2'"
    ):
        parse_augment("RandAugment(2")
    assert parse_augment("none") is None and parse_augment("[]") == Augmentation([])
    assert parse_augment("['rand-m9-inc1', RandomErasing(.25, value='pixel')]").members[1].p == 0.25


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("TrivialAugmentWide(1)", "num_magnitude_bins must be at least 2, got 1"),
        ("TrivialAugmentWide(interpolation='lanczos')", "interpolation must be one of 'nearest', .*, got 'lanczos'"),
        ("TrivialAugmentWide(fill=256)", r"fill must be in \[0, 255\], got 256"),
        ("TrivialAugmentWide(fill=(1, 2))", r"fill must have one level or three, got \(1, 2\)"),
        ("TrivialAugmentWide(fill='black')", r"fill must be None, 'mean' or levels in \[0, 255\], got 'black'"),
        ("RandAugment(2, 31)", "magnitude must be below num_magnitude_bins = 31, got 31"),
        ("RandAugment(-1)", "num_ops must be at least 0, got -1"),
        ("RandAugment(2.0)", "num_ops must be an integer, got 2.0"),
        ("AutoAugment('cifar')", "policy must be one of 'imagenet', 'cifar10', 'svhn', got 'cifar'"),
        ("AugMix(11)", r"severity must be in \[1, 10\], got 11"),
        ("AugMix(mixture_width=0)", "mixture_width must be at least 1, got 0"),
        ("AugMix(alpha=0)", "alpha must be at least 0.001 and finite, got 0"),
        ("AugMix(all_ops=1)", "all_ops must be True or False, got 1"),
        ("ThreeAugment(-0.1)", r"color_jitter must be in \[0, 99\], got -0.1"),
        ("ThreeAugment(sigma=(2, 1))", r"sigma must be a pair that rises, got \(2, 1\)"),
        ("ColorJitter(hue=0.6)", r"hue must be in \[0, 0.5\], got 0.6"),
        ("ColorJitter(hue=(-0.6, 0))", r"hue must be in \[-0.5, 0.5\], got -0.6"),
        ("ColorJitter(brightness='a')", "brightness must be a pair of numbers, got 'a'"),
        ("ColorJitter(contrast=(1, 2, 3))", r"contrast must be a pair of numbers, got .*\(1, 2, 3\)"),
        ("RandomGrayscale(2)", r"p must be in \[0, 1\], got 2"),
        ("RandomSolarize(300)", r"threshold must be in \[0, 256\], got 300"),
        ("GaussianBlur(sigma=-1)", r"sigma must be in \[0, 100\], got -1"),
        ("GaussianBlur(23)", "takes 1 positional argument but 2 were given"),  # torchvision's kernel_size is not sigma
        ("RandomErasing(True)", "p must be a number, got True"),
        ("RandomErasing(0.5, (0, 2))", r"scale must be in \[0, 1\], got 2"),
        ("RandomErasing(ratio=(0, 1))", r"ratio must be in \[0.001, 1000\], got 0"),
        ("RandomErasing(value='noise')", "value must be a number, three numbers, 'random' or 'pixel', got 'noise'"),
        ("RandomErasing(value=(1, 2))", r"value must be 3 numbers, got 2"),
        ("RandomErasing(count=0)", "count must be at least 1, got 0"),
        ("Cutout(0)", "length must be at least 1, got 0"),
        ("TimmRandAugment(transforms='all')", "transforms must be one of 'plain', .*, got 'all'"),
        ("TimmAutoAugment(policy='v1')", "policy must be one of 'v0', .*, got 'v1'"),
    ],
)
def test_arguments_are_refused_by_name(text, message):
    with pytest.raises(ValueError, match=message):  # a TypeError at construction is one of the text
        parse_augment(text)


def test_bare_arguments_raise_type_errors():
    for name, arguments in (
        ("RandAugment", (2.0,)),
        ("RandomErasing", ("a",)),
        ("ThreeAugment", (0.3, 1)),
        ("Cutout", (1.5,)),
    ):
        with pytest.raises(TypeError, match="must be"):
            AUGMENTATIONS[name](*arguments)


def test_torchvisions_enumerations_are_taken():
    assert TrivialAugmentWide(interpolation=InterpolationMode.BILINEAR) == TrivialAugmentWide(interpolation="bilinear")
    assert AutoAugment(AutoAugmentPolicy.SVHN) == AutoAugment("svhn")
    assert TrivialAugmentWide(fill=[7]) == TrivialAugmentWide(fill=(7, 7, 7))


def test_timms_strings_take_the_crops_filter():
    assert parse_augment("3a", interpolation="bicubic").members[0].interpolation == "bicubic"
    assert parse_augment("['v0', Cutout(4)]", interpolation="bilinear").members[0].interpolation == "bilinear"
    assert parse_timm("rand-m9-inc1").fill == "mean" and parse_timm("rand", fill=128).fill == 128
