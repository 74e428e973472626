"""A short training loop over two ImageLoaders: what ``mixstage demo`` and ``mixstage train`` share.

SGD with Nesterov momentum under a one-cycle schedule; the loss takes class numbers and mixed targets alike, so mixing or not
is a matter of the loader alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from ..image_loader import ImageLoader

_PARTS = ("loader", "model", "optimizer", "schedule")  # the loader first: it says best what differs


@dataclass(frozen=True)
class TrainingResult:
    """Test accuracy in [0, 1], source images per second and seconds spent in training, test runs not counted."""

    accuracy: float
    images_per_second: float
    seconds: float


class Training:
    """A model, its optimizer and schedule, and the loader that they are trained from: one run of ``epochs``."""

    def __init__(
        self, model: nn.Module, loader: ImageLoader, *, epochs: int, lr: float = 0.1, weight_decay: float = 5e-4
    ) -> None:
        self.loader = loader
        self.model = model.to(loader.device).to(memory_format=torch.channels_last)
        self.optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
        self.schedule = torch.optim.lr_scheduler.OneCycleLR(self.optimizer, lr, total_steps=epochs * len(loader) + 1)

    def epoch(self, on_step: Callable[[], None]) -> float:
        """Trains for an epoch and returns the mean loss; ``on_step`` is called after each step."""
        self.model.train()
        total, steps = torch.zeros((), device=self.loader.device), 0
        for images, targets in self.loader:
            loss = cross_entropy(self.model(images), targets)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.optimizer.step()
            self.schedule.step()
            total += loss.detach()
            steps += 1
            on_step()
        return total.item() / steps

    def state_dict(self) -> dict[str, Any]:
        """All that the rest of the run depends on."""
        parts = {name: getattr(self, name).state_dict() for name in _PARTS}
        cuda = torch.cuda.get_rng_state_all() if self.loader.device.type == "cuda" else []
        return {**parts, "generators": [torch.get_rng_state(), *cuda]}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on where ``state`` was taken. Raises ``ValueError`` naming what differs."""
        for name in _PARTS:
            getattr(self, name).load_state_dict(state[name])
        first, *cuda = state["generators"]
        torch.set_rng_state(first)
        if self.loader.device.type == "cuda" and len(cuda) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(cuda)


def fit(
    model: nn.Module, train: ImageLoader, test: ImageLoader, *, epochs: int, on_step: Callable[[], None] = lambda: None
) -> TrainingResult:
    """Trains ``model`` on the loaders' device for ``epochs`` and tests it; ``on_step`` is called after each step."""
    training = Training(model, train, epochs=epochs)
    start = time.perf_counter()
    for _ in range(epochs):
        training.epoch(on_step)
    seconds = time.perf_counter() - start
    return TrainingResult(evaluate(model, test), epochs * len(train) * train.batch_size / seconds, seconds)


@torch.inference_mode()
def evaluate(model: nn.Module, loader: ImageLoader) -> float:
    """Share of the loader's images whose class the model finds."""
    model.eval()
    right = seen = 0
    for images, labels in loader:
        right += int((model(images).argmax(1) == labels).sum())
        seen += len(labels)
    return right / seen


def small_net(classes: int, width: int = 16) -> nn.Sequential:
    """Three convolutions for images of about 32 pixels."""
    layers: list[nn.Module] = []
    channels = 3
    for factor in (1, 2, 4):
        layers += [
            nn.Conv2d(channels, width * factor, 3, padding=1, bias=False),
            nn.BatchNorm2d(width * factor),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(2),
        ]
        channels = width * factor
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes))
