"""The training steps that ``mixstage bench multimix`` times: a model, SGD, and one form of the loss or cross-entropy."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mixops.embedding.teacher import EmaTeacher

from .multimix_losses import losses

STEPS: tuple[tuple[str, str | None, bool, float], ...] = (
    ("cross-entropy", None, False, 0.0), ("MultiMix", "literal", False, 0.0), ("MultiMix", "streamed", False, 0.0),
    ("dense", "literal", True, 0.0), ("dense", "streamed", True, 0.0),
    ("cross-entropy + teacher forward", None, False, 0.5), ("distilled", "literal", False, 0.5),
    ("distilled", "streamed", False, 0.5),
    ("dense, distilled", "literal", True, 0.5), ("dense, distilled", "streamed", True, 0.5),
)  # fmt: skip


class SmallNet(nn.Module):
    """A net of three convolutions for the CPU: images of 32 pixels to 4 x 4 positions of 128 channels."""

    def __init__(self, classes: int = 100) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        self.stages = nn.Sequential(*[
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(widths)
        ])  # fmt: skip
        self.fc = nn.Linear(128, classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The map before the average."""
        return self.stages(x)


def build(name: str, classes: int) -> tuple[nn.Module, str, int]:
    """A model with ``forward_features``, the name of its classifier, and the side of its images."""
    if name == "small":
        return SmallNet(classes), "fc", 32
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{name} needs timm: pip install 'mixstage[bench]'") from error
    model = timm.create_model(name, num_classes=classes)
    return model, "fc" if hasattr(model, "fc") else "head", 224


def training_step(
    device: torch.device, model_name: str, index: int, batch_size: int = 128, tuples: int = 1000
) -> Callable[[], None]:  # fmt: skip
    """One step of SGD: bfloat16 and channels-last on a GPU, float32 on the CPU."""
    torch.manual_seed(0)
    _, form, dense, distill = STEPS[index]
    model, classifier, size = build(model_name, 100 if model_name == "small" else 1000)
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = EmaTeacher(model) if distill else None
    head: Any = getattr(model, classifier)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images = torch.randn(batch_size, 3, size, size, device=device)
    if device.type == "cuda":
        images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(head.out_features, (batch_size,), device=device)
    loss = None if form is None else losses(head, tuples, dense, distill)[form]

    def embed(net: Any) -> Tensor:
        features = net.forward_features(images)
        if features.ndim == 4:
            features = features.flatten(2).mT  # (m, d, h, w) -> (m, r, d)
        elif net.num_prefix_tokens:
            features = features[:, net.num_prefix_tokens :] if dense else features[:, :1]
        return features if dense else features.mean(1)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            seen = None
            if teacher is not None:
                with torch.no_grad():
                    seen = embed(teacher), getattr(teacher, classifier)
            features = embed(model)
            value = F.cross_entropy(head(features), labels) if loss is None else loss(features, labels, seen)
        value.backward()
        optimizer.step()
        if teacher is not None:
            teacher.update(model)

    return step
