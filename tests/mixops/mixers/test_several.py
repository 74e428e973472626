"""Rows of several sources: plans, pixels by every kernel, targets of any arity, and the mixers that make them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from scipy import stats
from support import reference

from mixops import (
    CutMix,
    DirichletMixUp,
    Key,
    MixPlan,
    MixUp,
    OptimalMatching,
    PlanSources,
    PuzzleMix,
    Switch,
    ZetaMixUp,
    mix_images,
    mix_label_maps,
    mix_targets,
    soft_cross_entropy,
    sparse_targets,
)
from mixops.kernels.blend import cpu, cpu_several
from mixops.key import Stream
from mixops.mixers.multi.dirichlet import dirichlet_weights
from mixops.plan import concatenate

FORMATS = (torch.contiguous_format, torch.channels_last)
TOLERANCE = {torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.uint8: 0.5001}
SHAPES = ((5, 3, 17, 23), (4, 1, 9, 1), (4, 4, 8, 8), (3, 2, 1, 31), (2, 3, 2, 27))  # b, c, h, w


def hand_made(b: int, k: int, s: int, h: int, w: int, *, dense: bool, seed: int = 0) -> MixPlan:
    """Random sources with random shares, some of them 0 and some 1."""
    rng = np.random.default_rng(seed)
    raw = rng.exponential(size=(b, k, s, h, w) if dense else (b, k, s)) * (rng.random((b, k, s, *[1] * 2 * dense)) < 0.7)
    raw[:, :, 0] += raw.sum(2) == 0
    raw = (raw / raw.sum(2, keepdims=True)).astype(np.float32)
    masks = np.minimum(raw, np.float32(1))
    weight = masks.mean((3, 4), dtype=np.float64) if dense else masks.astype(np.float64)
    return MixPlan.of_sources(PlanSources(rng.integers(0, b, (b, s)), weight, masks), height=h, width=w)


def cases():
    """(images, plan, options, poisoned out) over arities, shapes, layouts and dtypes."""
    generator = torch.Generator().manual_seed(0)
    for (b, c, h, w), s, dense in product(SHAPES, (2, 3, 9), (False, True)):
        levels = torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=generator)
        plan = hand_made(b, 2, s, h, w, dense=dense, seed=s)
        for source, layout, dtype, result in product((torch.uint8, torch.float32), FORMATS, TOLERANCE, FORMATS):
            if dtype == torch.uint8 and source != torch.uint8:
                continue
            images = (levels if source == torch.uint8 else levels / 255).contiguous(memory_format=layout)
            colours = {"mean": [0.45 + i / 40 for i in range(c)], "std": [0.25 + i / 40 for i in range(c)], "dtype": dtype}
            options = {} if dtype == torch.uint8 else colours
            out = torch.full((2 * b, c, h, w), 77, dtype=dtype).contiguous(memory_format=result)
            yield images, plan, options, out


@pytest.mark.parametrize("streamed", [False, True])
def test_the_cpu_kernel_is_the_reference_and_has_the_bits_of_the_eager_sum(streamed, monkeypatch):
    if streamed:  # small results too go past the caches
        monkeypatch.setattr(cpu, "_STREAMED", 0)
    expected, last = np.empty(0), None
    for images, plan, options, out in cases():
        now = (id(plan), images.dtype, bool(options))
        if now != last:
            expected, last = reference.mix_images(images.numpy(), plan, options.get("mean"), options.get("std")), now
        assert mix_images(images, plan, backend="numba", out=out, **options) is out
        error = np.abs(out.double().numpy() - expected).max()
        assert error <= TOLERANCE[out.dtype], (plan, images.dtype, out.dtype, images.stride(), out.stride(), error)
        assert torch.equal(out, mix_images(images, plan, backend="eager", **options))


def test_one_compilation_serves_all():
    for images, plan, options, out in list(cases())[::7]:
        mix_images(images, plan, backend="numba", out=out, **options)
    assert len(cpu_several._mix.signatures) == 1


def check_triton(device: str = "cpu", every: int = 9) -> int:
    """The CUDA kernel, on the CPU run by Triton's interpreter, over a part of the cases."""
    checked = 0
    for i, (images, plan, options, there) in enumerate(cases()):
        if i % every:
            continue
        out = there.to(device)
        mix_images(images.to(device), plan, backend="triton", out=out, **options)
        out = out.cpu()
        expected = reference.mix_images(images.numpy(), plan, options.get("mean"), options.get("std"))
        error = np.abs(out.double().numpy() - expected)
        # the interpreter cuts float32 to bfloat16 where devices round
        bound = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2.0**-7, torch.uint8: 0.501}[out.dtype]
        assert (error <= bound * (1 if out.dtype == torch.uint8 else np.maximum(1, np.abs(expected)))).all()
        checked += 1
    return checked


