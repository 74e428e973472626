"""The CUDA kernel of ResizeMix and RecursiveMix as it is compiled, executed without a device: what the cases of all kernels
(``support.kernel_cases``) do not meet.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from unittest import mock

import numpy as np
import pytest
import torch
from support import reference

from mixops import CutMix, Key, MixPlan, PuzzleMix, RecursiveMix, ResizeMix, Switch, ZetaMixUp, mix_images

pytest.importorskip("triton")
from support.emulated import Emulated

from benchmarks.instructions import compiled
from mixops.kernels.blend import launch
from mixops.kernels.blend.cuda import BOX
from mixops.kernels.blend.cuda_insets import INSET, PAST
from mixops.kernels.blend.launch import _KERNELS, Tile, upload
from mixops.masks import X0, X1

FORMATS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(autouse=True)
def _emulated() -> Iterator[None]:
    emulated = {name: Emulated(kernel, 90) for name, kernel in _KERNELS.items()}
    with mock.patch.dict(_KERNELS, emulated), mock.patch.object(launch, "_INTERPRETED", Tile(64, 2, 4)):
        yield


def pictures(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(seed))


def test_a_longer_batch_of_the_past_in_another_layout() -> None:
    images, past = pictures(4, 3, 9, 10), pictures(7, 3, 9, 10, seed=1)
    plan = RecursiveMix(interpolations=2).plan(Key(step=1), images=images)
    expected = reference.mix_images(images.numpy(), plan, history=past.numpy())
    for mine, theirs in ((0, 1), (1, 0), (1, 1)):
        there, before = images.contiguous(memory_format=FORMATS[mine]), past.contiguous(memory_format=FORMATS[theirs])
        mixed = mix_images(there, plan, history=before, backend="triton")
        np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-6)
        pixels = mix_images(
            there.permute(0, 2, 3, 1), plan, layout="NHWC", history=before.permute(0, 2, 3, 1), backend="triton"
        )
        assert torch.equal(pixels.permute(0, 3, 1, 2), mixed)


@pytest.mark.parametrize("layout", FORMATS, ids=["NCHW", "NHWC"])
def test_the_result_may_take_the_place_of_the_history(layout: torch.memory_format) -> None:
    images, past = (pictures(4, 3, 9, 10, seed=seed).contiguous(memory_format=layout) for seed in (0, 1))
    plan = RecursiveMix(area=1.0).plan(Key(step=1), images=images)
    expected = mix_images(images, plan, history=past.clone(), backend="eager")
    assert mix_images(images, plan, history=past, out=past, backend="triton") is past
    torch.testing.assert_close(past, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("layout", FORMATS, ids=["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_moved_blocks_are_mixed_in_copies(layout: torch.memory_format, dtype: torch.dtype) -> None:
    saliency = pictures(5, 16, 24) ** 12
    puzzle, box = PuzzleMix(block_num=4, t_eps=0.05, interpolations=2), CutMix(interpolations=2)
    images = pictures(5, 3, 16, 24) if dtype == torch.float32 else (pictures(5, 3, 16, 24) * 255).byte()
    images = images.contiguous(memory_format=layout)
    for mixer in (puzzle, puzzle.replace(prob=0.5), Switch([puzzle, box])):
        plan = mixer.plan(Key(0), images=images, saliency=saliency)
        assert (plan.moves != np.arange(16)).any()
        for options in ({}, {"mean": (0.1, 0.2, 0.3), "std": (0.4, 0.5, 0.6), "dtype": torch.float32}):
            mixed = mix_images(images, plan, backend="triton", **options)
            assert mixed.is_contiguous(memory_format=layout)
            expected = reference.mix_images(images.numpy(), plan, options.get("mean"), options.get("std"))
            np.testing.assert_allclose(mixed.numpy(), expected, rtol=0, atol=1e-5 if mixed.is_floating_point() else 0.501)


def test_what_is_not_finite_is_seen_where_it_is_shown_alone() -> None:
    images, past = pictures(4, 3, 12, 12), torch.full((4, 3, 12, 12), float("nan"))
    for plan, history in (
        (RecursiveMix().plan(Key(step=1), images=images), past),
        (ResizeMix(interpolations=2).plan(Key(3), images=images), None),
    ):
        x = images.clone()
        if history is None:
            x[0] = float("inf")
        mixed = mix_images(x, plan, history=history, backend="triton")
        assert torch.equal(mixed.isfinite(), mix_images(x, plan, history=history, backend="eager").isfinite())
        assert 0 < mixed.isfinite().float().mean() < 1


def test_sides_whose_product_exceeds_32_bits() -> None:
    """A signal of 70,000 values: (x - x0) * width is up to 4.9e9."""
    width = 70_000
    images = torch.arange(2 * width, dtype=torch.float32).view(2, 1, width)
    plan = ResizeMix(scale=(0.9, 0.95)).plan(Key(), batch_size=2, height=1, width=width)
    params = plan.params.copy()
    params[..., [2, 3]] = [0, 1]  # a box of floor(.9) rows would be none
    plan = replace(plan, params=params)
    x0, x1 = (params[:, 0, edge].astype(np.int64) for edge in (X0, X1))
    assert ((x1 - x0 - 1) * width > 2**31).all()
    found = mix_images(images, plan, backend="triton").numpy()[:, 0]
    for i in range(2):
        x = np.arange(x0[i], x1[i])
        np.testing.assert_array_equal(found[i, x], (1 - i) * width + (x - x0[i]) * width // (x1[i] - x0[i]))
        np.testing.assert_array_equal(found[i, : x0[i]], i * width + np.arange(x0[i]))


def test_a_partner_says_what_it_is_beside_its_row() -> None:
    plan = Switch([RecursiveMix(), ResizeMix(), CutMix()]).plan(Key(2, step=1), batch_size=12, height=6, width=7)
    kinds = {(bool(inset), bool(past)) for inset, past in zip(plan.inset, plan.past, strict=True)}
    assert kinds == {(True, True), (True, False), (False, False)}
    order, numbers = upload(plan, None, None, torch.device("cpu")).pairs.view(2, 12).numpy()
    assert sorted(order) == list(range(12)) and (numbers >= 0).all()
    np.testing.assert_array_equal(numbers & (INSET - 1), plan.partner[order])
    np.testing.assert_array_equal(numbers & INSET != 0, plan.inset[order])
    np.testing.assert_array_equal(numbers & PAST != 0, plan.past[order])
    plain = upload(CutMix().plan(Key(2), batch_size=12, height=6, width=7), None, None, torch.device("cpu")).pairs
    assert plain.max() < 12


def test_plans_without_them_keep_their_kernels() -> None:
    images = pictures(4, 3, 8, 8)
    with mock.patch.dict(_KERNELS, {"insets": None}):
        mix_images(images, CutMix().plan(Key(), images=images), backend="triton")
    for plan in (ResizeMix().plan(Key(), images=images), RecursiveMix().plan(Key(step=1), images=images)):
        with mock.patch.dict(_KERNELS, dict.fromkeys(("chunks", "planes", "strides"))):
            mix_images(images, plan, history=images, backend="triton")


def test_what_it_cannot_do_is_plain_torchs() -> None:
    """Films, gradients of either batch, rows of several sources: "triton" refuses, and what chooses itself goes on."""
    film, images, past = pictures(2, 3, 4, 8, 8), pictures(2, 3, 8, 8), pictures(2, 3, 8, 8).requires_grad_()
    resized, recursive = ResizeMix().plan(Key(), images=images), RecursiveMix().plan(Key(step=1), images=images)
    several = Switch([ResizeMix(), ZetaMixUp()]).plan(Key(), images=images)
    cases: list[tuple[torch.Tensor, MixPlan, torch.Tensor | None, str]] = [
        (film, resized, None, "images of 5 axes under masks that vary"),
        (images, recursive, past, "images that need a gradient"),
        (images, several, None, "plans that show images whole in a box in rows of several sources"),
    ]
    for x, plan, history, obstacle in cases:
        with pytest.raises(ValueError, match=f"backend must be 'eager' for {obstacle}, got 'triton'"):
            mix_images(x, plan, history=history, backend="triton")
        known = None if history is None else history.detach().numpy()
        expected = reference.mix_images(x.numpy(), plan, history=known)
        np.testing.assert_allclose(mix_images(x, plan, history=history).detach(), expected, rtol=0, atol=1e-6)
    mix_images(images, recursive, history=past).sum().backward()
    assert past.grad is not None and past.grad.abs().sum() > 0


@pytest.mark.parametrize("capability", [80, 90])
def test_it_compiles(capability: int) -> None:
    types = ("*u8", "*fp16", "*fp32", "*i32", "*fp32", "*fp32", "*fp32", "i32", "*u8", *("i32",) * 7)
    options = {"K": 5, "C": 3, "MASK": BOX, "AFFINE": True, "BYTES": False, "WIDE": False}
    tile = {"BLOCK": 128, "ROWS": 2, "ACROSS": False}
    ptx = compiled(_KERNELS["insets"].kernel, capability, types, 4, **options, **tile)["ptx"]
    assert "st.global" in ptx and "div.s64" not in ptx
