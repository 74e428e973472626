"""What becomes of a decoded batch: mixed, normalised and cast in one pass over the pixels, and its targets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int64
from torch import Tensor

from mixops.apply.images import mix_images
from mixops.apply.targets import mix_targets
from mixops.runtime.devices import to_device

from .backends.base import Decoded
from .step import StepPlanner


@dataclass(frozen=True, eq=False)
class Output:
    """The form of a loader's batches. ``labels`` are those of all samples, on the CPU; ``eager`` blends by plain torch."""

    labels: Int64[Tensor, " n"]
    num_classes: int
    device: torch.device
    mean: Sequence[float] | None
    std: Sequence[float] | None
    dtype: torch.dtype
    memory_format: torch.memory_format
    smoothing: float

    def finish(self, decoded: Decoded, planner: StepPlanner, *, eager: bool) -> tuple[Tensor, Tensor]:
        """Images (b * k, 3, h, w) and targets (b * k, classes), or labels (b,) where nothing is mixed.

        Where the mix could not be drawn before the images were there, ``planner`` draws it now.
        """
        images, step = to_device(decoded.images, self.device), decoded.plan
        labels = to_device(self.labels[torch.from_numpy(step.ids)], images.device)
        images = images.permute(0, 3, 1, 2)  # (b, h, w, 3) -> (b, 3, h, w), a view
        plan = planner.mix(step.epoch, step.step, images) if planner.looks_at_images else step.mix
        mixed = mix_images(
            images, plan, mean=self.mean, std=self.std, dtype=self.dtype, memory_format=self.memory_format,
            backend="eager" if eager and not images.is_cuda else None,
        )  # fmt: skip
        if plan is None:
            return mixed, labels
        return mixed, mix_targets(labels, plan, num_classes=self.num_classes, smoothing=self.smoothing)
