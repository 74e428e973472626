"""Decoding, cropping and resizing with Pillow: what a torchvision user's Dataset and transforms compute, and the reference.

Also decodes the formats that DALI must not parse.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from .bad_file import BadFile


def decode(data: bytes) -> Any:
    """The RGB image as torchvision's ``ImageFolder`` loads it; ``BadFile`` if Pillow cannot."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise BadFile(f"Pillow cannot decode it: {error}") from error


def resized_crop(
    image: Any, window: Float64[np.ndarray, " 4"], flip: bool, size: tuple[int, int]
) -> UInt8[np.ndarray, "h w 3"]:
    """torchvision's ``resized_crop(antialias=True)``: a window of whole pixels, cut out, resized to ``size``, mirrored."""
    from torchvision.transforms import functional as F

    return _pixels(F.resized_crop(image, *(int(x) for x in window), list(size), antialias=True), flip)


def resize_then_crop(image: Any, resize: int, flip: bool, size: tuple[int, int]) -> UInt8[np.ndarray, "h w 3"]:
    """torchvision's ``Resize(resize)`` of the shorter side, then ``CenterCrop(size)``, then mirrored."""
    from torchvision.transforms import functional as F

    return _pixels(F.center_crop(F.resize(image, resize, antialias=True), list(size)), flip)


def _pixels(image: Any, flip: bool) -> UInt8[np.ndarray, "h w 3"]:
    pixels = np.asarray(image)
    return pixels[:, ::-1] if flip else pixels
