"""Applies an augmentation plan to images: the one place where its executor is chosen."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from ..runtime.uncompiled import uncompiled
from .plan import AugmentPlan

Backend = Literal["eager", "numba"]


@uncompiled
def augment_images(images: Any, plan: AugmentPlan, *, out: Any = None, backend: Backend = "numba") -> Any:
    """Does to each image what the plan says, with Pillow's bytes.

    ``images`` uint8 (b, h, w, 3), torch on the CPU or NumPy, are not modified unless ``out`` is ``images``; the result is of
    the same kind and shape. ``out`` receives it and is contiguous. ``backend`` is "numba", or "eager": Pillow's own
    functions, which are the reference. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    if isinstance(images, Tensor):
        if images.device.type != "cpu":
            raise ValueError(f"images must be on the CPU, got {images.device}")
        if out is not None and not isinstance(out, Tensor):
            raise TypeError(f"out must be a torch tensor like images, got {type(out).__name__}")
        buffer = None if out is None else out.numpy()
        done = augment_images(images.numpy(), plan, out=buffer, backend=backend)
        return torch.from_numpy(done) if out is None else out
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a torch tensor or NumPy array, got {type(images).__name__}")
    shape = (plan.batch_size, plan.height, plan.width, 3)
    for name, array in (("images", images), ("out", images if out is None else out)):
        if not isinstance(array, np.ndarray) or array.dtype != np.uint8 or array.shape != shape:
            found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
            raise ValueError(f"{name} must be uint8 {shape} as the plan says, got {found}")
    if out is not None and not (out.flags.c_contiguous and out.flags.writeable):
        raise ValueError("out must be contiguous and writeable")
    if backend == "eager":
        from ..kernels.augment.eager import augment

        done = augment(images, plan)
        return done if out is None else _fill(out, done)
    if backend != "numba":
        raise ValueError(f"backend must be 'eager' or 'numba', got {backend!r}")
    from ..kernels.augment.cpu import augment as augment_in_place

    result = np.array(images, order="C") if out is None else _fill(out, images)
    augment_in_place(result, plan)
    return result


def _fill(out: np.ndarray, images: np.ndarray) -> np.ndarray:
    if out is not images:
        out[...] = images
    return out
