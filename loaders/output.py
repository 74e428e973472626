"""What becomes of a decoded batch: mixed, normalised and cast in one pass over the pixels, its targets, and its form.

    decoded  ->  augmented, where that was left for the device  ->  transform  ->  mixed, normalised, cast

The form is what people unpack: (images, targets), with ``ids`` behind them where they are asked for, or a dictionary with
the keys of Hugging Face's trainers. Several views of a batch are a tuple of images with one set of targets, named crops a
dictionary of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from jaxtyping import Float32, Int64, UInt8
from torch import Tensor

from mixops.apply.images import mix_images
from mixops.apply.targets import SparseTargets, mix_targets, sparse_targets
from mixops.augment.apply import augment_images
from mixops.augment.plan import AugmentPlan
from mixops.plan import MixPlan
from mixops.runtime.devices import to_device

from .backends.base import Decoded
from .multi_crop import NamedCrops
from .segmentation import numbers, targets_of
from .step import StepPlan, StepPlanner
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
    """A finished batch: images (b * k, 3, h, w) of each view or name, targets, own labels and samples (b,), the mix."""

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
    ``transform`` is the user's own function of the uint8 images and a generator. ``named`` are several crops of each image.
    ``ignore_index`` is the number of pixels without a class where images have label maps, None where they have not.
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
    named: tuple[NamedCrops, ...] = ()
    ignore_index: int | None = None

    def finish(self, decoded: Decoded, planner: StepPlanner, *, eager: bool) -> Batch:
        """The batch, mixed and normalised on the loader's device.

        Where the mix could not be drawn before the images were there, ``planner`` draws it now.
        """
        step = decoded.plan
        batches = [
            self._pixels(images, augment, step, planner, nth)
            for nth, (images, augment) in enumerate([(decoded.images, decoded.augment), *decoded.more])
        ]
        maps = None if self.ignore_index is None else numbers(batches.pop(), self.ignore_index)
        plan = planner.mix(step.epoch, step.step, batches[0]) if planner.looks_at_images else step.mix
        mixed = [
            mix_images(
                images, plan, mean=self.mean, std=self.std, dtype=self.dtype, memory_format=self.memory_format,
                backend="eager" if eager and not images.is_cuda else None,
            )
            for images in batches
        ]  # fmt: skip
        ids = torch.from_numpy(step.ids[: len(step.ids) // self.views])
        labels = to_device(self.labels[ids], self.device) if maps is None else maps
        if plan is not None and self.views > 1:
            plan = plan.rows(len(labels))
        images = tuple(mixed) if self.named else mixed[0].chunk(self.views)
        return Batch(images, self._targets(labels, plan), labels, ids, plan)

    def _pixels(
        self, images: UInt8[Tensor, "n h w 3"], augment: AugmentPlan | None, step: StepPlan, planner: StepPlanner, nth: int
    ) -> UInt8[Tensor, "n 3 h w"]:
        """The ``nth`` batch of a step on the loader's device, with all that is done to it before it is mixed."""
        images = to_device(images, self.device)
        if augment is not None:
            images = augment_images(images, augment)
        images = images.permute(0, 3, 1, 2)  # (b, h, w, 3) -> (b, 3, h, w), a view
        if self.transform is None or step.shown[nth].of == "map":
            return images
        copies = self.named[nth].count if self.named else self.views
        return transform_rows(self.transform, images, planner.groups(step.epoch, step.step), copies, nth)

    def shown(self, batch: Batch) -> Any:
        """The batch in the form that the training loop gets."""
        images: Any = batch.images[0] if self.views == 1 else batch.images
        if self.named:
            images = {one.name: pixels for one, pixels in zip(self.named, batch.images, strict=True)}
        if self.form == "named":
            return NamedBatch(images, batch.targets, batch.labels, batch.ids, batch.plan)
        if self.form == "dict":
            named = {"pixel_values": images, "labels": batch.targets}
            return named | {"ids": batch.ids} if self.ids else named
        return (images, batch.targets, batch.ids) if self.ids else (images, batch.targets)

    def _targets(self, labels: Tensor, plan: MixPlan | None) -> Tensor | SparseTargets:
        if plan is None:
            return labels
        if self.ignore_index is not None:
            return targets_of(labels, plan, self.targets, self.num_classes, self.ignore_index)
        if self.targets == "sparse":
            return sparse_targets(labels, plan)
        targets: Tensor = mix_targets(labels, plan, num_classes=self.num_classes, smoothing=self.smoothing)
        return targets