@pytest.mark.nightly
def test_the_interpreted_cuda_kernel_is_the_reference():
    pytest.importorskip("triton")
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[2])]
    code = f"import sys; sys.path[:0] = {folders!r}\nfrom test_several import check_triton\nprint(check_triton())"
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) >= 60


@pytest.mark.gpu
def test_the_cuda_kernel_is_the_reference():
    pytest.importorskip("triton")
    assert check_triton("cuda", every=1) >= 500


# source, of channels-last images of 9 x 8 pixels but for planes, to result; the kernel for it
COMPILED = {
    "chunks": [("NHWC", torch.uint8, "NHWC", torch.float16), ("NCHW", torch.float32, "NCHW", torch.float32),
               ("NHWC", torch.uint8, "NHWC", torch.uint8)],
    "planes": [("NHWC", torch.uint8, "NCHW", torch.float32), ("NHWC", torch.uint8, "NCHW", torch.uint8)],
    "pixels": [("NCHW", torch.uint8, "NHWC", torch.bfloat16), ("NHWC", torch.float32, "NCHW", torch.float16)],
}  # fmt: skip


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("kernel", COMPILED)
def test_the_compiled_cuda_kernels_are_the_reference(kernel, dense):
    pytest.importorskip("triton")
    from support.emulated import Emulated

    from mixops.kernels.blend import launch, launch_several

    formats = dict(zip(("NCHW", "NHWC"), FORMATS, strict=True))
    plan, colours = hand_made(3, 2, 3, 9, 8, dense=dense), {"mean": [0.4, 0.5, 0.2], "std": [0.3, 0.2, 0.4]}
    levels = torch.randint(0, 256, (3, 3, 9, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    only = {kernel: Emulated(launch_several._KERNELS[kernel], 90)}
    for layout, source, result, dtype in COMPILED[kernel]:
        images = (levels if source == torch.uint8 else levels / 255).contiguous(memory_format=formats[layout])
        out = torch.full((6, 3, 9, 8), 77, dtype=dtype).contiguous(memory_format=formats[result])
        options = {} if dtype == torch.uint8 else colours | {"dtype": dtype}
        with (
            mock.patch.object(launch_several, "_KERNELS", only),
            mock.patch.object(launch_several, "_INTERPRETED", 128),
            mock.patch.dict(launch._KERNELS, {name: Emulated(kernel, 90) for name, kernel in launch._KERNELS.items()}),
        ):
            mix_images(images, plan, backend="triton", out=out, **options)
        expected = reference.mix_images(images.numpy(), plan, *(colours.values() if options else ()))
        bound = {torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2.0**-7, torch.uint8: 0.501}[dtype]
        error = np.abs(out.double().numpy() - expected)
        assert (error <= bound * (1 if dtype == torch.uint8 else np.maximum(1, np.abs(expected)))).all()


@pytest.mark.parametrize("layouts", [("NCHW", "NCHW"), ("NHWC", "NCHW")], ids=["chunks", "pixels"])
def test_what_has_no_share_takes_no_part_in_compiled_cuda_kernels(layouts):
    pytest.importorskip("triton")
    from support.emulated import Emulated

    from mixops.kernels.blend import launch, launch_several

    plan, images = hand_made(12, 2, 3, 4, 4, dense=False, seed=3), torch.rand(12, 3, 4, 4)
    images[1] = float("inf")
    formats = dict(zip(("NCHW", "NHWC"), FORMATS, strict=True))
    kernels = {name: Emulated(kernel, 90) for name, kernel in launch_several._KERNELS.items()}
    out = torch.empty(24, 3, 4, 4).contiguous(memory_format=formats[layouts[1]])
    with (
        mock.patch.object(launch_several, "_KERNELS", kernels),
        mock.patch.object(launch_several, "_INTERPRETED", 128),
        mock.patch.dict(launch._KERNELS, {name: Emulated(kernel, 90) for name, kernel in launch._KERNELS.items()}),
    ):
        mix_images(images.contiguous(memory_format=formats[layouts[0]]), plan, backend="triton", out=out)
    hidden = torch.from_numpy((np.where((plan.sources == 1)[:, None], plan.weights, 0).sum(2) == 0).reshape(-1))
    assert ((plan.sources == 1)[:, None] & (plan.weights == 0)).any(), "where it is a source, but has no share"
    assert (torch.isfinite(out).flatten(1).all(1) == hidden).all() and not hidden.all()
    torch.testing.assert_close(out[hidden], mix_images(images, plan)[hidden])


@pytest.mark.parametrize("shape", [(5, 7), (5, 4, 9), (5, 2, 3, 4, 5)])
def test_constant_shares_fit_any_axes(shape):
    images = torch.rand(shape, generator=torch.Generator().manual_seed(0))
    plan = ZetaMixUp(ranks=4, interpolations=2).plan(Key(2), batch_size=5, height=1, width=1)
    mixed = mix_images(images, plan, backend="numba")
    assert torch.equal(mixed, mix_images(images, plan, backend="eager"))
    np.testing.assert_allclose(mixed, reference.mix_images(images.numpy(), plan), rtol=0, atol=2e-6)
    images[0, 0] = float("nan")
    shown = (plan.sources == 0).any(1).repeat(2)
    assert (torch.isnan(mix_images(images, plan)).flatten(1).any(1).numpy() == shown).all()


def test_what_has_no_share_takes_no_part():
    for dense, backend in product((False, True), ("numba", "eager")):
        plan = hand_made(6, 2, 4, 5, 4, dense=dense)
        images = torch.rand(6, 3, 5, 4)
        images[2] = float("inf")
        mixed = mix_images(images, plan, backend=backend).view(6, 2, 3, 5, 4)
        hidden = (np.where((plan.sources == 2)[:, None], plan.weights, 0).sum(2) == 0)[..., None]
        assert torch.isfinite(mixed).all(-1).all(-1).all(-1).numpy()[hidden[..., 0]].all() and hidden.any()


def test_gradients_go_through_the_sum():
    images = torch.rand(4, 3, 5, 4, dtype=torch.float64, requires_grad=True)
    plan = hand_made(4, 1, 3, 5, 4, dense=True)
    assert torch.autograd.gradcheck(lambda x: mix_images(x, plan), images)


# ---------------------------------------------------------------------------------------------------------- targets


@pytest.mark.parametrize("s", [2, 3, 9])
def test_targets_of_any_arity(s):
    plan, labels = hand_made(6, 3, s, 4, 4, dense=True), torch.tensor([0, 3, 1, 1, 2, 0])
    expected = reference.mix_targets(labels.numpy(), plan, 4, 0.1)
    np.testing.assert_allclose(mix_targets(labels, plan, num_classes=4, smoothing=0.1), expected, rtol=0, atol=1e-6)
    soft = torch.eye(4)[labels]
    np.testing.assert_allclose(mix_targets(soft, plan, smoothing=0.1), expected, rtol=0, atol=1e-6)
    from mixops.apply.targets import _scatter

    np.testing.assert_allclose(_scatter(labels, plan, 4, 0.1), expected, rtol=0, atol=1e-6)
    index, weight = sparse_targets(labels, plan)
    assert index.shape == weight.shape == (18, s)
    logits = torch.randn(18, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dense = soft_cross_entropy(logits, mix_targets(labels, plan, num_classes=4), reduction="none")
    np.testing.assert_allclose(soft_cross_entropy(logits, (index, weight), reduction="none"), dense, rtol=0, atol=1e-6)
    right = [sum(w for i, w in zip(index[n], weight[n], strict=True) if i == logits[n].argmax()) for n in range(18)]
    assert plan.accuracy(logits, labels) == pytest.approx(float(np.mean(right)), abs=1e-6)


def test_label_maps_of_several_sources():
    plan = hand_made(4, 2, 3, 5, 6, dense=True)
    maps = torch.randint(0, 3, (4, 5, 6), generator=torch.Generator().manual_seed(0))
    soft = mix_label_maps(maps, plan, num_classes=3)
    onehot = torch.nn.functional.one_hot(maps, 3).permute(0, 3, 1, 2).float()
    np.testing.assert_allclose(soft, reference.mix_images(onehot.numpy(), plan), rtol=0, atol=1e-6)
    np.testing.assert_allclose(mix_label_maps(onehot, plan), soft, rtol=0, atol=1e-6)
    hard = mix_label_maps(maps, plan)
    first = plan.masks().argmax(2)  # (b, k, h, w)
    for i, k, y, x in np.ndindex(4, 2, 5, 6):
        assert hard[2 * i + k, y, x] == maps[plan.sources[i, first[i, k, y, x]], y, x]


# ------------------------------------------------------------------------------------------------------------ plans


def test_a_plan_of_two_sources_says_them_as_well():
    plan = CutMix(interpolations=2).plan(Key(), batch_size=5, height=6, width=7)
    assert plan.more is None
    np.testing.assert_array_equal(plan.sources, np.stack([np.arange(5), plan.partner], 1))
    np.testing.assert_array_equal(plan.weights, np.stack([plan.weight, 1 - plan.weight], 2))
    np.testing.assert_array_equal(plan.masks(), np.stack([plan.mask(), 1 - plan.mask()], 2))


def test_plans_of_several_arities_are_joined():
    plans = [
        ZetaMixUp(ranks=4).plan(Key(1), batch_size=5, height=4, width=6),
        CutMix().plan(Key(2), batch_size=3, height=4, width=6),
        MixUp().plan(Key(3), batch_size=2, height=4, width=6),
    ]
    images = torch.rand(10, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    for some in (plans, plans[:1] + plans[2:]):
        joined = concatenate(some)
        assert joined.constant == (len(some) == 2) and joined.sources.shape[1] == 4
        starts = np.cumsum([0] + [plan.batch_size for plan in some])
        for plan, start in zip(some, starts, strict=False):
            rows = slice(start, start + plan.batch_size)
            alone = mix_images(images[rows], plan, backend="eager")
            assert torch.equal(mix_images(images[: starts[-1]], joined, backend="numba")[rows], alone)
        again = MixPlan.from_json(joined.to_json())
        assert again.to_json() == joined.to_json()
    first = concatenate(plans).rows(5)
    assert torch.equal(mix_images(images[:5], first), mix_images(images[:5], plans[0]))


def test_a_switch_of_any_two():
    images = torch.rand(8, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    members = [ZetaMixUp(ranks=4), CutMix(), PuzzleMix(saliency="spectral"), MixUp()]
    for a, b in product(members, members):
        plan = Switch([a, b]).plan(Key(5), images=images)
        alone = [member.plan(Key(5), images=images) for member in (a, b)]
        mixed = mix_images(images, plan)
        theirs = [mix_images(images, one, backend="eager") for one in alone]
        same = torch.stack([torch.isclose(mixed, one, rtol=0, atol=1e-6).flatten(1).all(1) for one in theirs])
        assert same.any(0).all() and (a == b or not same.all()), (a, b)
        np.testing.assert_allclose(plan.weights.sum(2), 1, rtol=0, atol=1e-6)


def test_sources_are_checked():
    plan = hand_made(3, 1, 3, 4, 5, dense=True)
    more = plan.more
    for changes, message in (
        ({"rows": more.rows.astype(np.int32)}, "rows must be a NumPy array of int64"),
        ({"rows": more.rows + 1}, r"rows must be in \[0, 3\), got"),
        ({"weight": more.weight * 2}, r"weight must"),
        ({"masks": more.masks[:, :, :2]}, "rows, weight and masks must have shapes"),
        ({"masks": -more.masks}, r"masks must be in \[0, 1\]"),
        ({"masks": np.full((3, 1, 3), np.nan, np.float32)}, r"masks must be in \[0, 1\]"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            replace(more, **changes)
    with pytest.raises(ValueError, match=r"more must have 3 rows, 1 outputs and masks of \(4, 6\)"):
        replace(plan, width=6)
    with pytest.raises(ValueError, match="text must be a plan"):
        MixPlan.from_json(plan.to_json().replace('"rows"', '"lines"'))


# ----------------------------------------------------------------------------------------------------------- mixers


def test_zeta_weights_are_the_authors_series():
    """Their weights of a batch of 256 at gamma = 2.8, cut after eight ranks and weighed anew."""
    plan = ZetaMixUp().plan(Key(3), batch_size=256, height=4, width=4)
    series = np.arange(1, 257) ** -2.8
    series /= series.sum()
    np.testing.assert_allclose(series[:4], [0.802, 0.115, 0.037, 0.017], rtol=0, atol=1e-3)
    assert series[:8].sum() == pytest.approx(0.991, abs=1e-3) and series[8] < 1 / 510
    np.testing.assert_allclose(plan.weights[:, 0], np.tile(series[:8] / series[:8].sum(), (256, 1)), rtol=0, atol=1e-7)
    for row in plan.sources:
        assert len(set(row.tolist())) == 8
    for rank in range(8):
        np.testing.assert_array_equal(np.sort(plan.sources[:, rank]), np.arange(256))


def test_zeta_mixes_as_its_matrix():
    """x~ = W x and y~ = W y with rows that are the series at the sources: the authors' form, labels by identity tags."""
    mixer = ZetaMixUp(1.7, ranks=5, interpolations=3)
    plan = mixer.plan(Key(1), batch_size=9, height=2, width=3)
    matrix = np.zeros((9, 3, 9))
    for i, k, j in np.ndindex(9, 3, 5):
        matrix[i, k, plan.sources[i, j]] += plan.weights[i, k, j]
    images = np.random.default_rng(0).random((9, 3, 2, 3), np.float32)
    expected = np.einsum("ikj,jchw->ikchw", matrix, images).reshape(27, 3, 2, 3)
    np.testing.assert_allclose(mix_images(images, plan), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(mix_targets(np.arange(9), plan, num_classes=9), matrix.reshape(27, 9), rtol=0, atol=1e-6)
    series = np.sort(np.arange(1, 6) ** -1.7)[::-1] / (np.arange(1, 6) ** -1.7).sum()
    for i, k in np.ndindex(9, 3):
        np.testing.assert_allclose(np.sort(matrix[i, k])[::-1][:5], series, rtol=0, atol=1e-6)
        assert matrix[i, k].argmax() == i


def test_half_is_the_own_images_at_the_papers_gamma():
    """zeta(1.72865) = 2: with unlimited ranks the own weight is 1/2 there; with all of a batch nearly so."""
    own = ZetaMixUp(1.72865, ranks=256).plan(Key(), batch_size=256, height=1, width=1).weight
    assert own.min() == own.max() == pytest.approx(0.5, abs=0.01)
    alone = ZetaMixUp(1e6).plan(Key(), batch_size=8, height=1, width=1)
    assert (alone.weight == 1).all()


def test_dirichlet_weights_follow_their_law():
    u = Key(1).uniform(Stream.SHARES, (4000, 3, 2))
    for alpha in (0.05, 0.7, 1.0, 8.0):
        weight = dirichlet_weights(u, alpha)
        np.testing.assert_allclose(weight.sum(1), 1, rtol=0, atol=1e-12)
        for j in range(3):
            assert stats.kstest(weight[:, j], stats.beta(alpha, 2 * alpha).cdf).pvalue > 1e-3
        if alpha < 0.5:
            continue  # most sums are 1 but for rounding
        assert stats.kstest(weight[:, 0] + weight[:, 1], stats.beta(2 * alpha, alpha).cdf).pvalue > 1e-3
    ends = dirichlet_weights(np.zeros((1, 3, 2)), 1e-9)
    assert np.isfinite(ends).all()
    corners = dirichlet_weights(u, 1e-9)
    assert np.isin(corners, [0, 1]).all() and np.allclose(corners.mean(0), 1 / 3, atol=0.05)


def test_dirichlet_of_two_is_mixup():
    plan = DirichletMixUp(0.4, sources=2, interpolations=2).plan(Key(1), batch_size=50, height=3, width=3)
    assert plan.more is None
    mixup = MixUp(0.4).plan(Key(1), batch_size=50, height=3, width=3)
    np.testing.assert_array_equal(plan.partner, mixup.partner)
    images = np.random.default_rng(0).random((50, 3, 3, 3), np.float32)
    own, other = images.repeat(2, 0), images[plan.partner].repeat(2, 0)
    lam = plan.lam.reshape(-1, 1, 1, 1)
    np.testing.assert_allclose(mix_images(images, plan), lam * own + (1 - lam) * other, rtol=0, atol=1e-6)


def test_sources_are_matched_in_turn():
    images = np.random.default_rng(0).random((12, 3, 8, 8), np.float32)
    matched = ZetaMixUp(ranks=3, matching=OptimalMatching(3)).plan(Key(1), images=images)
    partner = MixUp(matching=OptimalMatching(3)).plan(Key(1), images=images).partner
    np.testing.assert_array_equal(matched.sources, np.stack([np.arange(12), partner, partner[partner]], 1))


def test_a_pipeline_of_dalis_operators_refuses_them():
    dali = pytest.importorskip("pipelines.dali")
    for mixer in (ZetaMixUp(), Switch([MixUp(), DirichletMixUp()])):
        with pytest.raises(ValueError, match=r"mixer must mix two images a row in a DALI pipeline, got .*: mix where"):
            dali.plan_source(mixer, batch_size=8, height=8, width=8, epoch_size=16)
    dali.plan_source(DirichletMixUp(sources=2), batch_size=8, height=8, width=8, epoch_size=16)


def test_a_short_batch_has_sources_twice():
    for b in (1, 2, 3):
        plan = ZetaMixUp().plan(Key(), batch_size=b, height=2, width=2)
        shares = mix_targets(np.arange(b), plan, num_classes=b)
        np.testing.assert_allclose(shares.sum(1), 1, rtol=0, atol=1e-6)
        images = np.eye(b, dtype=np.float32).reshape(b, b, 1, 1).repeat(2, 2).repeat(2, 3)
        np.testing.assert_allclose(mix_images(images, plan)[:, :, 0, 0], shares, rtol=0, atol=1e-6)
