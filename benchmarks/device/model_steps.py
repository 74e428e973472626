"""The training steps in which something is mixed in the model or by what it says: SGD beside the step that mixes nothing.

A step takes float images that are there already. Its mix is drawn, made and trained on within it, on the stream of the
step, as in a training loop that mixes itself.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from loaders.bench.multimix_step import build
from mixops import HMix, Key, ManifoldMix, MixUp, OptimalMatching, mix_images, mix_targets
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.mixers.base import Mixer
from mixops.mixers.saliency.gradient import gradient_saliency
from mixops.mixers.saliency.puzzle import PuzzleMix

PLAIN, MANIFOLD, PUZZLE = "cross-entropy, targets of all classes", "ManifoldMix, one layer", "PuzzleMix, K=1"
_LAYERS = {"small": "stages.1", "resnet50": "layer2", "vit_small_patch16_224": "blocks.5"}


def puzzle(interpolations: int = 1, *, transport: bool = True, block_num: int = 16) -> PuzzleMix:
    """Puzzle-mix for normalised images with the most blocks that its authors have."""
    return PuzzleMix(std=IMAGENET_STD, interpolations=interpolations, transport=transport, block_num=block_num)


def mixed_steps(model_name: str, device: torch.device, batch_size: int, block_num: int) -> dict[str, Callable[[], None]]:
    """Steps by name, the first of which mixes nothing. They train one model, whose speed does not depend on its weights."""
    torch.manual_seed(0)
    model, classifier, size = build(model_name, 100 if model_name == "small" else 1000)
    model.to(device)
    images = normalised_images(batch_size, size, device)
    if device.type == "cuda":
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    classes = getattr(model, classifier).out_features
    labels = torch.randint(classes, (batch_size,), device=device)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    network, keys = _Network(model, classifier), (Key(step=step) for step in count())
    matching = min(16, batch_size // 2)
    forward: dict[str, Callable[[], tuple[Tensor, Tensor]]] = {
        PLAIN: lambda: (network(images), torch.nn.functional.one_hot(labels, classes).float()),
        "MixUp": lambda: _mixed(network, MixUp(), images, labels, next(keys), classes),
        "HMix": lambda: _mixed(network, HMix(), images, labels, next(keys), classes),
        f"k-mixup, k={matching}": lambda: _mixed(
            network, MixUp(matching=OptimalMatching(matching)), images, labels, next(keys), classes
        ),
        MANIFOLD: lambda: ManifoldMix(network, [f"model.{_LAYERS[model_name]}"], MixUp())(
            images, labels, key=next(keys), num_classes=classes
        ),
        PUZZLE: lambda: _puzzled(network, puzzle(block_num=block_num), images, labels, next(keys), classes),
    }

    def step(pair: Callable[[], tuple[Tensor, Tensor]]) -> Callable[[], None]:
        def run() -> None:
            optimizer.zero_grad()
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                logits, targets = pair()
                loss = cross_entropy(logits, targets)
            loss.backward()
            optimizer.step()

        return run

    return {name: step(pair) for name, pair in forward.items()}


def normalised_images(count: int, size: int, device: torch.device) -> Tensor:
    """Normalised images, channels-last."""
    images = torch.rand(count, 3, size, size, device=device)
    mean, std = (torch.tensor(values, device=device).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    return ((images - mean) / std).contiguous(memory_format=torch.channels_last)


class _Network(torch.nn.Module):
    """Features, their mean over positions, and the classifier."""

    def __init__(self, model: Any, classifier: str) -> None:
        super().__init__()
        self.model, self.classifier = model, classifier

    def forward(self, images: Tensor) -> Tensor:
        features = self.model.forward_features(images)
        features = features.mean((2, 3)) if features.ndim == 4 else features[:, 0]
        return getattr(self.model, self.classifier)(features)  # type: ignore[no-any-return]


def _mixed(
    network: _Network, mixer: Mixer, images: Tensor, labels: Tensor, key: Key, classes: int
) -> tuple[Tensor, Tensor]:  # fmt: skip
    mixed, targets = mixer(images, labels, key=key, num_classes=classes)
    return network(mixed), targets


def _puzzled(
    network: _Network, mixer: PuzzleMix, images: Tensor, labels: Tensor, key: Key, classes: int
) -> tuple[Tensor, Tensor]:  # fmt: skip
    plan = mixer.plan(key, images=images, saliency=gradient_saliency(network, images, labels))
    return network(mix_images(images, plan)), mix_targets(labels, plan, num_classes=classes)
