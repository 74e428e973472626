"""The digits and spiral examples: every variant trains, stays finite, and its memory is flat."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import pytest
import torch

EXAMPLES = Path(__file__).parents[2] / "examples"


def example(name):
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


digits = example("multimix_digits")


def resident():
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * 4096


def watch(variant, epochs):
    """Trains and returns the losses, the largest gradients, and the resident bytes after each epoch."""
    data, _ = digits.load()
    losses, gradients, memory = [], [], []

    def on_step(net, loss):
        losses.append(loss.item())
        gradients.append(max(p.grad.abs().max().item() for p in net.parameters()))
        if len(losses) % 10 == 0:
            memory.append(resident())

    net = digits.train(variant, data, epochs, 0, on_step)
    return net, losses, gradients, memory


@pytest.mark.parametrize(
    "variant", [v for v in digits.VARIANTS if "manifold" in v.name or "MultiMix" in v.name], ids=lambda v: v.name
)
def test_a_few_steps_of_every_variant_learn(variant):
    _, losses, gradients, _ = watch(variant, 1)
    assert len(losses) == 10 and all(map(math.isfinite, losses + gradients))
    assert losses[0] > 1.5 and min(losses[-3:]) < losses[0]


@pytest.mark.slow
@pytest.mark.parametrize("variant", digits.VARIANTS, ids=lambda v: v.name)
def test_a_thousand_steps_of_every_variant(variant):
    net, losses, gradients, memory = watch(variant, 100)
    assert len(losses) == 1000
    assert all(map(math.isfinite, losses)) and all(map(math.isfinite, gradients))
    assert max(gradients[500:]) < 10
    assert max(memory[50:]) - max(memory[10:50]) < 16 * 2**20  # flat: no more than allocator noise after the first hundred
    assert digits.evaluate(net, digits.load()[1]).accuracy > 95


def test_the_spiral_runs_and_draws(tmp_path, capsys):
    spiral = example("spiral")
    spiral.main(tmp_path / "s.png", epochs=2, seeds=1)
    assert (tmp_path / "s.png").stat().st_size > 10_000
    assert "manifold multi-mix, K = 5" in capsys.readouterr().out
    points = spiral.spirals(400, 0)
    inner, outer = (points.x[points.y == c] for c in (0, 1))
    assert torch.cdist(inner, outer).min(1).values.median() > 0.3  # the arms are apart by more than the noise


def test_the_digits_are_scored_and_drawn(tmp_path):
    data, held_out = digits.load()
    assert len(data.labels) + len(held_out.labels) == 1797
    assert abs(data.images.mean().item()) < 0.1 and abs(data.images.std().item() - 1) < 0.1
    torch.manual_seed(0)
    net = digits.Net()
    scores = digits.evaluate(net, held_out)
    assert 0 <= scores.accuracy <= 100 and 0 <= scores.ece <= 100 and scores.alignment > 0 > scores.uniformity
    digits.draw(tmp_path / "d.png", {"one": [scores, scores], "two": [scores, scores]})
    assert (tmp_path / "d.png").stat().st_size > 5_000
