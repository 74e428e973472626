"""JPEG files decoded as libffcv does it, one at a time.

That is one call of the TurboJPEG that libffcv is linked with, with its flags. libffcv's own function keeps 10 kB for each
thread that ever called it, so the call is made with a decompressor that ends with its thread. It goes through ctypes, which
gives up the GIL; the package ``ffcv`` itself, whose import takes seconds, is not imported.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
import weakref
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from ..bad_file import BadFile
from ..scaled_decode import scaled_size

_RGB, _FAST_DCT, _NO_REALLOC = 0, 2048, 1024  # turbojpeg.h: TJPF_RGB, TJFLAG_FASTDCT, TJFLAG_NOREALLOC


class RecordDecoder:
    """Decodes images of up to the largest of ``sizes``; any number of threads may call it."""

    def __init__(self, sizes: Int64[np.ndarray, "n 2"]) -> None:
        self._largest = 3 * int(sizes.prod(1).max())  # bytes
        self._library = turbojpeg()
        self._scratch = threading.local()

    def __call__(self, image: bytes, size: tuple[int, int], scale: int = 1) -> UInt8[np.ndarray, "h w 3"]:
        """A JPEG file of ``size`` (height, width), decoded ``scale`` times smaller. Raises ``BadFile``.

        The next call of its thread overwrites the memory.
        """
        size = scaled_size(size, scale)
        pixels: UInt8[np.ndarray, "h w 3"] = self._memory()[: 3 * size[0] * size[1]].reshape(*size, 3)
        if self._decompressor()(image, *size, pixels):
            raise BadFile("libffcv cannot decode it")
        return pixels

    def _decompressor(self) -> Decompressor:
        """This thread's decompressor."""
        if not hasattr(self._scratch, "decompressor"):
            self._scratch.decompressor = Decompressor(self._library)
        decompressor: Decompressor = self._scratch.decompressor
        return decompressor

    def _memory(self) -> UInt8[np.ndarray, " n"]:
        """This thread's memory for the largest image."""
        if not hasattr(self._scratch, "memory"):
            self._scratch.memory = np.empty(self._largest, np.uint8)
        memory: UInt8[np.ndarray, " n"] = self._scratch.memory
        return memory


class Decompressor:
    """Decodes whole JPEG files into memory that is there; for one thread, and given back with the last reference to it."""

    def __init__(self, library: ctypes.CDLL) -> None:
        self._handle, self._decompress = library.tjInitDecompress(), library.tjDecompress2
        if not self._handle:
            raise MemoryError("TurboJPEG has no memory for a decompressor")
        weakref.finalize(self, library.tjDestroy, self._handle)

    def __call__(self, record: bytes, height: int, width: int, out: UInt8[np.ndarray, ...]) -> int:
        """0 if all went well. Of an image that is not (height, width), the largest fraction n/8 that fits is decoded."""
        flags = _FAST_DCT | _NO_REALLOC
        status: int = self._decompress(
            self._handle, record, len(record), out.ctypes.data, width, 0, height, _RGB, flags
        )  # fmt: skip
        return status


@lru_cache(maxsize=1)
def turbojpeg() -> ctypes.CDLL:
    """The TurboJPEG that libffcv is linked with. Raises ``ImportError`` without FFCV."""
    spec = importlib.util.find_spec("ffcv")
    folders = [Path(folder) for folder in (spec.submodule_search_locations or [])] if spec else []
    libraries = [path for folder in folders for path in folder.glob("_libffcv*.so")]
    if not libraries:
        raise ImportError("backend='ffcv' needs FFCV: pip install 'mixstage[ffcv]'")
    library = ctypes.CDLL(str(libraries[0]))  # symbols of what it is linked with are found in it, too
    library.tjInitDecompress.restype = ctypes.c_void_p
    library.tjDestroy.argtypes = [ctypes.c_void_p]
    number = ctypes.c_int
    library.tjDecompress2.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_void_p, number, number, number, number, number,
    ]  # fmt: skip
    return library
