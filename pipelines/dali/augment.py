"""``dali.augment``: planned augmentation in anybody's DALI pipeline, by DALI's own operators.

    source (op, argument, matrix, boxes of each row)  ->  a tree of if/else over parts of the batch  ->  images

DALI's arithmetic is not Pillow's: docs/augmentation.md says how far apart they are. What can be said exactly is said so:
Pillow cuts fractions off, shows the fill where a warp leaves the image, elsewhere its border repeated, sharpens no border.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .augment_plans import HUE, KEEP, AugmentSource

_DOWN = 1e-3  # float32 coordinates that are a little short of a whole level do not lose it


def augment(images: Any, plans: AugmentSource) -> Any:
    """Augmented images, inside a DALI ``@pipeline_def(enable_conditionals=True)``.

    ``images`` are uint8 (h, w, 3) of the source's size, on the CPU or the GPU, and so is the result. Raises ``ValueError``
    or ``TypeError`` naming the argument.
    """
    from nvidia.dali import fn
    from nvidia.dali.pipeline import Pipeline

    if not isinstance(plans, AugmentSource):
        raise TypeError(f"plans must be an augment_source, got {plans!r}")
    current = Pipeline.current()
    if current is None or not getattr(current, "_conditionals_enabled", True):
        raise ValueError("images must be those of a pipeline_def with enable_conditionals=True, got another place")
    if current.max_batch_size != plans.batch_size:
        raise ValueError(f"plans must have the pipeline's batch_size = {current.max_batch_size}, got {plans.batch_size}")
    fills = plans.fills
    count = 3 * len(fills)
    outputs = fn.external_source(plans, num_outputs=count + (3 if plans.augmentation.erasing else 0), batch_info=True)
    for j in range(len(fills)):
        kind, arg, matrix = outputs[3 * j : 3 * j + 3]
        images = _select(KEEP, HUE, kind, images, arg, matrix, fills[j], plans)
    if plans.augmentation.erasing:
        erased, kept, shown = outputs[count:]
        if erased != 0:
            images = images * _beside(kept, images) + _beside(shown, images)
    return images


def _select(low: int, high: int, kind: Any, images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    """Each row's operation, by halves."""
    if low == high:
        return _OPERATIONS[low](images, arg, matrix, fill, plans)
    middle = (low + high) // 2
    if kind <= middle:
        done = _select(low, middle, kind, images, arg, matrix, fill, plans)
    else:
        done = _select(middle + 1, high, kind, images, arg, matrix, fill, plans)
    return done


def _keep(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    return images


def _nearest(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import types

    return _warp(images, matrix, fill, plans, types.INTERP_NN)


def _linear(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import types

    return _warp(images, matrix, fill, plans, types.INTERP_LINEAR)


def _warp(images: Any, matrix: Any, fill: Any, plans: AugmentSource, interpolation: Any) -> Any:
    """Pillow's warp: pixels whose place lies outside the image are filled, others see its border repeated."""
    from nvidia.dali import fn, types

    ones = types.Constant(np.ones((plans.height, plans.width, 1), np.uint8), device=images.device, layout="HWC")
    inside = fn.warp_affine(ones, matrix=matrix, fill_value=0, interp_type=types.INTERP_NN)
    if interpolation == types.INTERP_NN:
        warped = fn.warp_affine(images, matrix=matrix, interp_type=interpolation)
    else:
        warped = _cut(fn.warp_affine(images, matrix=matrix, interp_type=interpolation, dtype=types.FLOAT))
    if not fill.any():
        return warped * inside
    colour = types.Constant(fill.reshape(1, 1, 3), device=images.device)
    return warped * inside + colour * (types.Constant(1, dtype=types.UINT8) - inside)


def _brightness(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    return _cut(images * _beside(arg, images))


def _color(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn, types

    grey = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
    return _blend(grey, images, arg)


def _contrast(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn, math, types

    grey = fn.color_space_conversion(images, image_type=types.RGB, output_type=types.GRAY)
    mean = math.floor(fn.reductions.mean(grey, axes=[0, 1, 2], keep_dims=True) + 0.5)
    return _blend(mean, images, arg)


def _sharpness(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn, types

    if plans.height < 3 or plans.width < 3:
        return images
    kernel = np.array([[1, 1, 1], [1, 5, 1], [1, 1, 1]], np.float32) / 13
    smooth = fn.filter(images, types.Constant(kernel, device=images.device))
    border = np.ones((plans.height, plans.width, 1), np.uint8)
    border[1:-1, 1:-1] = 0
    edge, inner = (types.Constant(mask, device=images.device, layout="HWC") for mask in (border, 1 - border))
    return _blend(smooth, images, arg) * inner + images * edge


def _posterize(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn, math, types

    mask = 256.0 - math.pow(2.0, 8.0 - _beside(arg, images))
    return images & fn.cast(mask, dtype=types.UINT8)


def _solarize(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import types

    kept = images < _beside(arg, images)
    return kept * images + (kept ^ True) * (types.Constant(255, dtype=types.UINT8) - images)


def _solarize_add(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    return _cut(images + (images < 128) * _beside(arg, images))


def _autocontrast(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn

    low, high = (f(images, axes=[0, 1], keep_dims=True) for f in (fn.reductions.min, fn.reductions.max))
    flat = high <= low
    scale = (255.0 + flat * -254.0) / ((high - low) + flat * 1.0)  # 1 where there is nothing to stretch
    return _cut((images - low * (flat ^ True) * 1.0) * scale)


def _equalize(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn

    return fn.equalize(images)


def _blur(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn

    return fn.gaussian_blur(images, sigma=arg)


def _hue(images: Any, arg: Any, matrix: Any, fill: Any, plans: AugmentSource) -> Any:
    from nvidia.dali import fn

    return fn.hue(images, hue=arg * 360.0)


def _blend(degenerate: Any, images: Any, factor: Any) -> Any:
    """Pillow's blend, its fractions cut off."""
    start = degenerate * 1.0
    return _cut(start + (images - start) * _beside(factor, images))


def _cut(values: Any) -> Any:
    """Levels without their fractions, cut off at black and white."""
    from nvidia.dali import fn, math, types

    return fn.cast(math.clamp(math.floor(values + _DOWN), 0.0, 255.0), dtype=types.UINT8)


def _beside(value: Any, images: Any) -> Any:
    """A value on the device of the images."""
    return value.gpu() if images.device == "gpu" else value


_OPERATIONS = (
    _keep, _nearest, _linear, _brightness, _color, _contrast, _sharpness, _posterize, _solarize, _autocontrast, _equalize,
    _solarize_add, _blur, _hue,
)  # fmt: skip
