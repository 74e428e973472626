"""The MultiMix benchmark: its contestants compute one loss, and its memory is what a call holds at most."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import nn

from loaders.bench.multimix import loss_report
from loaders.bench.multimix_losses import FORMS, Case, losses
from loaders.bench.multimix_step import STEPS, training_step
from loaders.bench.peak_memory import peak_memory

CPU = torch.device("cpu")
MIB = 2**20


@pytest.mark.parametrize("dense", [False, True])
@pytest.mark.parametrize("distill", [0.0, 0.5])
def test_the_forms_are_one_loss(dense: bool, distill: float) -> None:
    """*literal* and *plain* take the same draw of torch's; *streamed* has its own, and many tuples agree in the mean."""
    torch.manual_seed(0)
    head, teacher = nn.Linear(6, 5), nn.Linear(6, 5)
    shape = (4, 3, 6) if dense else (4, 6)
    features, labels = torch.randn(shape).relu(), torch.tensor([0, 4, 2, 2])
    seen = (torch.randn(shape).relu(), teacher) if distill else None
    values = {}
    for form, loss in losses(head, 20_000, dense, distill).items():
        torch.manual_seed(1)
        values[form] = loss(features, labels, seen).item()
    assert values["plain"] == pytest.approx(values["literal"], rel=1e-5)
    assert values["streamed"] == pytest.approx(values["literal"], rel=0.01)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])  # of a transformer's last norm, of a convolution
def test_the_forms_train_under_autocast(form: str, dtype: torch.dtype) -> None:
    features = torch.randn(4, 3, 6).relu().to(dtype).requires_grad_()
    head, teacher = nn.Linear(6, 5), nn.Linear(6, 5)
    with torch.autocast("cpu", torch.bfloat16):
        loss = losses(head, 50, True, 0.5)[form](features, torch.tensor([0, 4, 2, 2]), (features.detach(), teacher))
    loss.backward()
    assert features.grad is not None and features.grad.dtype == dtype
    assert torch.isfinite(features.grad).all()


def test_the_table_of_the_loss() -> None:
    report = loss_report(1, CPU, (Case(2, 8, 4, samples=4, tuples=8),))
    assert [(row[0], row[1]) for row in report.rows] == [("r=2 d=8 c=4", form) for form in FORMS]
    assert report.rows[0][3] == (1.0, 1.0, 1.0) and all(row[2].median > 0 for row in report.rows)


@pytest.mark.parametrize("index", range(len(STEPS)), ids=lambda i: f"{STEPS[i][0]} {STEPS[i][1]}")
def test_every_step_trains(index: int) -> None:
    training_step(CPU, "small", index, batch_size=4)()


def allocate(device: torch.device, mib: int) -> Callable[[], None]:
    held = torch.ones(64 * MIB, dtype=torch.uint8)

    def call() -> None:
        torch.ones(mib * MIB, dtype=torch.uint8).add_(held[0])

    return call


@pytest.mark.nightly
def test_memory_is_what_a_call_holds() -> None:
    """What is held before the call, and what the process needs to start, does not count."""
    peak = peak_memory(allocate, (100,), CPU, torch.get_num_threads)
    assert 100 * MIB <= peak < 130 * MIB
