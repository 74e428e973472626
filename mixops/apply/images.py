"""Applies a plan to pixels: blend, normalise, cast and lay out in one pass, on whatever device the images are.

The one place where a kernel is chosen: Triton on CUDA, numba on CPU, plain torch for dtypes and shapes that those do not
take, for images that need a gradient, for moved blocks and, on the CPU, for partners that were mixed before. uint8 images
are scaled by 1/255 when the result is floating and stay uint8, rounded half to even, when it is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from ..plan import MixPlan
from ..runtime.buffers import empty
from ..runtime.checks import check_array, check_choice, check_type, shown
from ..runtime.devices import has_triton, to_device
from ..runtime.uncompiled import uncompiled
from .moves import apart
from .normalisation import affine

Backend = Literal["eager", "numba", "triton"]
_LAYOUTS = ("NCHW", "NHWC")
_NUMBA_IN = (torch.uint8, torch.float32)
_FUSED_OUT = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
_TRITON_IN = (torch.uint8, torch.float16, torch.bfloat16, torch.float32)
_DTYPES = (*_FUSED_OUT, torch.float64)


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
    history: Any = None,
) -> Any:
    """Mixes a batch by its plan; row b * K + k of the result is output k of pair b.

    ``images`` (b, c, h, w), or (b, h, w, c) under ``layout="NHWC"``, torch or NumPy, uint8 or floating, are not modified;
    the result is (b * k, ...) of the same kind and layout. Masks that vary over the image fit (b, c, h, w),
    (b, c, t, h, w) and, from plans of height 1, (b, c, w); constant masks fit any (b, ...). ``mean`` and ``std``, one
    value a channel, normalise the result on the scale [0, 1]. ``dtype`` is that of the images by default, float32 for
    normalised uint8. ``memory_format`` is that of the images by default. ``out`` receives the result; it may share memory
    with ``images``, at the cost of a copy. ``plan=None`` mixes nothing and does the rest. ``backend`` forces "eager",
    "numba" or "triton" for what it can do. ``history`` holds the images that were mixed at the step before, b of them or
    more, like ``images``: the partners of rows of the past (RecursiveMix), which no other plan has. An image that a mask
    hides takes no part, even where it is not finite. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    history = None if history is None else check_array("history", history)
    if isinstance(images, np.ndarray):
        buffer = None if out is None else _writable(out)
        mixed = mix_images(
            check_array("images", images), plan, mean=mean, std=std, dtype=_numpy_dtype(dtype), memory_format=memory_format,
            layout=layout, out=buffer, backend=backend, history=history,
        )  # fmt: skip
        return mixed.numpy() if out is None else out
    images = check_array("images", images)
    if check_choice("layout", layout, _LAYOUTS) == "NHWC":
        for name, value in (("images", images), ("out", out), ("history", history)):
            if value is not None and not (isinstance(value, Tensor) and value.ndim == 4):
                raise ValueError(f"{name} must have four axes under layout='NHWC', got {shown(value)}")
        mixed = mix_images(
            images.permute(0, 3, 1, 2), plan, mean=mean, std=std, dtype=dtype, memory_format=memory_format,
            out=None if out is None else out.permute(0, 3, 1, 2), backend=backend,
            history=None if history is None else history.permute(0, 3, 1, 2),
        )  # fmt: skip
        return mixed.permute(0, 2, 3, 1) if out is None else out
    _check_images(images)
    plan = MixPlan.identity(len(images)) if plan is None else check_type("plan", plan, MixPlan, "a MixPlan or None")
    _check_plan(images, plan)
    _check_memory_format(memory_format, images.ndim)
    dtype = _result_dtype(images.dtype, dtype, mean is not None)
    scale, bias = affine(images, mean, std, dtype)
    shape = (plan.batch_size * plan.interpolations, *images.shape[1:])
    if out is not None:
        _check_out(out, shape, dtype, images.device)
    past = _check_history(history, images, plan)
    chosen = _choose((images, past), plan, dtype, backend)
    if chosen == "eager":
        mixed = _in_format(_blend(images, plan, scale, bias, dtype, past), images, memory_format)
        return mixed if out is None else out.copy_(mixed)
    source = _dense(images)
    read = [images] if past is None else [images, past]
    if out is None or not (_is_planes(out) or _is_pixels(out)) or any(_may_overlap(out, x) for x in read):
        buffer = _empty(shape, dtype, source, memory_format)
    else:
        buffer = out
    _run(chosen, source, plan, scale, bias, buffer, past)
    return buffer if out is None or out is buffer else out.copy_(buffer)


