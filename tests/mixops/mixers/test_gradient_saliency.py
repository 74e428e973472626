"""Saliency from an extra backward: its values, and that it leaves no trace in a training loop."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from torch import nn

from mixops.mixers.saliency.gradient import gradient_saliency
from mixops.runtime.unwrap import unwrap


def network(seed: int = 0) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU(), nn.Dropout(0.5), nn.Conv2d(6, 4, 3, stride=2),
            nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(16, 5),
        )  # fmt: skip


@pytest.fixture
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(7, 3, 9, 11, generator=generator), torch.randint(5, (7,), generator=generator)


def snapshot(model: nn.Module) -> dict[str, torch.Tensor]:
    state = {f"value of {name}": value.detach().clone() for name, value in model.state_dict().items()}
    for name, parameter in model.named_parameters():
        state[f"gradient of {name}"] = torch.tensor(torch.nan) if parameter.grad is None else parameter.grad.clone()
    for name, part in model.named_modules():
        state[f"training of {name}"] = torch.tensor(part.training)
    return state


def assert_same(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    assert before.keys() == after.keys()
    for name, value in before.items():
        np.testing.assert_array_equal(value.numpy(), after[name].numpy(), err_msg=name)


def test_equals_the_authors_formula_image_by_image(batch):
    images, labels = batch
    model = network().double()
    saliency = gradient_saliency(model, images.double(), labels)
    assert saliency.shape == (7, 9, 11) and saliency.dtype == torch.float32
    reference = copy.deepcopy(model).eval()
    x = images.double().requires_grad_()
    nn.functional.cross_entropy(reference(x), labels).backward()
    expected = x.grad.square().mean(1).sqrt()
    for found, wanted in zip(saliency.double(), expected, strict=True):
        torch.testing.assert_close(found / found.sum(), wanted / wanted.sum(), rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("mode", ["train", "eval", "frozen"])
def test_leaves_no_trace(batch, mode):
    images, labels = batch
    model = network()
    model.train(mode != "eval")
    if mode == "frozen":
        model[1].eval()  # one part trains otherwise than the rest
        model[0].requires_grad_(False)
    else:
        nn.functional.cross_entropy(model(images), labels).backward()  # gradients that must survive
    before, random = snapshot(model), torch.get_rng_state()
    kept = images.clone()
    gradient_saliency(model, images, labels)
    assert_same(before, snapshot(model))
    assert torch.equal(random, torch.get_rng_state())
    assert torch.equal(images, kept) and images.grad is None


def test_leaves_no_trace_where_evaluation_has_side_effects(batch):
    class Counting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear = nn.Linear(3 * 9 * 11, 5)
            self.register_buffer("calls", torch.zeros(1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return self.linear(nn.functional.dropout(x.flatten(1), training=True))

    model = Counting()
    before, random = snapshot(model), torch.get_rng_state()
    gradient_saliency(model, *batch)
    assert_same(before, snapshot(model))
    assert torch.equal(random, torch.get_rng_state())


def test_flags_come_back_after_an_error(batch):
    model = network().train()
    model[3].eval()
    before = snapshot(model)
    with pytest.raises(RuntimeError):
        gradient_saliency(model, batch[0][:, :2], batch[1])
    assert_same(before, snapshot(model))


def test_in_a_training_step_changes_nothing(batch):
    images, labels = batch
    weights = []
    for extra in (False, True):
        torch.manual_seed(0)
        model = network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        for _ in range(3):
            optimizer.zero_grad()
            if extra:
                gradient_saliency(model, images, labels)
            nn.functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        weights.append(snapshot(model))
    assert_same(*weights)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_under_autocast(batch, dtype):
    images, labels = batch
    model = network()
    exact = gradient_saliency(model, images, labels)
    with torch.autocast("cpu", dtype):
        before = model(images).dtype
        rough = gradient_saliency(model, images, labels)
        loss = nn.functional.cross_entropy(model(images), labels)  # the step itself, under the same autocast
    loss.backward()
    assert before == dtype and rough.dtype == torch.float32
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in model.parameters())
    shares = [s.flatten(1) / s.flatten(1).sum(1, keepdim=True) for s in (exact, rough)]
    assert (shares[0] - shares[1]).abs().sum(1).max() < 0.1


def test_a_confident_model_does_not_underflow_in_half_precision(batch):
    images, _ = batch
    model = network().eval()
    with torch.no_grad():
        model[-1].bias[0] += 18
        doubt = model(images).softmax(1)[:, 1:].max()
    assert 0 < doubt / len(images) < torch.finfo(torch.float16).smallest_normal / 1024, "or half precision would do"
    labels = torch.zeros(len(images), dtype=torch.long)
    with torch.autocast("cpu", torch.float16):
        saliency = gradient_saliency(model, images, labels)
    assert (saliency.flatten(1).sum(1) > 0).all()


def test_no_dependence_gives_zeros(batch):
    images, labels = batch
    saliency = gradient_saliency(network(), images, labels, loss=lambda logits, labels: logits.sum() * 0)
    assert not saliency.any()


def test_soft_labels_and_other_losses(batch):
    images, labels = batch
    model = network()
    soft = nn.functional.one_hot(labels, 5).float()
    torch.testing.assert_close(gradient_saliency(model, images, soft), gradient_saliency(model, images, labels))
    total = gradient_saliency(model, images, labels, loss=lambda x, y: nn.functional.cross_entropy(x, y, reduction="sum"))
    torch.testing.assert_close(total, gradient_saliency(model, images, labels))


def test_inside_distributed_data_parallel(batch, tmp_path):
    images, labels = batch
    torch.distributed.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        model = network()
        wrapped = nn.parallel.DistributedDataParallel(copy.deepcopy(model))
        passes: list[int] = []
        wrapped.register_forward_hook(lambda *_: passes.append(1))
        for turn in range(2):  # a reducer that was left waiting raises in the next forward pass
            saliency = gradient_saliency(wrapped, images, labels)
            assert len(passes) == turn, "the wrapper broadcasts buffers and waits for gradients: leave it out"
            torch.testing.assert_close(saliency, gradient_saliency(model, images, labels))
            torch.manual_seed(1)
            nn.functional.cross_entropy(wrapped(images), labels).backward()
            torch.manual_seed(1)
            nn.functional.cross_entropy(model(images), labels).backward()
        for found, wanted in zip(wrapped.module.parameters(), model.parameters(), strict=True):
            torch.testing.assert_close(found.grad, wanted.grad)
    finally:
        torch.distributed.destroy_process_group()


def test_wrappers_are_taken_off(batch):
    model = network()
    compiled = torch.compile(nn.DataParallel(model), backend="eager")
    assert unwrap(compiled) is model
    torch.testing.assert_close(gradient_saliency(compiled, *batch), gradient_saliency(model, *batch))


def test_bad_arguments(batch):
    images, labels = batch
    with pytest.raises(TypeError, match=r"images must be floating as the model takes them, got torch\.uint8"):
        gradient_saliency(network(), images.byte(), labels)
    with pytest.raises(ValueError, match=r"images must have shape \(b, c, h, w\), got \(3, 9, 11\)"):
        gradient_saliency(network(), images[0], labels)

    class Pair(nn.Module):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            return x, x

    with pytest.raises(TypeError, match="model must return a tensor of logits, got tuple"):
        gradient_saliency(Pair(), images, labels)
