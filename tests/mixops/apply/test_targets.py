"""Targets, dense, sparse and soft, against loops in float64."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support import reference

from mixops import CutMix, Key, MixUp, mix_targets, sparse_targets
from mixops.apply.targets import _scatter

sizes = {"b": st.integers(1, 7), "k": st.integers(1, 3), "classes": st.integers(1, 6), "step": st.integers(0, 99)}
smoothings = st.sampled_from([0.0, 0.1, 0.5])


def some_plan(b, k=1, step=0, mixer=CutMix, **options):
    return mixer(1.0, interpolations=k, **options).plan(Key(1, step=step), batch_size=b, height=13, width=9)


@given(**sizes, smoothing=smoothings, dtype=st.sampled_from([torch.int64, torch.int32, torch.uint8]))
def test_targets_of_class_numbers(b, k, classes, step, smoothing, dtype):
    plan = some_plan(b, k, step)
    labels = torch.randint(classes, (b,), generator=torch.Generator().manual_seed(step)).to(dtype)
    targets = mix_targets(labels, plan, num_classes=classes, smoothing=smoothing)
    assert targets.dtype == torch.float32 and targets.shape == (b * k, classes)
    expected = reference.mix_targets(labels.numpy(), plan, classes, smoothing)
    np.testing.assert_allclose(targets.numpy(), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(targets.sum(1), 1, rtol=0, atol=1e-6)
    from_numpy = mix_targets(labels.numpy(), plan, num_classes=classes, smoothing=smoothing)
    assert isinstance(from_numpy, np.ndarray)
    np.testing.assert_array_equal(from_numpy, targets.numpy())
    on_devices = _scatter(labels, plan, classes, smoothing)  # what CUDA tensors get
    np.testing.assert_array_equal(on_devices, targets)


@given(
    **sizes, smoothing=smoothings, multi=st.booleans(), dtype=st.sampled_from([torch.float32, torch.float16, torch.int64])
)
def test_targets_of_soft_and_multi_label_rows(b, k, classes, step, smoothing, multi, dtype):
    plan, rng = some_plan(b, k, step), np.random.default_rng(step)
    weights = rng.integers(0, 2, (b, classes)) if multi or dtype == torch.int64 else rng.dirichlet(np.ones(classes), b)
    labels = torch.from_numpy(weights).to(dtype)
    before = labels.clone()
    targets = mix_targets(labels, plan, smoothing=smoothing)
    assert targets.dtype == torch.float32 and targets.shape == (b * k, classes)
    expected = reference.mix_targets(labels.numpy(), plan, smoothing=smoothing)
    np.testing.assert_allclose(targets.numpy(), expected, rtol=0, atol=1e-6)
    assert torch.equal(labels, before)
    assert torch.equal(targets, mix_targets(labels, plan, num_classes=classes, smoothing=smoothing))


def test_two_images_of_one_class_are_that_class():
    plan = some_plan(6, 2, mixer=MixUp)
    targets = mix_targets(torch.full((6,), 3), plan, num_classes=5)
    np.testing.assert_allclose(targets, np.tile(np.eye(5)[3], (12, 1)), rtol=0, atol=1e-7)


@given(**sizes, smoothing=smoothings)
def test_sparse_targets_say_what_dense_ones_say(b, k, classes, step, smoothing):
    plan = some_plan(b, k, step)
    labels = torch.randint(classes, (b,), generator=torch.Generator().manual_seed(step))
    index, weight = sparse_targets(labels, plan)
    assert index.dtype == torch.int64 and index.shape == weight.shape == (b * k, 2)
    np.testing.assert_array_equal(index[:, 0].reshape(b, k), np.repeat(labels.numpy()[:, None], k, 1))
    np.testing.assert_array_equal(index[:, 1].reshape(b, k), np.repeat(labels.numpy()[plan.partner][:, None], k, 1))
    dense = torch.zeros(b * k, classes, dtype=torch.float64).scatter_add_(1, index, weight.double())
    np.testing.assert_allclose(dense, reference.mix_targets(labels.numpy(), plan, classes), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("labels", "options", "error", "message"),
    [
        (torch.arange(4), {}, ValueError, "num_classes must be given for labels of shape"),
        (torch.arange(5), {"num_classes": 9}, ValueError, r"labels must have the plan's 4 rows, got shape \(5,\)"),
        (torch.arange(4), {"num_classes": 3}, ValueError, r"labels must be in \[0, num_classes = 3\), got 0 to 3"),
        (torch.tensor([0, -1, 0, 0]), {"num_classes": 3}, ValueError, "got -1 to 0"),
        (torch.arange(4), {"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
        (torch.arange(4.0), {"num_classes": 9}, TypeError, "labels of shape .* must be integers, got torch.float32"),
        (torch.ones(4, dtype=torch.bool), {"num_classes": 2}, TypeError, "must be integers, got torch.bool"),
        (torch.zeros(4, 2, 2), {"num_classes": 2}, ValueError, r"labels must be .* got shape \(4, 2, 2\)"),
        (torch.zeros(4, 3), {"num_classes": 2}, ValueError, "num_classes must be that of labels, 3, got 2"),
        (torch.arange(4), {"num_classes": 9, "smoothing": 1.0}, ValueError, r"smoothing must be in \[0, 1\), got 1.0"),
        (torch.arange(4), {"num_classes": 9, "smoothing": -0.1}, ValueError, "smoothing must be in"),
    ],
)
def test_bad_labels_are_refused_by_name(labels, options, error, message):
    with pytest.raises(error, match=message):
        mix_targets(labels, some_plan(4), **options)
