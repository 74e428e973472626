"""The inputs people have: dtypes, layouts, channels, axes, strides, read-only memory, and buffers to write into."""

from __future__ import annotations

import dataclasses
import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference

from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, ResizeMix, Switch, mix_images

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
MIXERS = (
    MixUp(), CutMix(), HMix(), GMix(), FMix(), Switch([MixUp(), CutMix()], interpolations=2), GMix(interpolations=3),
    ResizeMix((0.3, 0.9), interpolations=2),
)  # fmt: skip
# one unit in the last place of values up to 4, over two
TOLERANCE = {torch.float64: 1e-6, torch.float32: 3e-6, torch.float16: 2e-3, torch.bfloat16: 1.6e-2}


def plan_of(mixer, b, h, w, step=0):
    return mixer.plan(Key(7, step=step), batch_size=b, height=h, width=w)


def pictures(b, c, h, w, dtype=torch.uint8, seed=0):
    values = torch.randint(0, 256, (b, c, h, w), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
    return values if dtype == torch.uint8 else (values.double() / 64 - 2).to(dtype)


def assert_mixed(mixed, images, plan, mean=None, std=None):
    """``mixed`` is what the reference makes of the very numbers that ``images`` hold, to its own last place."""
    source = images if images.dtype == torch.uint8 else images.double()
    expected = reference.mix_images(source.numpy(), plan, mean, std)
    if mixed.dtype == torch.uint8:
        assert np.abs(mixed.double().numpy() - expected).max() <= 0.5 + 1e-4  # to the nearest
    else:
        np.testing.assert_allclose(mixed.double().numpy(), expected, rtol=0, atol=TOLERANCE[mixed.dtype])


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("layout", ["NCHW", "channels_last", "NHWC"])
def test_every_dtype_in_every_layout(mixer, dtype, layout):
    images, plan = pictures(5, 3, 11, 13, dtype), plan_of(mixer, 5, 11, 13)
    if layout == "NHWC":
        mixed = mix_images(images.permute(0, 2, 3, 1).contiguous(), plan, layout="NHWC")
        assert mixed.shape == (5 * plan.interpolations, 11, 13, 3)
        mixed = mixed.permute(0, 3, 1, 2)
    elif layout == "channels_last":
        mixed = mix_images(images.contiguous(memory_format=torch.channels_last), plan)
        assert mixed.is_contiguous(memory_format=torch.channels_last)
    else:
        mixed = mix_images(images, plan)
        assert mixed.is_contiguous()
    assert mixed.dtype == dtype and mixed.shape == (5 * plan.interpolations, 3, 11, 13)
    assert_mixed(mixed, images, plan)


@settings(max_examples=50)
@given(
    mixer=st.sampled_from(MIXERS), b=st.integers(1, 4), c=st.integers(1, 9), h=st.integers(1, 9), w=st.integers(1, 9),
    dtype=st.sampled_from([torch.uint8, torch.float32]), step=st.integers(0, 99),
)  # fmt: skip
def test_any_number_of_channels_and_any_size(mixer, b, c, h, w, dtype, step):
    images, plan = pictures(b, c, h, w, dtype, step), plan_of(mixer, b, h, w, step)
    assert_mixed(mix_images(images, plan), images, plan)
    mean, std = np.linspace(0.1, 0.6, c), np.linspace(0.9, 0.4, c)
    assert_mixed(mix_images(images, plan, mean=mean.tolist(), std=std.tolist()), images, plan, mean, std)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("result", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last], ids=str)
def test_normalised_and_cast_in_one_call(dtype, result, memory_format):
    images, plan = pictures(4, 3, 9, 10, dtype), plan_of(HMix(interpolations=2), 4, 9, 10)
    mixed = mix_images(images, plan, mean=MEAN, std=STD, dtype=result, memory_format=memory_format)
    assert mixed.dtype == result and mixed.is_contiguous(memory_format=memory_format)
    scale = 1 if dtype == torch.uint8 else 4  # values up to 12 have larger last places
    source = images if dtype == torch.uint8 else images.double()
    expected = reference.mix_images(source.numpy(), plan, MEAN, STD)
    np.testing.assert_allclose(mixed.double().numpy(), expected, rtol=0, atol=scale * TOLERANCE[result])


def test_uint8_becomes_float_on_the_scale_of_one():
    images, plan = pictures(3, 3, 5, 5), plan_of(GMix(), 3, 5, 5)
    expected = reference.mix_images(images.numpy(), plan) / 255
    np.testing.assert_allclose(mix_images(images, plan, dtype=torch.float32), expected, rtol=0, atol=1e-6)
    assert mix_images(images, plan, mean=MEAN, std=STD).dtype == torch.float32


