"""Decoding, cropping and resizing with Pillow: what a torchvision user's Dataset and transforms compute, and the reference.

Also decodes for the other backends whatever is no plain JPEG (``jpeg.py``), so that all show the same picture.
"""

from __future__ import annotations

import importlib
import io
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int, UInt8

from mixops.augment.crop_plan import CropPlan

from .bad_file import BadFile

FORMATS = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP", "PPM")  # Pillow's names; in every build of it, and run no program
_PNG = b"\x89PNG\r\n\x1a\n"
_NUMBERS = ("P", "L", "I", "I;16")  # Pillow's modes of images whose pixels are numbers


def decode(data: bytes) -> Any:
    """The RGB image as torchvision's ``ImageFolder`` loads it; ``BadFile`` if Pillow cannot."""
    return decode_scaled(data, 1)[0]


def decode_scaled(data: bytes, scale: int) -> tuple[Any, tuple[int, int]]:
    """The same, a JPEG ``scale`` (1, 2, 4 or 8) times smaller, and the (height, width) that it has in full."""
    if data.startswith(_PNG):
        _check_png(data)
    with _opened(io.BytesIO(data)) as image:
        size = image.height, image.width
        if scale > 1 and image.format == "JPEG":
            image.draft(None, (image.width // scale, image.height // scale))
        return image.convert("RGB"), size


def decode_map(data: bytes) -> Int[np.ndarray, "h w"]:
    """The numbers in an image of one channel: greys, or positions in a palette. ``BadFile`` if it is none."""
    with _opened(io.BytesIO(data)) as image:
        if image.mode not in _NUMBERS:
            raise BadFile(f"is no map of numbers but an image of mode {image.mode!r}")
        return np.array(image)


def from_pixels(pixels: UInt8[np.ndarray, "h w 3"]) -> Any:
    """Pixels as an image."""
    from PIL import Image

    return Image.fromarray(pixels)


def image_size(file: BinaryIO) -> tuple[int, int]:
    """(height, width) that ``decode`` will give, from the header of an open file. Raises ``BadFile``."""
    with _opened(file) as image:
        return image.height, image.width


def check_pixels(size: tuple[int, int]) -> tuple[int, int]:
    """``size``; ``BadFile`` if it is none, or a bomb to Pillow: more than twice ``PIL.Image.MAX_IMAGE_PIXELS``."""
    from PIL import Image

    height, width = size
    if height < 1 or width < 1:
        raise BadFile(f"its header says {height} x {width} pixels")
    most = Image.MAX_IMAGE_PIXELS
    if most is not None and height * width > 2 * most:
        raise BadFile(f"its header says {height} x {width} pixels, more than {2 * most}")
    return size


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Any]:
    """The image in ``file``, not yet decoded. Whatever Pillow raises, also in the body, becomes ``BadFile``."""
    from PIL import Image, UnidentifiedImageError

    _import_plugins()
    try:
        with Image.open(file, formats=FORMATS) as image:
            check_pixels((image.height, image.width))
            yield image
    except (BadFile, MemoryError):
        raise
    except UnidentifiedImageError as error:
        file.seek(0)
        begin = file.read(12)
        raise BadFile(f"is no image of an accepted format, begins with {begin!r}" if begin else "is empty") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise BadFile(f"its header says too many pixels: {error}") from error
    except Exception as error:  # Pillow's decoders raise whatever they like
        if isinstance(error, OSError) and error.errno is not None:  # storage, not the file
            raise
        raise BadFile(f"Pillow cannot decode it: {error}") from error


@cache
def _import_plugins() -> None:
    """Those of ``FORMATS``. Asked for one that is missing, Pillow imports all it has, which takes a while."""
    for name in ("Bmp", "Gif", "Jpeg", "Png", "Ppm", "Tiff", "WebP"):
        importlib.import_module(f"PIL.{name}ImagePlugin")


def _check_png(data: bytes) -> None:
    """Compares the checksums of the pixels, which Pillow does not look at."""
    at = len(_PNG)
    while at + 12 <= len(data):
        length, kind = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        if kind == b"IDAT" and end + 4 <= len(data):
            (checksum,) = struct.unpack_from(">I", data, end)
            if zlib.crc32(memoryview(data)[at + 4 : end]) != checksum:
                raise BadFile(f"PNG chunk {kind!r} at byte {at} does not match its checksum")
        at = end + 4


def crop(image: Any, crops: CropPlan, row: int, scale: int = 1) -> UInt8[np.ndarray, "h w 3"]:
    """Row ``row`` of ``crops`` of a decoded image, by the calls that torchvision's transforms of PIL images make.

    The image may have been decoded ``scale`` times smaller.
    """
    from PIL import Image

    window = crops.windows[row]
    margins = (0, 0, 0, 0) if crops.margins is None else tuple(crops.margins[row].tolist())
    height, width = crops.size[0] - margins[0] - margins[2], crops.size[1] - margins[1] - margins[3]
    filter = Image.Resampling[crops.interpolations[row].upper()]
    if scale > 1:
        top, left, bottom, right = (np.concatenate([window[:2], window[:2] + window[2:]]) / scale).tolist()
        inner = image.resize((width, height), filter, box=(left, top, right, bottom))
    elif crops.spill:  # resize all of it, then crop
        step = window[2:] / (height, width)
        full = np.rint((image.height, image.width) / step).astype(int).tolist()
        top, left = np.rint(window[:2] / step).astype(int).tolist()
        inner = image.resize(full[::-1], filter).crop((left, top, left + width, top + height))
    else:
        top, left, bottom, right = (int(x) for x in (*window[:2], *(window[:2] + window[2:])))
        inner = image.crop((left, top, right, bottom)).resize((width, height), filter)
    pixels = np.asarray(inner)
    if any(margins):
        pixels = np.pad(
            pixels, ((margins[0], margins[2]), (margins[1], margins[3]), (0, 0)), mode=crops.padding_mode or "constant"
        )
    pixels = pixels[:, ::-1] if crops.flips[row] else pixels
    return pixels[::-1] if crops.vertical_flips[row] else pixels
