"""The stages that augment and mix: they read the key or plan of the batch from the thread that runs them.

FFCV has no place for K outputs of one sample: a stage sees (batch, *shape). The K images are therefore stacked, one below
the other, into one image of height K * h, and the K targets into one row of K * classes, so that FFCV's own ``ToTensor``,
``ToDevice``, ``ToTorchImage``, ``Convert`` and ``NormalizeImage`` can follow; the loader takes them apart again by a view.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.operation import Operation
from ffcv.pipeline.state import State

from mixops.apply.images import mix_images
from mixops.apply.normalisation import check_values, scale_and_bias
from mixops.apply.targets import check_smoothing, mix_targets
from mixops.augment.apply import augment_images
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD, as_augmentation
from mixops.augment.policies.base import RGB
from mixops.runtime.checks import check_count, check_numbers, check_type, shown

from .batch import running_batch


class MixStage(Operation):
    """What the stages share: the number of outputs, which the loader sets before FFCV asks for shapes."""

    interpolations: int | None = None

    def outputs(self) -> int:
        """K. Raises ``ValueError`` outside a ``MixLoader``."""
        if self.interpolations is None:
            name = type(self).__name__
            raise ValueError(f"pipelines must be given to a MixLoader if they hold {name}, got an ffcv.Loader")
        return self.interpolations


class AugmentImage(MixStage):
    """Augments a batch of images with Pillow's bytes, in place, as ``ImageLoader(augment=...)`` does.

    ``augment`` is a policy, one of timm's strings, or a list of these with erasing last, drawn from ``Key(seed, epoch,
    step)`` for the rows of the global batch: an ``ImageLoader`` of equal seed and batch size draws the same. Stands behind
    the decoder, before ``MixImage``, on uint8 (h, w, 3): arrays and CPU tensors, or behind ``ToDevice`` CUDA tensors.
    ``mean`` and ``std`` are the data's, on the scale [0, 1]: what erased boxes show. Raises ``ValueError`` or ``TypeError``
    naming the argument.
    """

    def __init__(self, augment: Any, mean: RGB = IMAGENET_MEAN, std: RGB = IMAGENET_STD) -> None:
        super().__init__()
        augmentation = as_augmentation(augment)
        if augmentation is None:
            raise TypeError("augment must be a policy, one of timm's strings or a list of these, got None")
        self.augmentation = augmentation
        self.colours: Any = check_numbers("mean", mean, length=3), check_numbers("std", std, length=3)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery | None]:
        self.outputs()
        shape, dtype = tuple(previous_state.shape), previous_state.dtype
        if len(shape) != 3 or shape[-1] != 3 or dtype not in (torch.uint8, np.uint8):
            raise ValueError(f"AugmentImage must follow stages that make uint8 (h, w, 3), got {dtype} {shape}")
        return replace(previous_state, jit_mode=False), None

    def generate_code(self) -> Callable[..., Any]:
        """FFCV calls this several times an epoch: the function holds nothing that changes."""

        def augment(images: Any, _: Any) -> Any:
            batch = running_batch()
            plan = self.augmentation.draw(batch.key, batch.rows, images.shape[1:3], *self.colours)
            return augment_images(images, plan, out=images)

        return augment


class MixImage(MixStage):
    """Mixes a batch of images by the plan of the loader's mixer; normalises and casts in the same pass.

    Stands anywhere after the decoder, in the place of FFCV's ``ImageMixup`` and ``NormalizeImage``: on arrays and CPU
    tensors (h, w, c), behind ``ToDevice`` on CUDA tensors, behind ``ToTorchImage`` on (c, h, w). An array becomes an
    array, a tensor a tensor of the same layout, channels last in memory. ``mean`` and ``std`` are those of pixels on the
    scale [0, 1] (FFCV's are on [0, 255]). ``dtype`` is float32 for normalised uint8 images by default, else that of the
    images; uint8 results are rounded.
    """

    def __init__(
        self, mean: Sequence[float] | None = None, std: Sequence[float] | None = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if (mean is None) != (std is None):
            raise ValueError(f"mean and std must be given together, got mean={shown(mean)}, std={shown(std)}")
        if mean is not None:
            mean, std = check_values("mean", mean), check_values("std", std)
            scale_and_bias(mean, std, 1.0, max(len(mean), len(std)))  # its errors now, not in the epoch's thread
        if dtype is not None:
            check_type("dtype", dtype, torch.dtype, "a torch dtype or None")
            if not dtype.is_floating_point and dtype != torch.uint8:
                raise TypeError(f"dtype must be floating or torch.uint8, got {dtype}")
        self.mean, self.std, self.dtype = mean, std, dtype

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        k, shape = self.outputs(), tuple(int(side) for side in previous_state.shape)
        if len(shape) != 3:
            raise ValueError(f"MixImage must follow stages that make images of three axes, got shape {shape}")
        array = not isinstance(previous_state.dtype, torch.dtype)
        source = _torch_dtype(previous_state.dtype) if array else previous_state.dtype
        result = self.dtype or (torch.float32 if self.mean is not None and source == torch.uint8 else source)
        self.array = array
        self.planes = not array and shape[-1] not in (1, 3, 4) and shape[0] in (1, 3, 4)
        h, w, c = (*shape[1:], shape[0]) if self.planes else shape
        self.height, self.width = h, w
        if array and result == torch.bfloat16:
            raise ValueError("dtype must not be bfloat16 for arrays, NumPy has none: put ToTensor() before MixImage")
        stacked = (c, k * h, w) if self.planes else (k * h, w, c)
        dtype = torch.empty(0, dtype=result).numpy().dtype if array else result
        memory = AllocationQuery((k * h, w, c), result, previous_state.device)
        return replace(previous_state, jit_mode=False, shape=stacked, dtype=dtype), memory

    def generate_code(self) -> Callable[..., Any]:
        """FFCV calls this several times an epoch: the function holds nothing that changes."""

        def mix(images: Any, out: torch.Tensor) -> Any:
            x = torch.from_numpy(images) if self.array else images
            x = x.permute(0, 2, 3, 1) if self.planes else x  # (b, c, h, w) -> (b, h, w, c)
            b, h, w, c = x.shape
            plan = running_batch().draw(h, w, x.permute(0, 3, 1, 2))
            target = out.view(b * plan.interpolations, h, w, c)
            mix_images(x, plan, mean=self.mean, std=self.std, dtype=out.dtype, layout="NHWC", out=target)
            out = out.permute(0, 3, 1, 2) if self.planes else out
            return out.numpy() if self.array else out

        return mix


class MixLabel(MixStage):
    """Makes the float32 targets (classes) of mixed images from integer labels, or from soft ones (classes).

    Stands after the label's decoder, before or behind ``ToTensor`` and ``ToDevice``. ``smoothing`` as in ``mix_targets``.
    Labels of one class add.
    """

    def __init__(self, num_classes: int, smoothing: float = 0.0) -> None:
        super().__init__()
        self.num_classes, self.smoothing = check_count("num_classes", num_classes), check_smoothing(smoothing)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, AllocationQuery]:
        self.array = not isinstance(previous_state.dtype, torch.dtype)
        shape = (self.outputs() * self.num_classes,)
        dtype = np.dtype(np.float32) if self.array else torch.float32
        memory = AllocationQuery(shape, torch.float32, previous_state.device)
        return replace(previous_state, jit_mode=False, shape=shape, dtype=dtype), memory

    def generate_code(self) -> Callable[..., Any]:
        """FFCV calls this several times an epoch: the function holds nothing that changes."""

        def mix(labels: Any, out: torch.Tensor) -> Any:
            y = torch.from_numpy(labels) if self.array else labels
            plan = running_batch().plan
            if plan is None:
                raise RuntimeError("no MixImage has run before MixLabel")
            y = y if y.is_floating_point() else y.reshape(len(y))
            targets = mix_targets(y, plan, num_classes=self.num_classes, smoothing=self.smoothing)
            targets = targets.view(out.shape)  # (b * k, classes) -> (b, k * classes)
            if out.is_cuda:
                return out.copy_(targets)
            np.copyto(out.numpy(), targets.numpy())  # torch's copy would wake OpenMP threads, and they spin
            return out.numpy() if self.array else out

        return mix


def _torch_dtype(dtype: Any) -> torch.dtype:
    return torch.from_numpy(np.empty(0, dtype)).dtype