@pytest.mark.parametrize("backend", [None, "eager"])
def test_uint8_is_rounded_to_the_nearest_and_never_truncated(backend):
    """All pairs of values under 17 weights: truncation would be wrong in every second pixel."""
    own, other = (values.ravel() for values in np.meshgrid(np.arange(256, dtype=np.uint8), np.arange(256, dtype=np.uint8)))
    images = torch.from_numpy(np.stack([own, other]).reshape(2, 1, 256, 256))
    for lam in np.linspace(0, 1, 17):
        plan = plan_of(MixUp(), 2, 1, 1)
        params = plan.params.copy()
        params[..., 0] = lam
        plan = dataclasses.replace(plan, params=params, weight=np.full((2, 1), lam), lam=np.full((2, 1), lam))
        exact = reference.mix_images(images.numpy(), plan)
        mixed = mix_images(images, plan, backend=backend).numpy()
        assert mixed.dtype == np.uint8
        assert np.abs(mixed - exact).max() <= 0.5 + 1e-4
        clear = np.abs(exact - np.floor(exact) - 0.5) > 1e-4  # which of two neighbours a half goes to is not the question
        np.testing.assert_array_equal(mixed[clear], np.rint(exact)[clear])


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("kind", ["torch", "numpy", "read-only"])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_any_strides_and_inputs_are_never_modified(mixer, kind, dtype):
    base = pictures(8, 6, 9, 26, dtype)
    for view in (base[::2, ::2, :, ::2], base[:4, :3, :, 1:14].flip(2), base[:4, :3].transpose(2, 3)[:, :, ::2]):
        plan = plan_of(mixer, 4, *view.shape[2:])
        before = view.clone()
        if kind == "torch":
            images, mixed = view, mix_images(view, plan)
        else:
            images = view.numpy()
            if kind == "read-only":
                images.flags.writeable = False
            mixed = torch.from_numpy(mix_images(images, plan))
        assert_mixed(mixed, before, plan)
        assert torch.equal(view, before)


def test_flipped_arrays_are_taken():
    """NumPy flips by negative strides, which torch does not have."""
    images, plan = pictures(4, 3, 8, 9).numpy(), plan_of(CutMix(), 4, 8, 9)
    np.testing.assert_array_equal(mix_images(images[..., ::-1], plan), mix_images(images[..., ::-1].copy(), plan))


