"""The loss of dense and of sparse targets, against loops in float64 and against torch."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support import reference
from torch.utils._python_dispatch import TorchDispatchMode

from mixops import CutMix, GMix, Key, mix_targets, soft_cross_entropy, sparse_targets


def some_plan(b, k=1, mixer=CutMix):
    return mixer(1.0, interpolations=k).plan(Key(1), batch_size=b, height=13, width=9)


@settings(max_examples=60)
@given(
    n=st.integers(1, 6), classes=st.integers(1, 8), arity=st.integers(1, 5), smoothing=st.sampled_from([0.0, 0.1, 0.5]),
    scale=st.sampled_from([1, 300]), whole=st.booleans(), seed=st.integers(0, 99),
)  # fmt: skip
def test_the_loss_is_one_for_dense_and_sparse_targets_of_any_arity(n, classes, arity, smoothing, scale, whole, seed):
    rng = torch.Generator().manual_seed(seed)
    logits = (torch.randn(n, classes, generator=rng, dtype=torch.float64) * scale).requires_grad_()
    index = torch.randint(classes, (n, arity), generator=rng)
    weight = torch.rand(n, arity, generator=rng, dtype=torch.float64)
    weight = weight / weight.sum(1, keepdim=True) if whole else weight
    dense = torch.zeros(n, classes, dtype=torch.float64).scatter_add_(1, index, weight)
    options = {"label_smoothing": smoothing, "reduction": "none"}
    sparse_loss = soft_cross_entropy(logits, (index, weight), **options)
    dense_loss = soft_cross_entropy(logits, dense, **options)
    smooth = (1 - smoothing) * dense + smoothing * dense.sum(1, keepdim=True) / classes
    expected = reference.soft_cross_entropy(logits.detach().numpy(), smooth.numpy())
    np.testing.assert_allclose(sparse_loss.detach(), expected, rtol=1e-12, atol=1e-12 * scale)
    np.testing.assert_allclose(dense_loss.detach(), expected, rtol=1e-12, atol=1e-12 * scale)
    (a,) = torch.autograd.grad(sparse_loss.sum(), logits)
    (b,) = torch.autograd.grad(dense_loss.sum(), logits)
    torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    if whole:
        theirs = torch.nn.functional.cross_entropy(logits, dense, **options)
        torch.testing.assert_close(dense_loss, theirs, rtol=1e-12, atol=1e-12 * scale)


def test_reductions():
    logits, targets = torch.randn(5, 3, generator=torch.Generator().manual_seed(0)), torch.eye(3)[[0, 1, 2, 0, 1]]
    each = soft_cross_entropy(logits, targets, reduction="none")
    assert each.shape == (5,)
    torch.testing.assert_close(soft_cross_entropy(logits, targets), each.mean())
    torch.testing.assert_close(soft_cross_entropy(logits, targets, reduction="sum"), each.sum())
    torch.testing.assert_close(each, torch.nn.functional.cross_entropy(logits, targets.argmax(1), reduction="none"))


class Largest(TorchDispatchMode):
    """Remembers the most elements that any operation's result had."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_sparse_targets_never_become_a_row_of_all_classes(smoothing):
    plan, labels, classes = some_plan(16), torch.arange(16), 21_000
    logits = torch.zeros(16, classes)
    with Largest() as largest:
        soft_cross_entropy(logits, sparse_targets(labels, plan), label_smoothing=smoothing)
    assert 0 < largest.elements <= 16 * 4
    with Largest() as dense:
        soft_cross_entropy(logits, mix_targets(labels, plan, num_classes=classes))
    assert dense.elements >= 16 * classes


def test_the_two_forms_of_smoothing_are_one():
    plan, labels = some_plan(9, 2, mixer=GMix), torch.arange(9) % 5
    logits = torch.randn(18, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    dense = soft_cross_entropy(logits, mix_targets(labels, plan, num_classes=5, smoothing=0.1))
    sparse = soft_cross_entropy(logits, sparse_targets(labels, plan), label_smoothing=0.1)
    torch.testing.assert_close(dense, sparse, rtol=1e-6, atol=1e-6)


def test_bad_arguments_of_the_loss_are_refused_by_name():
    logits = torch.zeros(4, 3)
    with pytest.raises(ValueError, match=r"targets must have the shape of logits \(4, 3\), got \(4, 2\)"):
        soft_cross_entropy(logits, torch.zeros(4, 2))
    with pytest.raises(ValueError, match=r"targets must be index and weight of one shape \(4, a\)"):
        soft_cross_entropy(logits, (torch.zeros(4, 2, dtype=torch.int64), torch.zeros(4, 1)))
    with pytest.raises(ValueError, match="reduction must be"):
        soft_cross_entropy(logits, logits, reduction="avg")
    with pytest.raises(ValueError, match="smoothing must be in"):
        soft_cross_entropy(logits, logits, label_smoothing=2.0)
