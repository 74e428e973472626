"""The CPU executor of augmentation plans: Pillow's bytes, whatever the operation, its argument, the size and the filter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.augmentations import ERASING, MEMBERS, MIXTURES, POLICIES, VARIANTS, images, magnitudes, plan_of

from mixops import Key
from mixops.augment import Augmentation, AugMix, augment_images, parse_augment
from mixops.augment.operations import WARPS, Op
from mixops.kernels.augment import cpu, noise

SIZES = ((7, 5), (5, 7), (1, 1), (1, 9), (9, 1), (2, 2), (3, 40), (32, 32), (97, 61), (160, 192), (224, 224), (352, 352))
FILLS = ((0, 0, 0), (124, 116, 104))


def differing(plan, source) -> list[str]:
    """The rows of a plan whose bytes are not Pillow's, in words."""
    ours, pillow = augment_images(source, plan), augment_images(source, plan, backend="eager")
    wrong = (ours != pillow).any((1, 2, 3))
    return [str(plan.rows(np.array([i]))) for i in np.flatnonzero(wrong)]


@pytest.mark.parametrize(("op", "filter"), VARIANTS, ids=lambda x: x.name)
def test_every_operation_and_magnitude_is_pillows(op, filter):
    args = magnitudes(op)
    for fill in FILLS if op in WARPS else FILLS[:1]:
        assert differing(plan_of(op, args, 61, 97, filter, fill), images(len(args), 61, 97)) == []


@pytest.mark.parametrize(("op", "filter"), VARIANTS, ids=lambda x: x.name)
def test_every_operation_is_pillows_at_every_size(op, filter):
    for height, width in SIZES:
        args = magnitudes(op)[:: 1 if height * width < 2000 else 9 if height * width < 40_000 else 23]
        assert differing(plan_of(op, args, height, width, filter, (9, 99, 199)), images(len(args), height, width)) == []


@settings(max_examples=150)
@given(
    policies=st.lists(st.sampled_from(POLICIES), max_size=3), mixture=st.lists(st.sampled_from(MIXTURES), max_size=1),
    place=st.integers(0, 3), erasing=st.lists(st.sampled_from(ERASING), max_size=2),
    height=st.integers(1, 64), width=st.integers(1, 64), seed=st.integers(0, 2**64 - 1), first=st.integers(0, 1000),
)  # fmt: skip
def test_whole_policies_are_pillows(policies, mixture, place, erasing, height, width, seed, first):
    members = [*policies[:place], *mixture, *policies[place:], *erasing]
    plan = Augmentation(members).draw(Key(seed), np.arange(first, first + 6), (height, width))
    assert differing(plan, images(6, height, width)) == []


@pytest.mark.parametrize("member", MEMBERS, ids=str)
def test_every_policy_is_pillows_on_photographs(member):
    plan = Augmentation([member]).draw(Key(5), np.arange(24), (96, 112))
    assert differing(plan, images(24, 96, 112)) == []


def test_every_colours_hue_is_pillows():
    """All 2**24 colours."""
    levels = np.arange(256, dtype=np.uint8)
    for first in range(0, 256, 16):
        source = np.empty((16, 256, 256, 3), np.uint8)
        source[..., 0], source[..., 1], source[..., 2] = levels[first : first + 16, None, None], levels[:, None], levels
        turns = [((first + i) / 255 - 0.5) for i in range(16)]
        assert differing(plan_of(Op.HUE, turns, 256, 256), source) == []


def test_no_bits_are_black():
    """Pillow 13 refuses them, and timm asks for them."""
    assert not augment_images(images(2, 9, 9), plan_of(Op.POSTERIZE, [0, 0], 9, 9)).any()


@pytest.mark.parametrize(("op", "filter"), VARIANTS, ids=lambda x: x.name)
def test_nothing_beyond_an_image_is_touched(op, filter):
    """Pixels are stored as four bytes; what lies around the image stays, and is not read."""
    for height, width in ((5, 7), (1, 1), (33, 18)):
        for arg in magnitudes(op)[::7]:
            plan, source = plan_of(op, [arg], height, width, filter), images(1, height, width)
            results = []
            for around in (0, 255):
                memory = np.full(source.size + 128, around, np.uint8)
                image = memory[64:-64].reshape(source.shape)
                image[:] = source
                augment_images(image, plan, out=image)
                assert (memory[:64] == around).all() and (memory[-64:] == around).all(), (arg, height, width)
                results.append(image.copy())
            assert (results[0] == results[1]).all(), (arg, height, width)