@pytest.mark.parametrize("mixer", MIXERS, ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("kind", ["torch", "numpy"])
def test_out_is_written_and_returned(mixer, kind):
    images, plan = pictures(4, 3, 8, 9), plan_of(mixer, 4, 8, 9)
    shape = (4 * plan.interpolations, 3, 8, 9)
    if kind == "numpy":
        out = np.zeros(shape, np.float32)
        assert mix_images(images.numpy(), plan, mean=MEAN, std=STD, out=out) is out
        assert_mixed(torch.from_numpy(out), images, plan, MEAN, STD)
        return
    whole = torch.zeros(shape[0], 3, 8, 18)
    for out in (torch.zeros(shape), torch.zeros(shape).to(memory_format=torch.channels_last), whole[..., ::2]):
        address, strides = out.data_ptr(), out.stride()
        assert mix_images(images, plan, mean=MEAN, std=STD, out=out) is out
        assert (out.data_ptr(), out.stride()) == (address, strides)
        assert_mixed(out, images, plan, MEAN, STD)
    assert (whole[..., 1::2] == 0).all()


@pytest.mark.parametrize(
    "out",
    [torch.zeros(3, 3, 8, 9), torch.zeros(4, 3, 8, 9, dtype=torch.float64), np.zeros((4, 3, 8, 9), np.float32), "buffer"],
)
def test_out_that_does_not_fit_is_refused(out):
    with pytest.raises(ValueError, match=r"out must be a torch.float32 tensor of shape \(4, 3, 8, 9\)"):
        mix_images(pictures(4, 3, 8, 9, torch.float32), plan_of(CutMix(), 4, 8, 9), out=out)


def test_a_read_only_out_is_refused():
    out = np.zeros((4, 3, 8, 9), np.float32)
    out.flags.writeable = False
    with pytest.raises(TypeError, match="out must be a writable NumPy array"):
        mix_images(np.zeros((4, 3, 8, 9), np.float32), plan_of(CutMix(), 4, 8, 9), out=out)


@pytest.mark.parametrize("shape", [(5, 7), (5, 2, 16000), (5, 3, 4, 6, 7), (5, 2, 3, 2, 3, 2)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_mixup_takes_any_axes(shape, dtype):
    """Tables, signals, video: a constant mask has no shape."""
    images = pictures(1, 1, 1, int(np.prod(shape)), dtype).reshape(shape)
    plan = MixUp(interpolations=2).plan(Key(3), batch_size=5, height=1, width=1)
    mixed = mix_images(images, plan)
    assert mixed.shape == (10, *shape[1:])
    assert_mixed(mixed, images, plan)


@pytest.mark.parametrize("mixer", [CutMix(interpolations=2), HMix(), GMix(), FMix()], ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_signals_are_images_of_height_one(mixer, dtype):
    images = pictures(5, 2, 1, 37, dtype)[:, :, 0]
    plan = plan_of(mixer, 5, 1, 37)
    mixed = mix_images(images, plan)
    assert mixed.shape == (5 * plan.interpolations, 2, 37)
    assert_mixed(mixed, images, plan)


@pytest.mark.parametrize("mixer", [CutMix(interpolations=2), HMix(), GMix(), FMix()], ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
def test_video_has_one_mask_for_all_its_frames(mixer, dtype):
    images = pictures(3, 2 * 4, 6, 7, dtype).reshape(3, 2, 4, 6, 7)
    plan = plan_of(mixer, 3, 6, 7)
    mixed = mix_images(images, plan)
    assert mixed.shape == (3 * plan.interpolations, 2, 4, 6, 7)
    assert_mixed(mixed, images, plan)


@pytest.mark.parametrize("mixer", [CutMix(), HMix(), GMix(), FMix()], ids=lambda mixer: type(mixer).__name__)
@pytest.mark.parametrize("shape", [(4, 5), (4, 2, 6), (4, 3, 6, 5), (4, 3, 5, 5), (4, 3, 2, 6, 5)])
def test_masks_with_a_shape_refuse_images_without_it(mixer, shape):
    with pytest.raises(ValueError, match=r"images must be 5x6 pixels for the masks of this plan, got shape \(4, "):
        mix_images(torch.zeros(shape), plan_of(mixer, 4, 5, 6))


def test_a_table_has_no_place_for_a_box():
    """(b, features) has neither channels nor pixels: constant masks only, whatever the plan's size."""
    with pytest.raises(ValueError, match="images must be 1x6 pixels"):
        mix_images(torch.zeros(4, 6), plan_of(CutMix(), 4, 1, 6))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"images": [[1.0]]}, TypeError, "images must be a torch tensor or NumPy array, got list"),
        ({"images": torch.zeros(4)}, ValueError, "images must have a batch axis and at least one more"),
        ({"images": torch.zeros(3, 3, 5, 6)}, ValueError, "images must have the plan's 4 rows, got 3"),
        (
            {"images": torch.zeros(4, 3, 5, 6, dtype=torch.int64)},
            TypeError,
            "images must be uint8 or floating, got torch.int64",
        ),
        ({"layout": "HWC"}, ValueError, "layout must be 'NCHW' or 'NHWC', got 'HWC'"),
        ({"images": torch.zeros(4, 5, 6), "layout": "NHWC"}, ValueError, "images must have four axes under layout='NHWC'"),
        ({"mean": MEAN}, ValueError, "mean and std must be given together"),
        ({"mean": (0.5, 0.5), "std": (1.0, 1.0)}, ValueError, "mean must have one value or one a channel, 3, got 2"),
        ({"mean": MEAN, "std": (1.0, 0.0, 1.0)}, ValueError, "std must be positive"),
        ({"dtype": torch.uint8}, ValueError, "dtype must be floating for normalised or floating images"),
        ({"dtype": torch.int32}, ValueError, "dtype must be torch.uint8 or floating"),
        ({"backend": "cuda"}, ValueError, "backend must be one of 'eager', 'numba', 'triton', got 'cuda'"),
    ],
)
def test_bad_arguments_are_refused_by_name(arguments, error, message):
    arguments = {"images": torch.zeros(4, 3, 5, 6), **arguments}
    with pytest.raises(error, match=message):
        mix_images(arguments.pop("images"), plan_of(CutMix(), 4, 5, 6), **arguments)


def test_gradients_reach_both_images():
    images = pictures(4, 2, 5, 6, torch.float64).requires_grad_()
    plan = plan_of(GMix(interpolations=2), 4, 5, 6)
    assert torch.autograd.gradcheck(lambda x: mix_images(x, plan, mean=(0.1, 0.2), std=(0.5, 2.0)), (images,))


def test_no_option_is_untested():
    """The options of ``mix_images`` that this file, the kernels' tests and those of RecursiveMix (history) know."""
    known = {"images", "plan", "mean", "std", "dtype", "memory_format", "layout", "out", "backend", "history"}
    assert set(inspect.signature(mix_images).parameters) == known
