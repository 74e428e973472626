"""The loss of what was said before: its mean over a box is RoIAlign's, its rows have the share of their box."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from mixops import CutMix, HistoryLoss, Key, MixPlan, RecursiveMix, Switch
from mixops.embedding.history_loss import box_weights


def plan_of(mixer=None, b: int = 5, side: int = 32, step: int = 1) -> MixPlan:
    return (mixer or RecursiveMix()).plan(Key(3, step=step), batch_size=b, height=side, width=side)


@pytest.mark.parametrize(("image", "side"), [(64, 4), (56, 7), (64, 8), (8, 8)])
def test_the_mean_over_a_box_is_that_of_roi_align(image, side):
    ops = pytest.importorskip("torchvision.ops")
    maps = torch.rand(64, 3, side, side, generator=torch.Generator().manual_seed(0))
    edges = np.sort(
        np.random.default_rng(0).integers(0, image + 1, (64, 2, 2)), 2
    )  # of a box of rows and one of columns, each row
    edges[0], edges[1], edges[2] = [[0, image], [0, image]], [[3, 3], [0, image]], [[0, 1], [image - 1, image]]
    rows, columns = (torch.from_numpy(box_weights(edges[:, axis], image, side)).float() for axis in (0, 1))
    found = torch.einsum("ndhw,nh,nw->nd", maps, rows, columns)
    boxes = torch.from_numpy(edges[:, [1, 0]].transpose(0, 2, 1).reshape(64, 4)).float()  # x0, y0, x1, y1
    boxes = torch.cat([torch.arange(64)[:, None], boxes], 1)
    expected = ops.roi_align(maps, boxes, output_size=1, spatial_scale=side / image, sampling_ratio=-1, aligned=True)
    torch.testing.assert_close(found, expected[:, :, 0, 0], rtol=0, atol=1e-5)
    torch.testing.assert_close(found[0], maps[0].mean((1, 2)), rtol=0, atol=1e-6)  # of the whole image: global pooling
    assert (found[1] == 0).all()


@pytest.mark.parametrize("mixer", [RecursiveMix(interpolations=2), Switch([RecursiveMix(), CutMix()])])
def test_the_loss_by_loops(mixer):
    plan = plan_of(mixer)
    b, k = plan.weight.shape
    generator = torch.Generator().manual_seed(0)
    maps, before = torch.rand(b * k, 4, 8, 8, generator=generator), torch.randn(b * k, 6, generator=generator)
    head = torch.nn.Linear(4, 6)
    total = 0.0
    for i, j in np.ndindex(b, k):
        if not plan.past[i]:
            continue
        y, x = (box_weights(plan.params[i, j : j + 1, low : low + 2], 32, 8)[0] for low in (2, 4))
        pooled = np.einsum("dhw,h,w->d", maps[i * k + j].double().numpy(), y, x)
        logits = head.weight.detach().double().numpy() @ pooled + head.bias.detach().double().numpy()
        said = before[plan.partner[i] * k].double().softmax(0).numpy()
        entropy = sum(p * (math.log(np.exp(logits).sum()) - value) for p, value in zip(said, logits, strict=True))
        total += 0.3 * (1 - plan.weight[i, j]) * entropy
    found = HistoryLoss(head, omega=0.3)(maps, plan, before)
    assert found.item() == pytest.approx(total / (b * k), abs=1e-6)


def test_gradients_go_to_maps_and_head_and_not_to_what_was_said():
    maps, before = torch.rand(5, 4, 8, 8, requires_grad=True), torch.randn(5, 6, requires_grad=True)
    loss = HistoryLoss(torch.nn.Linear(4, 6))
    loss(maps, plan_of(), before).backward()
    assert before.grad is None and maps.grad.abs().sum() > 0 and loss.head.weight.grad.abs().sum() > 0


def test_there_is_no_loss_without_a_past():
    maps = torch.rand(5, 4, 8, 8)
    loss = HistoryLoss(torch.nn.Linear(4, 6))
    assert loss(maps, plan_of(), None) == 0 and loss(maps, plan_of(step=32), torch.randn(5, 6)) == 0
    assert loss(maps, plan_of(CutMix()), torch.randn(5, 6)) == 0
    assert loss(maps, plan_of(RecursiveMix(prob=0.0)), torch.randn(5, 6)) == 0


def test_arguments_are_named():
    with pytest.raises(TypeError, match="head must be a module or function of features, got 3"):
        HistoryLoss(3)
    with pytest.raises(ValueError, match="omega must be"):
        HistoryLoss(torch.nn.Identity(), omega=-1)
    loss = HistoryLoss(torch.nn.Linear(4, 6))
    for maps in (torch.rand(4, 4, 8, 8), torch.rand(5, 4)):
        with pytest.raises(ValueError, match=r"maps must have shape \(5, d, h, w\) for this plan"):
            loss(maps, plan_of(), torch.randn(5, 6))
    with pytest.raises(ValueError, match="before must be the logits of at least 5 rows"):
        loss(torch.rand(5, 4, 8, 8), plan_of(), torch.randn(4, 6))