def test_a_row_does_not_depend_on_the_others_nor_on_threads():
    everything = Augmentation([AugMix(), *POLICIES, *ERASING])
    plan, source = everything.draw(Key(3), np.arange(12), (40, 50)), images(12, 40, 50)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        whole = augment_images(source, plan)
        torch.set_num_threads(3)
        assert (augment_images(source, plan) == whole).all()
    finally:
        torch.set_num_threads(before)
    for rows in (slice(4, 5), np.array([7, 2, 2]), slice(11, None)):
        assert (augment_images(source[rows], plan.rows(rows)) == whole[rows]).all()


def test_a_loader_can_augment_one_row_at_a_time():
    plan = Augmentation(MEMBERS[:2]).draw(Key(4), np.arange(5), (30, 20))
    source = images(5, 30, 20)
    whole, one = augment_images(source, plan), source.copy()
    ready, memory = cpu.program(plan), cpu.memory(plan)
    for i in (3, 0, 4, 1, 2):
        cpu.augment_rows(i, i + 1, one.reshape(5, -1), 0, (30, 20), ready, memory)
    assert (one == whole).all()
    for i in (2, 4, 0):  # an image alone
        alone = source[i : i + 1].copy()
        cpu.augmenter(alone, plan, i)()(0, 1)
        assert (alone == whole[i]).all()


def test_memory_is_kept_for_plans_of_one_kind_only():
    for size, text in (
        ((30, 20), "AugMix"),
        ((20, 30), "AugMix"),
        ((20, 30), "RandAugment"),
        ((40, 50), "augmix-w4"),
        ((30, 20), "AugMix"),
    ):
        plan = parse_augment(text).draw(Key(1), np.arange(3), size)
        assert differing(plan, images(3, *size)) == []


def test_the_input_is_left_alone_and_out_may_be_the_input():
    plan, source = plan_of(Op.ROTATE, [30, 20], 20, 30), images(2, 20, 30)
    kept = source.copy()
    result = augment_images(source, plan)
    assert (source == kept).all() and result is not source
    tensor = torch.from_numpy(source.copy())
    assert augment_images(tensor, plan, out=tensor) is tensor
    assert (tensor.numpy() == result).all()
    assert (augment_images(torch.from_numpy(source), plan).numpy() == result).all()
    planes = np.ascontiguousarray(source.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)  # other strides
    assert (augment_images(planes, plan) == result).all()
    source.flags.writeable = False
    assert (augment_images(source, plan) == result).all()


def test_wrong_images_are_refused():
    plan, source = plan_of(Op.ROTATE, [30, 20], 20, 30), images(2, 20, 30)
    with pytest.raises(
        ValueError, match=r"images must be uint8 \(2, 20, 30, 3\) as the plan says, got uint8 \(1, 20, 30, 3\)"
    ):
        augment_images(source[:1], plan)
    with pytest.raises(ValueError, match=r"images must be uint8 .*, got float32"):
        augment_images(source.astype(np.float32), plan)
    with pytest.raises(TypeError, match="images must be a torch tensor or NumPy array, got list"):
        augment_images([1], plan)
    with pytest.raises(ValueError, match="out must be contiguous and writeable"):
        augment_images(source, plan, out=np.empty((2, 20, 60, 3), np.uint8)[:, :, ::2])
    with pytest.raises(ValueError, match="backend must be one of 'eager', 'numba', 'triton', got 'cuda'"):
        augment_images(source, plan, backend="cuda")
    with pytest.raises(TypeError, match="out must be a torch tensor like images, got ndarray"):
        augment_images(torch.from_numpy(source), plan, out=source)


def test_noise_is_normal_and_no_two_rows_share_it():
    table = noise.values((0.5, 0.4, 0.3), (0.1, 0.05, 0.02))
    fields = [noise.noise(seed, table, 64, 64) for seed in (0, 1, 2**31, 2**32 - 1)]
    for c, (mean, std) in enumerate(zip((0.5, 0.4, 0.3), (0.1, 0.05, 0.02), strict=True)):
        x = np.stack([f[..., c] for f in fields]) / 255
        assert abs(x.mean() - mean) < 5 * std / x.size**0.5 + 1e-4
        assert abs(x.std() - std) < 0.01 * std + 1e-3
        correlations = np.corrcoef([f[..., c].ravel() for f in fields]) - np.eye(4)
        assert np.abs(correlations).max() < 5 / 64  # of 4096 pixels: deviation 1/64
        shifted = np.corrcoef(fields[0][..., c].ravel()[1:], fields[0][..., c].ravel()[:-1])[0, 1]
        assert abs(shifted) < 5 / 64
    sets = [{tuple(pixel) for pixel in f.reshape(-1, 3)} for f in fields]
    together = len(sets[0] & sets[1]) / len(sets[0])
    chance = np.mean([len(sets[0] & s) / len(sets[0]) for s in sets[2:]])
    assert together < 2 * chance + 0.05  # one seed's noise is not another's rearranged