def _check_images(images: Tensor) -> None:
    if images.ndim < 2:
        raise ValueError(f"images must have a batch axis and at least one more, got shape {tuple(images.shape)}")
    if images.dtype not in _DTYPES:
        raise TypeError(f"images must be uint8 or floating, got {images.dtype}")


def _check_plan(images: Tensor, plan: MixPlan) -> None:
    if len(images) != plan.batch_size:
        raise ValueError(f"images must have the plan's {plan.batch_size} rows, got {len(images)}")
    size = (1, images.shape[-1]) if images.ndim == 3 else tuple(images.shape[-2:])
    if (images.ndim < 3 or size != (plan.height, plan.width)) and not plan.constant:
        raise ValueError(
            f"images must be {plan.height}x{plan.width} pixels for the masks of this plan, got shape {tuple(images.shape)}"
        )


def _check_history(history: Tensor | None, images: Tensor, plan: MixPlan) -> Tensor | None:
    """The images mixed before, if the plan has partners among them."""
    if not plan.recalls:
        return None
    if history is None:
        raise ValueError("history must be the images that were mixed at the step before for this plan, got None")
    same = (history.shape[1:], history.dtype, history.device) == (images.shape[1:], images.dtype, images.device)
    if not same or len(history) < plan.batch_size:
        raise ValueError(f"history must be {plan.batch_size} images at least, like {shown(images)}, got {shown(history)}")
    return history


def _check_memory_format(memory_format: Any, ndim: int) -> None:
    if memory_format is None:
        return
    check_type("memory_format", memory_format, torch.memory_format, "a torch.memory_format or None")
    axes = {torch.channels_last: 4, torch.channels_last_3d: 5}.get(memory_format, ndim)
    if axes != ndim:
        raise ValueError(f"memory_format must fit images of {ndim} axes, got {memory_format}, which is for {axes}")


