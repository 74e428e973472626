"""The CPU kernel: every layout, dtype and mixer against float64 loops, and the eager blend's very bits."""

from __future__ import annotations

import dataclasses
from itertools import product

import numpy as np
import pytest
import torch
from support import reference
from support.kernel_cases import FORMATS, MIXERS
from support.nightly import nightly

from mixops import FMix, Key, MixPlan, MixUp, ResizeMix, Switch, mix_images
from mixops.kernels.blend import cpu as kernel

SHAPES = ((3, 3, 17, 23), (2, 1, 9, 1), (4, 4, 8, 8), (1, 2, 1, 31), (2, 3, 5, 16), (2, 3, 3, 176))  # b, c, h, w
INSETS = (ResizeMix((0, 1), interpolations=3), ResizeMix((0.4, 1)), Switch([ResizeMix(), FMix(), MixUp()]))  # not on CUDA
# half a unit in the last place of results below 4, and what float32 arithmetic adds
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.uint8: 0.5001}


def cases():
    """(images, plan, options, poisoned out) over sizes, mixers, layouts and dtypes."""
    generator = torch.Generator().manual_seed(0)
    for mixer, (b, c, h, w) in product((*MIXERS, *INSETS), SHAPES):
        levels = torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=generator)
        plan = mixer.plan(Key(1), batch_size=b, height=h, width=w)
        for source, layout, dtype, result in product((torch.uint8, torch.float32), FORMATS, TOLERANCE, FORMATS):
            if dtype == torch.uint8 and source != torch.uint8:
                continue
            images = (levels if source == torch.uint8 else levels / 255).contiguous(memory_format=layout)
            options = {} if dtype == torch.uint8 else {"mean": [0.45] * c, "std": [0.25] * c, "dtype": dtype}
            out = torch.full((b * plan.interpolations, c, h, w), 77, dtype=dtype).contiguous(memory_format=result)
            yield images, plan, options, out


@pytest.fixture(params=["cached", "streamed"])
def streamed(request, monkeypatch):
    """Small results too go past the caches; their rows begin at any address."""
    if request.param == "streamed":
        monkeypatch.setattr(kernel, "_STREAMED", 0)


@pytest.fixture(params=[1, 3])
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


def test_the_kernel_is_the_reference():
    expected, last = np.empty(0), None
    for images, plan, options, out in cases():
        now = (id(plan), images.dtype, bool(options))
        if now != last:
            expected, last = reference.mix_images(images.numpy(), plan, options.get("mean"), options.get("std")), now
        assert mix_images(images, plan, backend="numba", out=out, **options) is out
        error = np.abs(out.double().numpy() - expected).max()
        assert error <= TOLERANCE[out.dtype], (plan, images.dtype, out.dtype, images.stride(), out.stride(), error)


@pytest.mark.parametrize(
    ("streamed", "threads"),
    [
        ("cached", 1),
        ("streamed", 3),
        *nightly([("cached", 3), ("streamed", 1)]),
    ],
    indirect=True,
)
def test_the_kernel_gives_the_bits_of_the_eager_blend(streamed, threads):
    count = 0
    for images, plan, options, out in cases():
        if plan.params[..., 8].any():
            continue  # a Gaussian is float64 there and float32 here
        mix_images(images, plan, backend="numba", out=out, **options)
        assert torch.equal(out, mix_images(images, plan, backend="eager", **options))
        count += 1
    assert count > 400


@pytest.mark.parametrize("dtype", [np.float64, np.float16, np.bool_])
def test_masks_of_any_dtype_are_used(dtype):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    plan = FMix().plan(Key(1), batch_size=4, height=16, width=16)
    other = dataclasses.replace(plan, dense=plan.dense.astype(dtype))
    assert torch.equal(mix_images(images, other, backend="numba"), mix_images(images, plan, backend="numba"))


def test_uint8_is_rounded_half_to_even_by_both():
    levels = torch.arange(256, dtype=torch.uint8)
    images = torch.stack([levels, levels.flip(0), levels.roll(1), levels.roll(2)]).view(4, 1, 16, 16)
    for weight in (0.5, 0.25, 0.75, 0.125):  # what they make of bytes is exact in float32
        params = np.zeros((4, 1, 9), np.float32)
        params[..., 0] = weight
        plan = MixPlan(np.array([1, 2, 3, 0]), params[..., 0].astype(float), params[..., 0].astype(float), params, 16, 16)
        exact = np.stack([weight * images[i] + (1 - weight) * images[j] for i, j in enumerate(plan.partner)])
        assert ((exact % 1) == 0.5).any()
        for backend in ("numba", "eager"):
            np.testing.assert_array_equal(mix_images(images, plan, backend=backend).numpy(), np.rint(exact))


def floats():
    """All that a conversion has to get right: each exponent, ties, subnormals, overflow, infinities, not a number."""
    generator = np.random.default_rng(0)
    bits = generator.integers(0, 2**32, 200_000, dtype=np.uint64).astype(np.uint32)
    ties = (np.arange(0, 2**32, 2**13, dtype=np.uint64) + generator.integers(-1, 2, 2**19)).astype(np.uint32)
    return torch.from_numpy(np.concatenate([bits, ties]).view(np.float32))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("converts", [True, False])
def test_casts_are_those_of_torch(dtype, converts, monkeypatch):
    monkeypatch.setattr(kernel, "CONVERTS", converts and kernel.CONVERTS)
    values = floats().view(1, 1, 1, -1)
    cast = mix_images(values, None, dtype=dtype, backend="numba")
    expected = values.to(dtype)
    assert torch.equal(cast.isnan(), expected.isnan())
    assert torch.equal(cast[~cast.isnan()], expected[~expected.isnan()])


@pytest.mark.parametrize("a", [1e-6, 1e-3, 0.1, 3.0, 1e4])
def test_the_gaussian_is_exact_to_float32(a):
    out = np.empty((2, 301), np.float32)
    kernel._bell(np.float32(a), np.float32(140.5), np.float32(20), np.float32(290), out, 1)
    t = np.arange(301)
    exponent = np.float64(np.float32(a)) * (t - 140.5) ** 2
    expected = np.where((t >= 20) & (t < 290), np.exp(-exponent), 0)
    # the exponent itself is a float32
    assert (np.abs(out[1] - expected) <= expected * (2e-7 + 1.2e-7 * exponent) + 2e-38).all()


def test_one_compilation_serves_all():
    images, plan, options, out = next(cases())
    mix_images(images, plan, backend="numba", out=out, **options)
    before = list(kernel._mix.signatures)
    assert len(before) == 1
    frozen = dataclasses.replace(plan, params=plan.params.copy(), partner=plan.partner.copy())
    frozen.params.flags.writeable = frozen.partner.flags.writeable = False
    mix_images(images, frozen, backend="numba", out=out, **options)
    for images, plan, options, out in cases():
        mix_images(images, plan, backend="numba", out=out, **options)
    assert list(kernel._mix.signatures) == before


@pytest.mark.parametrize("shape", [(5, 7), (5, 4, 9), (5, 2, 3, 4, 5)])
@pytest.mark.parametrize("normalised", [False, True])
def test_constant_masks_fit_any_axes(shape, normalised):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    plan = MixUp(interpolations=2).plan(Key(2), batch_size=5, height=1, width=1)
    options = {"mean": torch.linspace(0, 1, shape[1]).tolist(), "std": [0.5] * shape[1]} if normalised else {}
    mixed = mix_images(images, plan, backend="numba", **options)
    assert torch.equal(mixed, mix_images(images, plan, backend="eager", **options))
