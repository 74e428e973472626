"""The fused CPU kernel fetches moved blocks strip by strip: the bits of the eager blend, and the reference's pixels."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import reference

from mixops import CutMix, HMix, Key, MixPlan, MixUp, PuzzleMix, RecursiveMix, ResizeMix, Switch, mix_images

NORMAL = {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}


def moved(plan: MixPlan, n: int) -> MixPlan:
    """The plan with every block somewhere else."""
    rng = np.random.default_rng(n)
    moves = rng.permuted(np.tile(np.arange(n * n), (*plan.weight.shape, 2, 1)), axis=-1)
    return replace(plan, moves=moves.astype(np.int32))


# blocks of one row and one pixel, strips that end within a block, and rows longer than a strip
SIZES = [(1, 7, 5), (5, 5, 5), (4, 12, 20), (2, 30, 90), (3, 3, 999)]


@pytest.mark.parametrize(("n", "h", "w"), SIZES, ids=str)
@pytest.mark.parametrize("mixer", [MixUp, CutMix, HMix], ids=lambda mixer: mixer.__name__)
@pytest.mark.parametrize("dense", [False, True], ids=["floats", "dense"])
def test_moved_blocks_are_mixed_as_the_eager_blend_does(n, h, w, mixer, dense):
    plan = moved(mixer(interpolations=2).plan(Key(2), batch_size=3, height=h, width=w), n)
    if dense:
        plan = replace(plan, dense=plan.mask().astype(np.float32))
    pixels = torch.randint(0, 256, (3, 3, h, w), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    for images in (pixels, pixels.float() / 255):
        for form in (torch.contiguous_format, torch.channels_last):
            given = images.contiguous(memory_format=form)
            for result in (torch.contiguous_format, torch.channels_last):
                for options in ({}, NORMAL):
                    fused, eager = (
                        mix_images(given, plan, backend=backend, memory_format=result, **options)
                        for backend in ("numba", "eager")
                    )
                    assert torch.equal(fused, eager)
    expected = reference.mix_images(images.numpy(), plan, *NORMAL.values())
    np.testing.assert_allclose(fused.numpy(), expected, rtol=0, atol=1e-5)


def test_puzzle_mix_takes_the_fused_kernel():
    """By default, alone and in a switch, with more and with fewer channels than three."""
    generator = torch.Generator().manual_seed(0)
    saliency = torch.rand(6, 16, 16, generator=generator) ** 12
    puzzle = PuzzleMix(block_num=4, t_eps=0.05, interpolations=2)
    for channels, mixer in ((1, puzzle), (3, puzzle), (4, puzzle), (3, Switch([puzzle, CutMix(interpolations=2)]))):
        images = torch.rand(6, channels, 16, 16, generator=generator)
        plan = mixer.plan(Key(0), images=images, saliency=saliency)
        assert (plan.moves != np.arange(16)).any()
        assert torch.equal(mix_images(images, plan), mix_images(images, plan, backend="numba"))
        np.testing.assert_allclose(mix_images(images, plan).numpy(), reference.mix_images(images.numpy(), plan), atol=1e-6)


@pytest.mark.parametrize("other", [ResizeMix(), RecursiveMix()], ids=["shown whole", "mixed before"])
def test_what_it_cannot_do_beside_moves_is_left_to_the_eager_blend(other):
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    plan = Switch([PuzzleMix(saliency="spectral", block_num=4), other]).plan(Key(0), images=images)
    with pytest.raises(ValueError, match="backend must be 'eager' for plans"):
        mix_images(images, plan, backend="numba", history=images)
    mixed = mix_images(images, plan, history=images.flip(0))
    expected = reference.mix_images(images.numpy(), plan, history=images.flip(0).numpy())
    np.testing.assert_allclose(mixed.numpy(), expected, rtol=0, atol=1e-6)
