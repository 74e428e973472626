"""What becomes of a decoded batch: mixed, normalised and cast in one pass over the pixels, its targets, and its form.

    decoded  ->  augmented, where that was left for the device  ->  transform  ->  mixed, normalised, cast

The form is what people unpack: (images, targets), with ``ids`` behind them where they are asked for, or a dictionary with
the keys of Hugging Face's trainers. Several views of a batch are a tuple of images with one set of targets.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float32, Int64
from torch import Tensor

from mixops.apply.images import mix_images
from mixops.apply.targets import SparseTargets, mix_targets, sparse_targets
from mixops.augment.apply import augment_images
from mixops.plan import MixPlan
from mixops.runtime.devices import to_device

from .backends.base import Decoded
from .step import StepPlanner
from .transform import Transform, transform_rows


class NamedBatch(NamedTuple):
    """A batch with all that is known about it, ``batch="named"``.

    ``images`` and ``targets`` are as without it. ``labels`` int64 (b,) are the rows' own classes, those of their partners
    ``labels[plan.partner]``; ``ids`` (b,) are their samples. ``plan`` is None without a mixer.
    """

    images: Any
    targets: Tensor | SparseTargets
    labels: Int64[Tensor, " b"]
    ids: Int64[Tensor, " b"]
    plan: MixPlan | None


@dataclass(frozen=True, eq=False)
class Batch:
    """A finished batch: images (b * k, 3, h, w) of each view, targets or labels, own labels and samples (b,), the mix."""

    images: tuple[Tensor, ...]
    targets: Tensor | SparseTargets
    labels: Int64[Tensor, " b"]
    ids: Int64[Tensor, " b"]
    plan: MixPlan | None

    def tensors(self) -> Iterator[Tensor]:
        """All tensors that the training loop is given."""
        yield from self.images
        yield from (self.targets if isinstance(self.targets, tuple) else (self.targets,))
        yield self.labels


@dataclass(frozen=True, eq=False)
class Output:
    """What a loader's batches are like. ``labels`` are those of all samples, on the CPU.

    ``targets`` are "dense" (b * k, classes), or "sparse" pairs (index, weight) for ``soft_cross_entropy``. ``form`` is
    "tuple", "named" (``NamedBatch``) or "dict" with the keys ``pixel_values`` and ``labels``; with ``ids`` the samples are
    given, too.
    ``transform`` is the user's own function of the uint8 images and a generator.
    """

    labels: Int64[Tensor, " n"] | Float32[Tensor, "n classes"]
    num_classes: int
    device: torch.device
    mean: Sequence[float] | None
    std: Sequence[float] | None
    dtype: torch.dtype
    memory_format: torch.memory_format
    smoothing: float
    views: int = 1
    targets: Literal["dense", "sparse"] = "dense"
    form: Literal["tuple", "dict", "named"] = "tuple"
    ids: bool = False
    transform: Transform | None = None

    def finish(self, decoded: Decoded, planner: StepPlanner, *, eager: bool) -> Batch:
        """The batch, mixed and normalised on the loader's device.

        Where the mix could not be drawn before the images were there, ``planner`` draws it now.
        """
        images, step = to_device(decoded.images, self.device), decoded.plan
        if decoded.augment is not None:
            images = augment_images(images, decoded.augment)
        images = images.permute(0, 3, 1, 2)  # (b, h, w, 3) -> (b, 3, h, w), a view
        if self.transform is not None:
            images = transform_rows(self.transform, images, planner.groups(step.epoch, step.step), self.views)
        plan = planner.mix(step.epoch, step.step, images) if planner.looks_at_images else step.mix
        mixed = mix_images(
            images, plan, mean=self.mean, std=self.std, dtype=self.dtype, memory_format=self.memory_format,
            backend="eager" if eager and not images.is_cuda else None,
        )  # fmt: skip
        ids = torch.from_numpy(step.ids[: len(step.ids) // self.views])
        labels = to_device(self.labels[ids], images.device)
        if plan is not None and self.views > 1:
            plan = plan.rows(len(labels))
        return Batch(mixed.chunk(self.views), self._targets(labels, plan), labels, ids, plan)

    def shown(self, batch: Batch) -> Any:
        """The batch in the form that the training loop gets."""
        images = batch.images[0] if self.views == 1 else batch.images
        if self.form == "named":
            return NamedBatch(images, batch.targets, batch.labels, batch.ids, batch.plan)
        if self.form == "dict":
            named = {"pixel_values": images, "labels": batch.targets}
            return named | {"ids": batch.ids} if self.ids else named
        return (images, batch.targets, batch.ids) if self.ids else (images, batch.targets)

    def _targets(self, labels: Tensor, plan: MixPlan | None) -> Tensor | SparseTargets:
        if plan is None:
            return labels
        if self.targets == "sparse":
            return sparse_targets(labels, plan)
        targets: Tensor = mix_targets(labels, plan, num_classes=self.num_classes, smoothing=self.smoothing)
        return targets
