"""Applies an augmentation plan to images: the one place where its executor is chosen."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..runtime.checks import check_array, check_choice, check_type
from ..runtime.devices import has_triton
from ..runtime.uncompiled import uncompiled
from .plan import AugmentPlan

Backend = Literal["eager", "numba", "triton"]


@uncompiled
def augment_images(images: Any, plan: AugmentPlan, *, out: Any = None, backend: Backend | None = None) -> Any:
    """Does to each image what the plan says, with Pillow's bytes.

    ``images`` uint8 (b, h, w, 3), torch or NumPy, are not modified unless ``out`` is ``images``; the result is of the same
    kind, shape and device. ``out`` receives it and is contiguous. ``backend`` is by default "triton" on CUDA, on the current
    stream, and "numba" on the CPU, or "eager": Pillow's own functions, which are the reference. Raises ``ValueError`` or
    ``TypeError`` naming the argument, ``ImportError`` where Triton is not installed.
    """
    if backend is not None:
        check_choice("backend", backend, get_args(Backend))
    check_type("plan", plan, AugmentPlan, "an AugmentPlan")
    if isinstance(images, Tensor):
        check_array("images", images)
        if out is not None and not isinstance(out, Tensor):
            raise TypeError(f"out must be a torch tensor like images, got {type(out).__name__}")
        if images.device.type == "cuda" or backend == "triton":
            return _on_device(images, plan, out, backend)
        if images.device.type != "cpu":
            raise ValueError(f"images must be on the CPU or a CUDA device, got {images.device}")
        if out is not None and out.device.type != "cpu":
            raise ValueError(f"out must be on the CPU like images, got {out.device}")
        buffer = None if out is None else check_array("out", out).detach().numpy()
        done = augment_images(images.detach().numpy(), plan, out=buffer, backend=backend)
        return torch.from_numpy(done) if out is None else out
    if not isinstance(images, np.ndarray):
        raise TypeError(f"images must be a torch tensor or NumPy array, got {type(images).__name__}")
    if backend == "triton":
        raise ValueError("backend must be 'eager' or 'numba' for NumPy images, got 'triton'")
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
    from ..kernels.augment.cpu import augment as augment_in_place

    result = np.array(images, order="C") if out is None else _fill(out, images)
    augment_in_place(result, plan)
    return result


def _on_device(images: Tensor, plan: AugmentPlan, out: Tensor | None, backend: Backend | None) -> Tensor:
    """The same with Triton's kernels, which read one tensor and write another."""
    if backend not in (None, "triton"):
        raise ValueError(f"backend must be 'triton' for images on {images.device}, got {backend!r}")
    shape = (plan.batch_size, plan.height, plan.width, 3)
    for name, x in (("images", images), ("out", images if out is None else out)):
        if x.dtype != torch.uint8 or x.shape != shape:
            raise ValueError(f"{name} must be uint8 {shape} as the plan says, got {x.dtype} {tuple(x.shape)}")
    if out is not None and out.device != images.device:
        raise ValueError(f"out must be on {images.device} like images, got {out.device}")
    if out is not None and not out.is_contiguous():
        raise ValueError("out must be contiguous and writeable")
    if not has_triton():
        raise ImportError("augmentation on CUDA needs Triton: pip install triton")
    from ..kernels.augment.launch import augment, runs_on

    if not runs_on(images.device):
        raise ValueError(f"backend must be 'eager' or 'numba' for images on {images.device}, got 'triton'")
    result = torch.empty(shape, dtype=torch.uint8, device=images.device) if out is None else out
    source = images.contiguous()
    shared = source.untyped_storage().data_ptr() == result.untyped_storage().data_ptr()
    augment(source.clone() if shared else source, plan, result)
    return result


def _fill(out: np.ndarray, images: np.ndarray) -> np.ndarray:
    if out is not images:
        out[...] = images
    return out