def _check_out(out: Any, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
    if not isinstance(out, Tensor) or (out.shape, out.dtype, out.device) != (shape, dtype, device):
        got = (tuple(out.shape), out.dtype, str(out.device)) if isinstance(out, Tensor) else type(out).__name__
        raise ValueError(f"out must be a {dtype} tensor of shape {shape} on {device}, got {got}")
    if out.layout != torch.strided or any(step == 0 and n > 1 for step, n in zip(out.stride(), shape, strict=True)):
        raise ValueError(f"out must have a place in memory for each of its elements, got {shown(out)}")
    if out.requires_grad and out.is_leaf:
        raise ValueError(f"out must not be a leaf that needs a gradient, got {shown(out)}")


def _writable(out: Any) -> Tensor:
    """The tensor that is an array of the caller's."""
    if not (isinstance(out, np.ndarray) and out.flags.writeable):
        raise TypeError(f"out must be a writable NumPy array like images, got {type(out).__name__}")
    found = check_array("out", out)
    if found.data_ptr() != out.ctypes.data or found.stride() != tuple(step // out.itemsize for step in out.strides):
        raise ValueError(f"out must be an array in native byte order that is not flipped, got {shown(out)}")
    return found


def _numpy_dtype(dtype: Any) -> Any:
    if isinstance(dtype, torch.dtype) and (dtype not in _DTYPES or dtype == torch.bfloat16):
        raise ValueError(f"dtype must be uint8 or floating and one that NumPy has for NumPy images, got {dtype}")
    return dtype


def _result_dtype(source: torch.dtype, dtype: Any, normalised: bool) -> torch.dtype:
    if dtype is None:
        return torch.float32 if normalised and source == torch.uint8 else source
    check_type("dtype", dtype, torch.dtype, "a torch.dtype or None")
    if dtype == torch.uint8 and (normalised or source != torch.uint8):
        raise ValueError("dtype must be floating for normalised or floating images, got torch.uint8")
    if dtype not in _DTYPES:
        raise ValueError(f"dtype must be torch.uint8 or floating, got {dtype}")
    return dtype  # type: ignore[no-any-return]


def _choose(read: tuple[Tensor, Tensor | None], plan: MixPlan, dtype: torch.dtype, backend: Any) -> str:
    """The backend asked for, or the fastest there is, for images and those mixed before.

    Raises ``ValueError`` where that asked for cannot do it.
    """
    if backend is None:
        device = read[0].device.type
        backends = ("triton",) if device == "cuda" else ("numba",) if device == "cpu" else ()
        return next((b for b in backends if not _obstacle(b, read, plan, dtype)), "eager")
    chosen = check_choice("backend", backend, get_args(Backend))
    if chosen != "eager" and (obstacle := _obstacle(chosen, read, plan, dtype)):
        raise ValueError(f"backend must be 'eager' for {obstacle}, got {chosen!r}")
    return chosen


def _obstacle(backend: str, read: tuple[Tensor, Tensor | None], plan: MixPlan, dtype: torch.dtype) -> str | None:
    """What a fused kernel cannot do of what is asked for."""
    images = read[0]
    several = " in rows of several sources" if plan.more is not None else ""
    if plan.moves is not None and (several or plan.inset is not None or plan.past is not None):
        return f"plans that move blocks{several}"
    if plan.past is not None and (backend == "numba" or several):
        return f"plans whose partners were mixed before{several}"
    if plan.inset is not None and several:
        return f"plans that show images whole in a box{several}"
    if images.ndim not in (3, 4) and not plan.constant:
        return f"images of {images.ndim} axes under masks that vary"
    if not images.numel():
        return f"images of shape {tuple(images.shape)}"
    if images.dtype not in (_NUMBA_IN if backend == "numba" else _TRITON_IN) or dtype not in _FUSED_OUT:
        return f"{images.dtype} images and {dtype} results"
    if any(x is not None and x.requires_grad for x in read) and torch.is_grad_enabled():
        return "images that need a gradient"
    if backend == "numba":
        return None if images.device.type == "cpu" else f"images on {images.device}"
    if not has_triton():
        return "want of Triton, which is not installed"
    from ..kernels.blend.launch import runs_on

    return None if runs_on(images.device) else f"images on {images.device}"


def _blend(
    images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, dtype: torch.dtype, history: Tensor | None
) -> Tensor:
    from ..kernels.blend.eager import blend

    scale, bias = (None if x is None else to_device(x, images.device) for x in (scale, bias))
    return blend(images, plan, scale, bias, dtype, history)


def _run(
    backend: str, images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor,
    history: Tensor | None,
) -> None:  # fmt: skip
    """A fused kernel: one for rows of two sources, one for rows of several."""
    if backend == "triton" and plan.more is None:
        from ..kernels.blend.launch import mix

        if plan.moves is not None:  # in copies: a kernel that looks for each pixel's block would wait for every look
            images, history, plan = apart(images, plan)
        mix(images, plan, scale, bias, out, history)
        return
    if backend == "numba" and plan.more is None:
        from ..kernels.blend.cpu import run
    elif backend == "numba":
        from ..kernels.blend.cpu_several import run
    else:
        from ..kernels.blend.launch_several import mix as run
    run(images, plan, scale, bias, out)


def _may_overlap(x: Tensor, y: Tensor) -> bool:
    """Whether two tensors begin and end in one stretch of memory; views that interleave there may share no element."""
    if x.device != y.device or not x.numel() or not y.numel():
        return False
    first, last = zip(*(_stretch(t) for t in (x, y)), strict=True)
    return max(first) < min(last)


def _stretch(x: Tensor) -> tuple[int, int]:
    steps = sum((n - 1) * step for n, step in zip(x.shape, x.stride(), strict=True))
    return x.data_ptr(), x.data_ptr() + (steps + 1) * x.element_size()


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
