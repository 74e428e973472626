"""An image that is not finite reaches the rows that show it and no others, whatever mixes: 0 times NaN is NaN."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from support import reference

from mixops import CutMix, FMix, GMix, HMix, Key, MixPlan, MixUp, Switch, mix_images, mix_label_maps, mix_targets
from mixops.kernels.blend import cpu

B, H, W, BAD = 8, 16, 24, 3
MIXERS = (
    MixUp(prob=0.0),
    MixUp(0.01),  # lambdas of exactly 0 and 1
    CutMix(prob=0.5),
    CutMix(interpolations=3),
    HMix(prob=0.0),
    HMix(),
    FMix(),
    Switch([MixUp(), FMix(), CutMix()], prob=0.7),
)
FORMATS = (torch.contiguous_format, torch.channels_last)


def spoilt(value: float, dtype: torch.dtype = torch.float32, shape: tuple[int, ...] = (3, H, W)) -> torch.Tensor:
    """Images of which one is bad in every second pixel."""
    images = torch.rand(B, *shape, generator=torch.Generator().manual_seed(0)).to(dtype)
    images[BAD, ..., ::2] = value
    return images


def shown(plan: MixPlan) -> torch.Tensor:
    """Where the bad image is seen: (b, k, h, w)."""
    mask = torch.from_numpy(plan.mask().astype(np.float32))  # as kernels have it
    own = torch.arange(B) == BAD
    other = torch.from_numpy(plan.partner == BAD)
    seen = own[:, None, None, None] & (mask > 0) | other[:, None, None, None] & (mask < 1)
    return seen & (torch.arange(mask.shape[-1]) % 2 == 0)


def check(images: torch.Tensor, mixed: torch.Tensor, plan: MixPlan) -> None:
    """Bad where it is seen, and what it would be without the bad image everywhere else."""
    mixed, seen = mixed.unflatten(0, (B, -1)).float(), shown(plan)[:, :, None].expand(-1, -1, images.shape[1], -1, -1)
    assert torch.equal(~mixed.isfinite(), seen), f"{int((~mixed.isfinite() & ~seen).sum())} values of a bad image"
    clean = torch.where(images.isfinite(), images, 0).double().numpy()
    expected = torch.from_numpy(reference.mix_images(clean, plan)).unflatten(0, (B, -1))
    tolerance = 3e-6 if images.dtype == torch.float32 else 8e-3
    assert torch.allclose(mixed[~seen].double(), expected[~seen], rtol=0, atol=tolerance)


@pytest.mark.parametrize("mixer", MIXERS, ids=str)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("backend", ["eager", "numba", "numba past the caches"])
def test_only_the_rows_that_show_a_bad_image_have_it(mixer, value, backend, monkeypatch):
    if backend == "numba past the caches":
        monkeypatch.setattr(cpu, "_STREAMED", 0)
    plan = mixer.plan(Key(1), batch_size=B, height=H, width=W)
    for layout in FORMATS:
        images = spoilt(value).contiguous(memory_format=layout)
        for result in FORMATS:
            mixed = mix_images(images, plan, backend=backend.split()[0], memory_format=result)
            check(images, mixed, plan)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_floats_too(dtype):
    plan = Switch([CutMix(), HMix()], prob=0.7).plan(Key(1), batch_size=B, height=H, width=W)
    check(spoilt(float("nan"), dtype), mix_images(spoilt(float("nan"), dtype), plan), plan)


def test_normalised_and_cast_too():
    plan = HMix(prob=0.5).plan(Key(2), batch_size=B, height=H, width=W)
    images = spoilt(float("inf"))
    for backend in ("eager", "numba"):
        options = {"mean": [0.4] * 3, "std": [0.3] * 3, "dtype": torch.float16, "backend": backend}
        mixed = mix_images(images, plan, **options)
        assert torch.equal(~mixed.unflatten(0, (B, -1))[:, :, 0].isfinite(), shown(plan))


def test_moved_blocks_and_video_and_gradients_too():
    plan = CutMix().plan(Key(1), batch_size=B, height=H, width=W)
    seen = shown(plan)[:, 0]
    video = mix_images(spoilt(float("nan"), shape=(3, 2, H, W)), plan)
    assert torch.equal(video[:, 1, 1].isnan(), seen)
    still = np.broadcast_to(np.arange(16, dtype=np.int32), (B, 1, 2, 16)).copy()
    assert torch.equal(mix_images(spoilt(float("nan")), dataclasses.replace(plan, moves=still))[:, 0].isnan(), seen)
    images = spoilt(float("nan")).requires_grad_()
    mix_images(images, plan)[:, :, ~seen.any(0)].sum().backward()
    assert images.grad.isfinite().all()


def test_soft_labels_and_soft_maps_too():
    plan = Switch([MixUp(0.01), MixUp()], prob=0.5).plan(Key(2), batch_size=B, height=1, width=1)
    labels = torch.rand(B, 5)
    labels[BAD] = float("nan")
    weight, partner = plan.weight[:, 0].astype(np.float32), plan.partner
    seen = (np.arange(B) == BAD) & (weight > 0) | (partner == BAD) & (weight < 1)
    assert 0 < seen.sum() < ((np.arange(B) == BAD) | (partner == BAD)).sum()
    np.testing.assert_array_equal(mix_targets(labels, plan).isnan().any(1).numpy(), seen)
    maps = labels[:, :, None, None].expand(-1, -1, 2, 2)
    np.testing.assert_array_equal(mix_label_maps(maps, plan).isnan().flatten(1).any(1).numpy(), seen)


@pytest.mark.nightly
def test_the_cuda_kernels_too():
    """By Triton's interpreter, which has to be chosen before a kernel is defined."""
    pytest.importorskip("triton")
    root = Path(__file__).parents[3]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": f"{root}{os.pathsep}{root / 'tests'}"}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["checked", "20"]


def check_triton() -> int:
    """Every layout, so every kernel; one or several outputs; floats of 16 and 32 bits."""
    count = 0
    for mixer in (MixUp(prob=0.5), CutMix(), HMix(interpolations=2), FMix(), Switch([FMix(), GMix()], prob=0.0)):
        plan = mixer.plan(Key(1), batch_size=B, height=5, width=12)
        for i, (layout, result) in enumerate(product(FORMATS, FORMATS)):
            dtype, value = ((torch.float32, "nan"), (torch.float16, "nan"), (torch.float32, "inf"))[i % 3]
            images = spoilt(float(value), dtype, (3, 5, 12)).contiguous(memory_format=layout)
            check(images, mix_images(images, plan, backend="triton", memory_format=result), plan)
            count += 1
    return count


if __name__ == "__main__":
    print("checked", check_triton())
