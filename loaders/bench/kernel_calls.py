"""The calls that ``mixstage bench kernels`` compares on CPU and GPU: this library's, torchvision's, timm's and kornia's.

Everybody gets the same batch of uint8 images in channels-last memory and makes normalised, mixed images of it. Each call
takes the next of several sets of buffers, together larger than the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count, cycle
from typing import Any

import torch
from torch import Tensor

from mixops import Key, mix_images, mix_targets
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.mixers.base import Mixer

CLASSES = 1000
SETS = 3
PEERS = ("torchvision", "timm", "kornia")
FORMATS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


def batches(batch: int, size: int, device: torch.device) -> list[Tensor]:
    """Sets of uint8 images, channels-last."""
    shape = (batch, 3, size, size)
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8).to(device).contiguous(memory_format=torch.channels_last)
        for _ in range(SETS)
    ]


def whole_call(mixer: Mixer, images: list[Tensor], labels: Tensor, backend: Any) -> Callable[[], object]:
    """What a training loop calls: plan, images and targets, into new memory."""
    b, _, h, w = images[0].shape
    sets, steps = cycle(images), count()

    def call() -> object:
        plan = mixer.plan(Key(0, step=next(steps)), batch_size=b, height=h, width=w)
        mixed = mix_images(next(sets), plan, mean=IMAGENET_MEAN, std=IMAGENET_STD, backend=backend)
        return mixed, mix_targets(labels, plan, num_classes=CLASSES)

    return call


def torchvision_call(mixer: str, images: list[Tensor], labels: Tensor) -> Callable[[], object]:
    """``ToDtype``, ``Normalize`` and ``MixUp`` or ``CutMix`` of torchvision's v2 transforms."""
    from torchvision.transforms import v2

    mix = (v2.MixUp if mixer == "MixUp" else v2.CutMix)(num_classes=CLASSES)
    prepare = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    sets = cycle(images)
    return lambda: mix(prepare(next(sets)), labels)


def timm_call(mixer: str, images: list[Tensor], labels: Tensor) -> Callable[[], object]:
    """timm's ``Mixup`` after the normalisation of its prefetcher."""
    from timm.data import Mixup

    alphas = {"mixup_alpha": 1.0, "cutmix_alpha": 0.0} if mixer == "MixUp" else {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}
    mix = Mixup(**alphas, label_smoothing=0.0, num_classes=CLASSES)
    mean, std = (
        torch.tensor([255 * value for value in values], device=labels.device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    sets = cycle(images)
    return lambda: mix(next(sets).float().sub_(mean).div_(std), labels)


def kornia_call(mixer: str, images: list[Tensor], labels: Tensor) -> Callable[[], object]:
    """kornia's ``RandomMixUpV2`` or ``RandomCutMixV2`` after its ``Normalize``."""
    from kornia import augmentation

    kind = augmentation.RandomMixUpV2 if mixer == "MixUp" else augmentation.RandomCutMixV2
    mix = kind(p=1.0, data_keys=["input", "class"])
    prepare = augmentation.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)).to(labels.device)
    sets = cycle(images)
    return lambda: mix(prepare(next(sets) / 255), labels)


CALLS = {"torchvision": torchvision_call, "timm": timm_call, "kornia": kornia_call}


def who_won(lost: Sequence[str], measured: Sequence[str]) -> str:
    """The sentence under a table that says what was faster than this package, of the paths that were measured."""
    if lost:
        return f"mixstage lost to {'; '.join(lost)}."
    if not any(path in PEERS for path in measured):
        return f"No other library was measured: none of {', '.join(PEERS)} is installed."
    return "mixstage lost to none of these."
