"""PreActResNet-18, which the papers train on CIFAR, and a small one of the same blocks for two CPU cores.

Both say ``maps`` (the last feature map), ``embed`` (its mean, or dense the map) and ``fc``, which is what mixing inside the
model asks for; the stages are children, which ManifoldMix mixes behind.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class PreActBlock(nn.Module):
    """Two convolutions of 3 x 3, each behind its normalisation and ReLU (arXiv 1603.05027)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.bn1, self.conv1 = nn.BatchNorm2d(channels_in), nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.bn2, self.conv2 = nn.BatchNorm2d(channels), nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.shortcut = None
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """The block's output."""
        first = F.relu(self.bn1(x))
        passed = x if self.shortcut is None else self.shortcut(first)
        return self.conv2(F.relu(self.bn2(self.conv1(first)))) + passed


class PreActResNet(nn.Module):
    """A convolution of ``stem`` channels, then stages of ``blocks`` blocks, each (channels, stride)."""

    def __init__(self, classes: int, stem: int, stride: int, stages: Sequence[tuple[int, int]], blocks: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, stem, 3, stride, 1, bias=False)
        self.stages = [f"stage{number + 1}" for number in range(len(stages))]
        channels = stem
        for name, (width, first) in zip(self.stages, stages, strict=True):
            layers = [PreActBlock(channels, width, first), *(PreActBlock(width, width, 1) for _ in range(blocks - 1))]
            self.add_module(name, nn.Sequential(*layers))
            channels = width
        self.last = nn.Sequential(nn.BatchNorm2d(channels), nn.ReLU())
        self.fc = nn.Linear(channels, classes)

    def maps(self, x: Tensor) -> Tensor:
        """The last feature map (b, d, h, w)."""
        x = self.stem(x)
        for name in self.stages:
            x = self.get_submodule(name)(x)
        return self.last(x)

    def embed(self, x: Tensor, dense: bool = False) -> Tensor:
        """What the classifier takes: the mean of the last map, or dense, the map."""
        return self.maps(x) if dense else self.maps(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.fc(self.embed(x))


def network(name: str, classes: int) -> PreActResNet:
    """ "preact18" or "small". Raises ``ValueError`` for another name."""
    if name == "preact18":
        return PreActResNet(classes, 64, 1, ((64, 1), (128, 2), (256, 2), (512, 2)), blocks=2)
    if name == "small":  # 0.3 million weights; 5 million multiply-adds an image; the last map has 2 x 2 positions
        return PreActResNet(classes, 16, 2, ((32, 2), (64, 2), (128, 2)), blocks=1)
    raise ValueError(f"network must be 'preact18' or 'small', got {name!r}")
