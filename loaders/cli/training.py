"""A short training loop over two ImageLoaders: what ``mixstage demo`` and ``mixstage train`` share.

SGD with Nesterov momentum under a one-cycle schedule; the loss takes class numbers and mixed targets alike, so mixing or not
is a matter of the loader alone.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.progress import Progress
from torch import nn
from torch.nn.functional import cross_entropy

from mixops.mixers.base import Mixer

from ..classes import check_same_classes
from ..image_loader import ImageLoader


@dataclass(frozen=True)
class TrainingResult:
    """Test accuracy in [0, 1], source images per second and seconds spent in training, test runs not counted."""

    accuracy: float
    images_per_second: float
    seconds: float


def fit(
    model: nn.Module,
    train: ImageLoader,
    test: ImageLoader,
    *,
    epochs: int,
    lr: float = 0.1,
    weight_decay: float = 5e-4,
    on_step: Callable[[], None] = lambda: None,
) -> TrainingResult:
    """Trains ``model`` on the loaders' device for ``epochs`` and tests it; ``on_step`` is called after each step."""
    model.to(train.device).to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(model.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=epochs * len(train) + 1)
    images_seen, start = 0, time.perf_counter()
    for _ in range(epochs):
        model.train()
        for images, targets in train:
            loss = cross_entropy(model(images), targets)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            images_seen += train.batch_size
            on_step()
    seconds = time.perf_counter() - start
    return TrainingResult(evaluate(model, test), images_seen / seconds, seconds)


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


def train_folder(
    root: Path, mixer: Mixer | None, model: str, epochs: int, batch_size: int, size: int, lr: float, seed: int,
    backend: str, out: Path | None,
) -> TrainingResult:  # fmt: skip
    """Trains ``model``, "small" or a torchvision model, on ``root/train`` and tests it on ``root/val`` or ``root/test``.

    Writes the weights to ``out`` where given. Raises ``ValueError`` naming what is missing, or the classes that differ.
    """
    held_out = next((root / name for name in ("val", "test") if (root / name).is_dir()), None)
    if not (root / "train").is_dir() or held_out is None:
        raise ValueError(f"root must hold train/ and val/ or test/, got {root}")
    options: dict[str, Any] = {"backend": backend, "size": size, "seed": seed}
    torch.manual_seed(seed)
    with (
        ImageLoader(root / "train", batch_size=batch_size, mixer=mixer, **options) as train,
        ImageLoader(held_out, batch_size=batch_size, split="val", **options) as test,
        Progress(*Progress.get_default_columns()) as progress,
    ):
        check_same_classes(train.classes, test.classes)
        net = small_net(train.num_classes) if model == "small" else _torchvision_model(model, train.num_classes)
        task = progress.add_task("training", total=epochs * len(train))
        result = fit(net, train, test, epochs=epochs, lr=lr, on_step=lambda: progress.advance(task))
    if out is not None:
        torch.save(net.state_dict(), out)
    return result


def _torchvision_model(name: str, classes: int) -> nn.Module:
    try:
        from torchvision.models import get_model, list_models
    except ImportError as error:
        raise ImportError(f"model {name!r} needs torchvision: pip install 'mixstage[torchvision]'") from error
    if name not in list_models():
        raise ValueError(f"model must be 'small' or a torchvision model such as 'resnet18', got {name!r}")
    net: nn.Module = get_model(name, num_classes=classes)
    return net
