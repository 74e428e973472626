"""Samples as decoders are given them, the same for every backend, checked against what the source says of them.

source.read  ->  a plain JPEG (``pipelines/jpeg.py``) as it is  |  anything else as pixels, decoded by Pillow
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import UInt8

from pipelines import pillow
from pipelines.bad_file import BadFile
from pipelines.jpeg import plain_size

from .base import Sample, Source


def read_plain(source: Source, sample: int) -> Sample:
    """A sample for a decoder that must see plain JPEG only. Raises ``BadFile``."""
    data = source.read(sample)
    size = plain_size(data) if isinstance(data, bytes) else None
    if size is None:
        pixels = np.asarray(pillow.decode(data)) if isinstance(data, bytes) else data
        size, data = pixels.shape[:2], pixels
    _check_size(size, source, sample)
    return data


def read_pixels(source: Source, sample: int) -> UInt8[np.ndarray, "h w 3"]:
    """A sample as Pillow decodes it, plain or not, or the pixels that the source gives. Raises ``BadFile``."""
    data = source.read(sample)
    pixels = np.asarray(pillow.decode(data)) if isinstance(data, bytes) else data
    _check_size(pixels.shape[:2], source, sample)
    return pixels


def read_image(source: Source, sample: int) -> Any:
    """A sample as Pillow's image. Raises ``BadFile``."""
    return read_scaled(source, sample, 1)[0]


def read_scaled(source: Source, sample: int, scale: int) -> tuple[Any, int]:
    """The same, decoded ``scale`` times smaller where that can be done, and how many times it was. Raises ``BadFile``."""
    data = source.read(sample)
    if isinstance(data, bytes):
        image, size = pillow.decode_scaled(data, scale)
    else:
        image, size = pillow.from_pixels(data), data.shape[:2]
    _check_size(size, source, sample)
    return image, 1 if (image.height, image.width) == size else scale


def _check_size(found: tuple[int, ...], source: Source, sample: int) -> None:
    height, width = source.sizes[sample].tolist()
    if height and found != (height, width):
        raise BadFile(
            f"is {found[0]} x {found[1]} pixels high and wide, the index says {height} x {width}: "
            "it was changed while the loader ran"
        )
