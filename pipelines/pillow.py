"""Decoding, cropping and resizing with Pillow: what a torchvision user's Dataset and transforms compute, and the reference.

Also decodes the formats that DALI must not parse.
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mixops.augment.crop_plan import CropPlan

from .bad_file import BadFile


def decode(data: bytes) -> Any:
    """The RGB image as torchvision's ``ImageFolder`` loads it; ``BadFile`` if Pillow cannot."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise BadFile(f"Pillow cannot decode it: {error}") from error


def crop(image: Any, crops: CropPlan, row: int) -> UInt8[np.ndarray, "h w 3"]:
    """Row ``row`` of ``crops`` of a decoded image, by the calls that torchvision's transforms of PIL images make."""
    from PIL import Image

    window = crops.windows[row]
    margins = (0, 0, 0, 0) if crops.margins is None else tuple(crops.margins[row].tolist())
    height, width = crops.size[0] - margins[0] - margins[2], crops.size[1] - margins[1] - margins[3]
    filter = Image.Resampling[crops.interpolations[row].upper()]
    if crops.spill:  # resize all of it, then crop
        scale = window[2:] / (height, width)
        full = np.rint((image.height, image.width) / scale).astype(int).tolist()
        top, left = np.rint(window[:2] / scale).astype(int).tolist()
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
