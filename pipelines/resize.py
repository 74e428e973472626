"""Crop, antialiased resize and flip of uint8 RGB images on the CPU, with the bytes of the installed Pillow.

torchvision and timm resize PIL images with Pillow, so Pillow's bytes are the meaning of a crop here; how they are computed,
``resize_kernel`` says. Pillow's versions differ in the order of the two passes, which shows in the rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int64, UInt8

from mixops.runtime.buffers import empty
from mixops.runtime.threads import run_sliced

from .resize_kernel import ACROSS_FIRST, DOWN_FIRST_IF_LESS, DOWN_FIRST_IF_TALL, FILTERS, resize_slice


def resize_rows(
    images: Sequence[UInt8[np.ndarray, "h w 3"]] | UInt8[np.ndarray, "b h w 3"],
    windows: Float64[np.ndarray, "b 4"],
    flips: Bool[np.ndarray, " b"],
    size: tuple[int, int],
    *,
    spill: bool,
    filter: str | Sequence[str] = "bilinear",
    vertical_flips: Bool[np.ndarray, " b"] | None = None,
) -> UInt8[np.ndarray, "b oh ow 3"]:
    """The windows (top, left, height, width) of ``images`` in pixels, resized to ``size`` (height, width) and flipped.

    Without ``spill`` a window has whole pixels and is cut out before it is resized: torchvision's ``resized_crop``. With
    ``spill`` it may have fractions and the filter reads beyond its edges. If it is a crop of the whole image resized, the
    bytes are those of torchvision's ``Resize`` and crop, else those of Pillow's ``resize(box=)``.

    ``filter`` is one of ``FILTERS`` ("nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"), or one for each image.
    ``flips`` mirror left to right, ``vertical_flips`` upside down. The images are dealt to torch's threads; one whose rows
    are dense is not copied, so slices of a batch and of larger images are welcome.
    Raises ``ValueError`` for a window that is empty or not inside its image, an unknown filter, and images of another kind.
    """
    if min(size) < 1:
        raise ValueError(f"size must be at least one pixel, got {size}")
    out = empty((len(images), *size, 3), torch.uint8).numpy()
    resize = resizer(images, windows, flips, out, spill=spill, filter=filter, vertical_flips=vertical_flips)
    run_sliced(resize, len(images))
    return out


def resizer(
    images: Sequence[UInt8[np.ndarray, "h w 3"]] | UInt8[np.ndarray, "b h w 3"],
    windows: Float64[np.ndarray, "b 4"],
    flips: Bool[np.ndarray, " b"],
    out: UInt8[np.ndarray, "b oh ow 3"],
    *,
    spill: bool,
    filter: str | Sequence[str] = "bilinear",
    vertical_flips: Bool[np.ndarray, " b"] | None = None,
) -> Callable[[int, int], None]:
    """A function that does to the rows from one number to another what ``resize_rows`` does, and writes them to ``out``."""
    count = len(images)
    names = [filter] * count if isinstance(filter, str) else list(filter)
    if len(names) != count or not FILTERS.keys() >= set(names):
        raise ValueError(f"filter must be one of {', '.join(FILTERS)}, or one for each image, got {filter!r}")
    held = [_dense(image) for image in images]
    rows = [(image.ctypes.data, image.strides[0], *image.shape[:2]) for image in held]
    places = np.array(rows, np.int64).reshape(count, 4)
    edges = np.array(windows, np.float64).reshape(count, 4)
    _check(edges, places[:, 2:], spill)
    turns = np.zeros((count, 2), np.bool_)
    turns[:, 0] = flips
    turns[:, 1] = False if vertical_flips is None else vertical_flips
    kinds = np.array([FILTERS[name] for name in names], np.int64)

    def resize(start: int, stop: int) -> None:
        resize_slice(start, stop, places, edges, turns, kinds, spill, pillow_order(), out)

    resize.images = held  # type: ignore[attr-defined]  # ``places`` are addresses in their memory
    return resize


@cache
def pillow_order() -> int:
    """Which pass the installed Pillow makes first, for ``resize_kernel``.

    Before version 12.2 across. Since then down for an image that is over a hundred times as high as wide and loses height;
    since version 13 down for one whose height loses pixels, and more than twice as many as its width.
    """
    import PIL

    version = tuple(int(number) for number in PIL.__version__.split(".")[:2])
    return DOWN_FIRST_IF_LESS if version >= (13, 0) else DOWN_FIRST_IF_TALL if version >= (12, 2) else ACROSS_FIRST


def _dense(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"images must be uint8 of shape (h, w, 3), got {image.dtype} of shape {image.shape}")
    return image if image.strides[1:] == (3, 1) else np.ascontiguousarray(image)


def _check(windows: Float64[np.ndarray, "b 4"], sizes: Int64[np.ndarray, "b 2"], spill: bool) -> None:
    """The kernel reads where the windows say."""
    start, side = windows[:, :2], windows[:, 2:]
    slack = 1e-6 if spill else 0.0  # a window with fractions is a product; the kernel does not read beyond the image
    good = (start >= 0) & (side > 0) & (start + side <= sizes + slack)
    if not spill:
        good &= (start % 1 == 0) & (side % 1 == 0)
    for i in np.flatnonzero(~good.all(1))[:1]:
        kind = "inside the image" if spill else "of whole pixels inside the image"
        raise ValueError(f"windows must be {kind}, got {windows[i].tolist()} of {sizes[i].tolist()} pixels")
