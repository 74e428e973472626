"""The FFCV backend: reads .beton files, decodes with libffcv, crops and resizes with Pillow's arithmetic.

It runs the file format and the decoder of FFCV but not its ``Loader``: rows are read by position, checked, decoded and
resized by threads of this process. FFCV's loader compiles its pipeline anew in every process, delivers memory that it
overwrites later, cannot start in the middle of an epoch, and maps the file, so that a file that shrinks ends the process.
``pipelines.ffcv`` is for people who keep FFCV's loader. The decoder is called through ctypes, which gives up the GIL; the
package ``ffcv`` itself, whose import takes seconds, is not imported.
"""

from __future__ import annotations

import ctypes
import importlib.util
import threading
from collections.abc import Callable, Iterator
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from mixops.augment.crops import CenterCrop
from pipelines.ffcv.beton import IMAGE, INT, RAW, Beton, CorruptRecord

from ..bad_files import BadFile
from ..read_ahead import read_steps
from ..sources.folder import Index
from .base import Job, RawBatch

_SIZE = ctypes.c_uint32


class Ffcv:
    """Decodes and crops the records of a .beton file on the CPU."""

    eager = False

    def __init__(self, job: Job) -> None:
        from pipelines.resize import resized_crop, workspace

        self._job = job
        self._decode = jpeg_decoder()
        self._resize, self._workspace = resized_crop, workspace
        self._beton = Beton(job.index.root)
        self._images = self._beton.images(self._beton.first(IMAGE))
        self._whole = isinstance(job.recipe.crop, CenterCrop)
        self._scratch = threading.local()

    @staticmethod
    def read_index(root: str | PathLike[str]) -> Index:
        """The samples of a .beton file, with the names and classes that ``mixstage convert`` keeps in it, else numbers."""
        if not Path(root).is_file():
            raise ValueError(f"root must be a .beton file for backend='ffcv', got {str(root)!r}, which is none")
        beton = Beton(root)
        try:
            return index_beton(beton)
        finally:
            beton.close()

    def open(self, epoch: int, step: int) -> Iterator[RawBatch]:
        """The steps of an epoch from ``step`` on."""
        import torch

        for loaded in read_steps(self._job, epoch, step, self._load, self._job.prefetch):
            self._beton.check_length()
            yield RawBatch(torch.from_numpy(np.stack(loaded.items)), loaded.draw.ids, loaded.draw.rejected)

    def close(self) -> None:
        """Closes the file."""
        self._beton.close()

    def _load(self, sample: int, window: Float64[np.ndarray, 4], flip: bool) -> UInt8[np.ndarray, "h w 3"]:
        try:
            record = self._beton.read(self._images, sample)
        except CorruptRecord as error:
            raise BadFile(str(error)) from error
        height, width = int(self._images.height[sample]), int(self._images.width[sample])
        pixels, workspace = self._memory()
        if self._images.mode[sample] == RAW:
            image = np.frombuffer(record, np.uint8)
        else:
            image = pixels[: 3 * height * width]
            if self._decode(record, height, width, image):
                raise BadFile("libffcv cannot decode it")
        out = np.empty((self._job.height, self._job.width, 3), np.uint8)
        self._resize(image.reshape(height, width, 3), window, self._whole, flip, out, *workspace)
        return out

    def _memory(self) -> tuple[UInt8[np.ndarray, " n"], tuple[np.ndarray, ...]]:
        """This thread's memory for the largest image, and for its resize."""
        if not hasattr(self._scratch, "memory"):
            height, width = int(self._images.height.max()), int(self._images.width.max())
            largest = int((self._images.height * self._images.width).max())
            size = self._job.height, self._job.width
            self._scratch.memory = np.empty(3 * largest, np.uint8), self._workspace(height, width, size)
        memory: tuple[Any, Any] = self._scratch.memory
        return memory


def index_beton(beton: Beton) -> Index:
    """The index of an open .beton file: its first image field and its first integer field, which holds the labels."""
    images = beton.images(beton.first(IMAGE))
    labels = beton.column(beton.first(INT)).astype(np.int64)
    if not len(labels):
        raise ValueError(f"{beton.path} has no samples")
    if labels.min() < 0:
        raise ValueError(f"{beton.path} must have labels of at least 0, got {labels.min()}")
    classes = beton.annotations.classes or tuple(str(i) for i in range(int(labels.max()) + 1))
    if labels.max() >= len(classes):
        raise ValueError(f"{beton.path} must have labels below its {len(classes)} classes, got {labels.max()}")
    names = beton.annotations.names or tuple(f"sample {i}" for i in range(len(labels)))
    sizes = np.stack([images.height, images.width], 1)
    empty = np.flatnonzero((images.size == 0) | (sizes.min(1) == 0)).tolist()
    broken = dict.fromkeys(empty, "its metadata point to no record of the file")
    files = np.array([name.encode("utf-8", "surrogateescape") for name in names])
    return Index(str(beton.path.absolute()), files, labels, sizes, classes, broken)


@lru_cache(maxsize=1)
def jpeg_decoder() -> Callable[[bytes, int, int, UInt8[np.ndarray, " n"]], int]:
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

    def decode(record: bytes, height: int, width: int, out: UInt8[np.ndarray, " n"]) -> int:
        whole = (height, width, 0, 0, 1, 1, False, False)
        status: int = imdecode(record, len(record), height, width, out.ctypes.data, *whole)
        return status

    return decode
