"""JPEG files decoded with libffcv, cropped and resized with Pillow's arithmetic, one at a time.

The decoder is called through ctypes, which gives up the GIL; the package ``ffcv`` itself, whose import takes seconds, is not
imported.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8

from mixops.augment.crop_plan import CropPlan
from mixops.augment.plan import AugmentPlan

from ..bad_file import BadFile
from ..crop_rows import crop_rows

_SIZE = ctypes.c_uint32


class RecordDecoder:
    """Decodes, crops and resizes images of up to the largest of ``sizes``; any number of threads may call it."""

    def __init__(self, sizes: Int64[np.ndarray, "n 2"]) -> None:
        self._largest = 3 * int(sizes.prod(1).max())  # bytes
        self._decode = jpeg_decoder()
        self._scratch = threading.local()

    def __call__(
        self,
        image: bytes | UInt8[np.ndarray, "h w 3"],
        size: tuple[int, int],
        crops: CropPlan,
        augment: AugmentPlan | None,
        row: int,
    ) -> UInt8[np.ndarray, "h w 3"]:
        """A JPEG file, or pixels, of ``size`` (height, width) as row ``row`` of the plans shows it. Raises ``BadFile``."""
        if isinstance(image, bytes):
            pixels = self._memory()[: 3 * size[0] * size[1]].reshape(*size, 3)
            if self._decode(image, *size, pixels):
                raise BadFile("libffcv cannot decode it")
        else:
            pixels = image
        output: UInt8[np.ndarray, "h w 3"] = crop_rows([pixels], crops.row(row), augment, row)[0]
        return output

    def _memory(self) -> UInt8[np.ndarray, " n"]:
        """This thread's memory for the largest image."""
        if not hasattr(self._scratch, "memory"):
            self._scratch.memory = np.empty(self._largest, np.uint8)
        memory: UInt8[np.ndarray, " n"] = self._scratch.memory
        return memory


@lru_cache(maxsize=1)
def jpeg_decoder() -> Callable[[bytes, int, int, UInt8[np.ndarray, ...]], int]:
    """libffcv's ``decode(record, height, width, out)``: 0 if all went well. Raises ``ImportError`` without FFCV."""
    spec = importlib.util.find_spec("ffcv")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    libraries = [path for folder in folders for path in folder.glob("_libffcv*.so")]
    if not libraries:
        raise ImportError("backend='ffcv' needs FFCV: pip install 'mixstage[ffcv]'")
    imdecode = ctypes.CDLL(str(libraries[0])).imdecode
    source: list[type[Any]] = [ctypes.c_char_p, ctypes.c_uint64, _SIZE, _SIZE]
    crop_and_scale: list[type[Any]] = [_SIZE] * 6 + [ctypes.c_bool] * 2
    imdecode.argtypes = [*source, ctypes.c_void_p, *crop_and_scale]

    def decode(record: bytes, height: int, width: int, out: UInt8[np.ndarray, ...]) -> int:
        whole = (height, width, 0, 0, 1, 1, False, False)
        status: int = imdecode(record, len(record), height, width, out.ctypes.data, *whole)
        return status

    return decode
