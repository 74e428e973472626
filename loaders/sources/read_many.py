"""Reads many plain JPEG images out of files in compiled code, which keeps nobody from the interpreter.

    places of samples  ->  open, read, close, walk the markers  ->  the bytes of those that are as the index says

One thread of Python opens and checks some 7,000 files a second, several together no more, and what they take the training
loop has not, which needs the interpreter to launch its kernels. Here a call reads a slice of a batch. It knows only what
is right: whatever is unusual (no such file, a FIFO, an error of storage, a PNG, another size) is left out, for the caller to
read as any other sample and find out what it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Protocol, runtime_checkable
from weakref import finalize

import numpy as np
from jaxtyping import Int32, Int64, UInt8

AT_ONCE = 64  # files of a call, which is not broken off
_ROUND = 1 << 20  # bytes that a buffer has a multiple of
_USUAL, _MOST = 1 << 17, 1 << 21  # of an image, before it is known, and at most
_MARGIN, _PARTS = 5, 4  # what is reserved, as a multiple of the largest mean seen


@dataclass(frozen=True, eq=False)
class Places:
    """Where the encoded bytes of samples lie: in files ``prefix + names``, ``length`` bytes from ``offset`` on.

    ``names`` are bytes; a ``length`` of -1 is the whole file. ``files`` are descriptors of those that are open already, as
    long as ``held`` is, and -1 for others.
    """

    prefix: bytes
    names: np.ndarray  # (n,) of dtype S
    files: Int32[np.ndarray, " n"]
    offset: Int64[np.ndarray, " n"]
    length: Int64[np.ndarray, " n"]
    held: object = None


@runtime_checkable
class HasPlaces(Protocol):
    """A source whose samples are pieces of files."""

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places | None:
        """Where samples lie; None where they have to be asked for with ``read``."""
        ...


def whole_files(root: str, files: np.ndarray, samples: Int64[np.ndarray, " n"]) -> Places:
    """The places of samples that are files of their own, named relative to ``root``."""
    none = np.full(len(samples), -1)
    return Places(os.fsencode(os.path.join(root, "")), files[samples], none.astype(np.int32), np.zeros_like(none), none)


def join_places(n: int, parts: Sequence[tuple[Int64[np.ndarray, " m"], Places]]) -> Places | None:
    """The places of ``n`` samples from those of some rows each; rows of none are nowhere. None where all are."""
    if not parts:
        return None
    paths = [np.char.add(places.prefix, places.names) for _, places in parts]
    names = np.zeros(n, max(path.dtype for path in paths))
    files, offset, length = np.full(n, -1, np.int32), np.zeros(n, np.int64), np.zeros(n, np.int64)
    for (rows, places), path in zip(parts, paths, strict=True):
        names[rows], files[rows], offset[rows], length[rows] = path, places.files, places.offset, places.length
    return Places(b"", names, files, offset, length, [places.held for _, places in parts])


class Buffers:
    """Memory for encoded images, given again when nobody looks at it any more.

    A batch has some megabytes, and memory that is new costs as much time, page after page, as what is read into it.
    """

    def __init__(self) -> None:
        self.usual = _USUAL  # bytes of an image, or somewhat more
        self._idle: list[UInt8[np.ndarray, " n"]] = []

    def take(self, size: int) -> UInt8[np.ndarray, " size"]:
        """An array of at least ``size`` bytes that it keeps, with all its views, for itself until they are gone."""
        memory = None
        with suppress(IndexError):  # until none is idle; those that are too small are dropped
            while memory is None or len(memory) < size:
                memory = self._idle.pop()
        if memory is None or len(memory) < size:
            memory = np.empty(-(-size // _ROUND) * _ROUND, np.uint8)
        given = np.frombuffer(memory.data, np.uint8)  # whose views refer to it, and not to ``memory``
        finalize(given, self._idle.append, memory).atexit = False
        return given


def read_many(
    places: Places, sizes: Int64[np.ndarray, "n 2"], buffers: Buffers, at: Int64[np.ndarray, " one"]
) -> list[UInt8[np.ndarray, " bytes"] | None]:
    """The encoded images of ``sizes`` (0: any) at ``places``, None for each that is not there as a plain JPEG of its size.

    ``at[0]`` is the position of the one that is being waited for.
    """
    from .read_files import read_files

    prefix, n = np.frombuffer(places.prefix, np.uint8), len(places.names)
    names = np.ascontiguousarray(places.names).view(np.uint8).reshape(n, -1)
    images: list[UInt8[np.ndarray, " bytes"] | None] = []
    wanted = 0
    while len(images) < n:  # once, but where images are larger than they were
        first = len(images)
        data = buffers.take(max((n - first) * buffers.usual, wanted))
        ends, found, wanted = read_files(
            prefix, names, places.files, places.offset, places.length, sizes, data, first, at
        )  # fmt: skip
        starts = [0, *ends.tolist()]
        images += [data[starts[i] : starts[i + 1]] if good else None for i, good in enumerate(found.tolist())]
        buffers.usual = max(buffers.usual, min(_MOST, _MARGIN * starts[-1] // _PARTS // max(len(ends), 1)))
    return images
