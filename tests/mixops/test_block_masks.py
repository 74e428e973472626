"""Masks that are said of blocks are those that are said of every pixel: whatever is done with a plan."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import reference

from mixops import Key, MixPlan, MixUp, PuzzleMix, Switch, mix_images
from mixops.apply.label_maps import mix_label_maps
from mixops.masks import spread
from mixops.plan import concatenate
from mixops.plan_sources import PlanSources

B, K, H, W = 5, 2, 12, 20
GRIDS = [(1, 1), (3, 2), (4, 20), (12, 5), (12, 20)]


def blocks(y: int, x: int, dtype: type = np.float32) -> MixPlan:
    rng = np.random.default_rng(y * x)
    masks = rng.integers(0, 3, (B, K, y, x)) / 2
    masks = (masks > 0.5).astype(np.uint8) if dtype == np.uint8 else masks.astype(np.float32)
    plan = MixUp(interpolations=K).plan(Key(1), batch_size=B, height=H, width=W)
    return replace(plan, dense=masks, weight=masks.mean((2, 3)).astype(np.float64))


def by_pixel(plan: MixPlan) -> MixPlan:
    """The same with a value for each pixel, written by the reference."""
    masks = [[reference.mask(plan, i, k) for k in range(K)] for i in range(B)]
    return replace(plan, dense=np.array(masks).astype(plan.dense.dtype))


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
@pytest.mark.parametrize("grid", GRIDS, ids=str)
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last], ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("backend", ["numba", "eager"])
def test_images_are_those_of_the_mask_by_pixel(grid, dtype, layout, backend):
    plan = blocks(*grid, dtype)
    whole = by_pixel(plan)
    np.testing.assert_array_equal(plan.mask(), whole.mask())
    images = torch.randint(0, 256, (B, 3, H, W), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    images = images.contiguous(memory_format=layout)
    for options in ({}, {"dtype": torch.float32, "mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6)}):
        one, other = (mix_images(images, p, backend=backend, **options) for p in (plan, whole))
        assert torch.equal(one, other)
    np.testing.assert_allclose(
        one.numpy(), reference.mix_images(images.numpy(), plan, (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)), atol=1e-4
    )


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_a_device_makes_pixels_of_them(dtype):
    pytest.importorskip("triton")
    from mixops.kernels.blend.launch import upload

    plan = blocks(3, 2, dtype)
    there, expected = (upload(p, None, None, torch.device("cpu")) for p in (plan, by_pixel(plan)))
    assert torch.equal(there.dense, expected.dense) and there.constants == expected.constants


def test_rows_of_several_sources():
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), (B, K, 3, 2)).astype(np.float32).transpose(0, 1, 4, 2, 3)
    rows = np.stack([np.arange(B), *rng.integers(0, B, (2, B))], 1)
    sources = PlanSources(rows, shares.mean((3, 4)).astype(np.float64), shares)
    plan = MixPlan.of_sources(sources, height=H, width=W)
    whole = np.array([[[reference.source_mask(plan, i, k, j) for j in range(3)] for k in range(K)] for i in range(B)])
    np.testing.assert_array_equal(plan.masks(), whole)
    other = replace(plan, more=replace(sources, masks=whole.astype(np.float32)))
    images = torch.rand(B, 3, H, W, generator=torch.Generator().manual_seed(0))
    for backend in ("numba", "eager"):
        assert torch.equal(*(mix_images(images, p, backend=backend) for p in (plan, other)))
    np.testing.assert_allclose(mix_images(images, plan).numpy(), reference.mix_images(images.numpy(), plan), atol=1e-5)
    pytest.importorskip("triton")
    from mixops.kernels.blend.launch_several import upload

    assert torch.equal(*(upload(p, None, None, torch.device("cpu")).masks for p in (plan, other)))


def test_label_maps():
    plan = blocks(3, 2)
    maps = torch.rand(B, 4, H, W, generator=torch.Generator().manual_seed(0))
    assert torch.equal(mix_label_maps(maps, plan), mix_label_maps(maps, by_pixel(plan)))


def test_plans_are_put_together_taken_apart_and_written():
    plan, finer = blocks(3, 2), blocks(12, 20)
    assert concatenate([plan, plan]).dense.shape == (2 * B, K, 3, 2), "blocks stay blocks"
    both = concatenate([plan, finer])
    np.testing.assert_array_equal(both.mask(), np.concatenate([plan.mask(), finer.mask()]))
    back = MixPlan.from_json(plan.to_json())
    np.testing.assert_array_equal(back.mask(), plan.mask())
    assert back.dense.shape == plan.dense.shape


def test_a_switch_may_choose_them():
    images = torch.rand(16, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    mixer = Switch([PuzzleMix(block_num=4, saliency="spectral", transport=False), MixUp()])
    plan = mixer.plan(Key(0), images=images)
    puzzle = mixer.mixers[0].plan(Key(0), images=images)
    chosen = (plan.mask() == puzzle.mask()).all((1, 2, 3))
    assert puzzle.dense.shape == (16, 1, 4, 4) and 0 < chosen.sum() < 16
    np.testing.assert_allclose(mix_images(images, plan).numpy(), reference.mix_images(images.numpy(), plan), atol=1e-6)


@pytest.mark.parametrize("grid", [(5, 2), (3, 3), (24, 20), (0, 2)], ids=str)
def test_blocks_that_do_not_fill_the_image_are_refused(grid):
    with pytest.raises(ValueError, match=rf"dense must have shape \({B}, {K}, {H}, {W}\)"):
        replace(blocks(1, 1), dense=np.ones((B, K, *grid), np.float32))


def test_pixels_are_given_back_as_they_are():
    for masks in (np.ones((2, 3, 4), np.float32), torch.ones(2, 3, 4)):
        assert spread(masks, 3, 4) is masks
