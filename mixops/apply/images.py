"""Applies a plan to pixels: blend, normalise, cast and lay out in one pass, on whatever device the images are.

The one place where a kernel is chosen: Triton on CUDA, numba on CPU, plain torch for dtypes and shapes that those do not
take, for images that need a gradient, and for moved blocks. uint8 images are scaled by 1/255 when the result is floating
and stay uint8, rounded half to even, when it is not.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor

from ..plan import MixPlan
from ..runtime.buffers import empty
from ..runtime.devices import to_device
from ..runtime.uncompiled import uncompiled

Backend = Literal["eager", "numba", "triton"]
_LAYOUTS = ("NCHW", "NHWC")
_NUMBA_IN = (torch.uint8, torch.float32)
_FUSED_OUT = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
_TRITON_IN = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)


@uncompiled
def mix_images(
    images: Any,
    plan: MixPlan | None,
    *,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    dtype: torch.dtype | None = None,
    memory_format: torch.memory_format | None = None,
    layout: Literal["NCHW", "NHWC"] = "NCHW",
    out: Any = None,
    backend: Backend | None = None,
) -> Any:
    """Mixes a batch by its plan; row b * K + k of the result is output k of pair b.

    ``images`` (b, c, h, w), or (b, h, w, c) under ``layout="NHWC"``, torch or NumPy, uint8 or floating, are not modified;
    the result is (b * k, ...) of the same kind and layout. Masks that vary over the image fit (b, c, h, w),
    (b, c, t, h, w) and, from plans of height 1, (b, c, w); constant masks fit any (b, ...). ``mean`` and ``std``, one
    value a channel, normalise the result on the scale [0, 1]. ``dtype`` is that of the images by default, float32 for
    normalised uint8. ``memory_format`` is that of the images by default. ``out`` receives the result. ``plan=None`` mixes
    nothing and does the rest. ``backend`` forces "eager", "numba" or "triton". Raises ``ValueError`` or ``TypeError``
    naming the argument.
    """
    if isinstance(images, np.ndarray):
        if out is not None and not (isinstance(out, np.ndarray) and out.flags.writeable):
            raise TypeError(f"out must be a writable NumPy array like images, got {type(out).__name__}")
        buffer = None if out is None else torch.from_numpy(out)
        mixed = mix_images(
            _from_numpy(images), plan, mean=mean, std=std, dtype=dtype, memory_format=memory_format, layout=layout,
            out=buffer, backend=backend,
        )  # fmt: skip
        return mixed.numpy() if out is None else out
    if not isinstance(images, Tensor):
        raise TypeError(f"images must be a torch tensor or NumPy array, got {type(images).__name__}")
    if layout not in _LAYOUTS:
        raise ValueError(f"layout must be one of {_LAYOUTS}, got {layout!r}")
    if layout == "NHWC":
        if images.ndim != 4:
            raise ValueError(f"images must have four axes under layout='NHWC', got shape {tuple(images.shape)}")
        mixed = mix_images(
            images.permute(0, 3, 1, 2), plan, mean=mean, std=std, dtype=dtype, memory_format=memory_format,
            out=None if out is None else out.permute(0, 3, 1, 2), backend=backend,
        )  # fmt: skip
        return mixed.permute(0, 2, 3, 1) if out is None else out
    plan = MixPlan.identity(len(images)) if plan is None else plan
    _check(images, plan)
    dtype = _result_dtype(images.dtype, dtype, mean is not None)
    scale, bias = _affine(images, mean, std, dtype)
    shape = (plan.batch_size * plan.interpolations, *images.shape[1:])
    if out is not None:
        _check_out(out, shape, dtype, images.device)
    chosen = _choose(images, plan, dtype) if backend is None else backend
    if chosen == "eager":
        mixed = _in_format(_blend(images, plan, scale, bias, dtype), images, memory_format)
        return mixed if out is None else out.copy_(mixed)
    if chosen not in ("numba", "triton"):
        raise ValueError(f"backend must be 'eager', 'numba' or 'triton', got {chosen!r}")
    source = _dense(images)
    if out is None or not (_is_planes(out) or _is_pixels(out)):
        buffer = _empty(shape, dtype, source, memory_format)
    else:
        buffer = out
    if chosen == "numba":
        _run_numba(source, plan, scale, bias, buffer)
    else:
        from ..kernels.blend.launch import mix

        mix(source, plan, scale, bias, buffer)
    return buffer if out is None or out is buffer else out.copy_(buffer)


def _check(images: Tensor, plan: MixPlan) -> None:
    if images.ndim < 2:
        raise ValueError(f"images must have a batch axis and at least one more, got shape {tuple(images.shape)}")
    if len(images) != plan.batch_size:
        raise ValueError(f"images must have the plan's {plan.batch_size} rows, got {len(images)}")
    if images.dtype != torch.uint8 and not images.is_floating_point():
        raise TypeError(f"images must be uint8 or floating, got {images.dtype}")
    if plan.constant:
        return
    size = (1, images.shape[-1]) if images.ndim == 3 else tuple(images.shape[-2:])
    if images.ndim < 3 or size != (plan.height, plan.width):
        raise ValueError(
            f"images must be {plan.height}x{plan.width} pixels for the masks of this plan, got shape {tuple(images.shape)}"
        )


def _check_out(out: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    if isinstance(out, Tensor) and (out.shape, out.dtype, out.device) == (shape, dtype, device):
        return
    got = (tuple(out.shape), out.dtype, str(out.device)) if isinstance(out, Tensor) else type(out).__name__
    raise ValueError(f"out must be a {dtype} tensor of shape {shape} on {device}, got {got}")


def _result_dtype(source: torch.dtype, dtype: torch.dtype | None, normalised: bool) -> torch.dtype:
    if dtype is None:
        return torch.float32 if normalised and source == torch.uint8 else source
    if dtype == torch.uint8 and (normalised or source != torch.uint8):
        raise ValueError("dtype must be floating for normalised or floating images, got torch.uint8")
    if dtype != torch.uint8 and not dtype.is_floating_point:
        raise ValueError(f"dtype must be torch.uint8 or floating, got {dtype}")
    return dtype


def _affine(
    images: Tensor, mean: Sequence[float] | None, std: Sequence[float] | None, dtype: torch.dtype
) -> tuple[Float[Tensor, " c"] | None, Float[Tensor, " c"] | None]:
    """(scale, bias) of ``x * scale + bias``, float64 on CPU; (None, None) where nothing is to be done."""
    if (mean is None) != (std is None):
        raise ValueError(f"mean and std must be given together, got mean={mean}, std={std}")
    unit = 255.0 if images.dtype == torch.uint8 and dtype != torch.uint8 else 1.0
    if mean is None or std is None:
        if unit == 1.0:
            return None, None
        mean, std = (0.0,), (1.0,)
    m, s = (tuple(map(float, (v.flatten() if isinstance(v, Tensor) else np.ravel(v)).tolist())) for v in (mean, std))
    scale, bias = scale_and_bias(m, s, unit, images.shape[1])
    return torch.from_numpy(scale), torch.from_numpy(bias)


@lru_cache(maxsize=32)  # a loader asks the same for every batch
def scale_and_bias(
    mean: tuple[float, ...], std: tuple[float, ...], unit: float, channels: int
) -> tuple[Float64[np.ndarray, " c"], Float64[np.ndarray, " c"]]:
    """``x * scale + bias`` is (x / unit - mean) / std. Raises ``ValueError`` naming the argument."""
    for name, value in (("mean", mean), ("std", std)):
        if len(value) not in (1, channels):
            raise ValueError(f"{name} must have one value or one a channel, {channels}, got {len(value)}")
    if not all(s > 0 for s in std):
        raise ValueError(f"std must be positive, got {list(std)}")
    m, s = (np.broadcast_to(np.array(value), (channels,)) for value in (mean, std))
    return 1 / (unit * s), -m / s


def _choose(images: Tensor, plan: MixPlan, dtype: torch.dtype) -> Backend:
    fits = images.numel() > 0 and plan.moves is None and (images.ndim == 4 or plan.constant) and dtype in _FUSED_OUT
    if not fits or (images.requires_grad and torch.is_grad_enabled()):
        return "eager"
    if images.is_cuda and images.dtype in _TRITON_IN and _has_triton():
        return "triton"
    if images.device.type == "cpu" and images.dtype in _NUMBA_IN:
        return "numba"
    return "eager"


def _has_triton() -> bool:
    from importlib.util import find_spec

    return find_spec("triton") is not None


def _blend(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, dtype: torch.dtype) -> Tensor:
    from ..kernels.blend.eager import blend

    scale, bias = (None if x is None else to_device(x, images.device) for x in (scale, bias))
    return blend(images, plan, scale, bias, dtype)


def _run_numba(images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
    from ..kernels.blend.cpu import run

    run(images, plan, scale, bias, out)


def _from_numpy(images: np.ndarray) -> Tensor:
    if any(stride < 0 for stride in images.strides):
        images = np.ascontiguousarray(images)  # flipped by NumPy; torch has no negative strides
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # read-only arrays are welcome: nothing is written to them
        return torch.from_numpy(images)


def _is_planes(x: Tensor) -> bool:
    return x.is_contiguous()


def _is_pixels(x: Tensor) -> bool:
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)


def _dense(images: Tensor) -> Tensor:
    return images if _is_planes(images) or _is_pixels(images) else images.contiguous()


def _empty(shape: tuple[int, ...], dtype: torch.dtype, like: Tensor, memory_format: torch.memory_format | None) -> Tensor:
    if memory_format in (None, torch.preserve_format):
        memory_format = torch.contiguous_format if _is_planes(like) else torch.channels_last
    return empty(shape, dtype, like.device, memory_format)


def _in_format(mixed: Tensor, images: Tensor, memory_format: torch.memory_format | None) -> Tensor:
    if memory_format in (None, torch.preserve_format):
        memory_format = torch.channels_last if _is_pixels(images) and not _is_planes(images) else torch.contiguous_format
    return mixed.contiguous(memory_format=memory_format)
