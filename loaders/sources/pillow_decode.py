"""Decoding with Pillow: for the torchvision backend, and for the formats that DALI must not parse."""

from __future__ import annotations

import io
from typing import Any

from ..bad_files import BadFile


def decode(data: bytes) -> Any:
    """The RGB image as torchvision's ``ImageFolder`` loads it; ``BadFile`` if Pillow cannot."""
    from PIL import Image

    try:
        with Image.open(io.BytesIO(data)) as image:
            return image.convert("RGB")
    except Exception as error:  # Pillow's decoders raise whatever they like
        raise BadFile(f"Pillow cannot decode it: {error}") from error
