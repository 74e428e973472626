"""WebDataset tar shards as a data set: samples are read out of the middle of the tars, in any order.

A sample is ``key.jpg`` beside ``key.cls``, its class number as text (https://github.com/webdataset/webdataset). The tars are
walked once: where every image lies, its label and its size go into the cache, and afterwards shards are opened only for
reading images. So the schedule is the one of image folders: a permutation of all samples, exact resume, any number of ranks,
uneven shards, and no shuffle buffer. That needs storage that can read from the middle of a file: a disk or a shared file
system, no pipe and no object store.
"""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from .folder import EXTENSIONS, Index, cache_file, cached_arrays, locked, run_with_progress, write_cache
from .headers import CutShort, image_size

_HEAD = 16384  # bytes that hold the header of nearly every image
_THREADS = 16
_OPEN_SHARDS = 256  # descriptors kept open


@dataclass(frozen=True, eq=False)
class TarIndex(Index):
    """An ``Index`` whose ``files`` are "shard.tar/key.jpg"; ``members`` says where their bytes are."""

    _: KW_ONLY
    shards: tuple[str, ...]
    members: Int64[np.ndarray, "n 3"]  # shard, offset, length

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read."""
        shard, offset, length = self.members[sample].tolist()
        try:
            data = self._open(shard).read(offset, length)
        except OSError as error:
            raise BadFile(f"cannot be read: {error.strerror or os.strerror(error.errno or 0)}") from error
        if len(data) < length:
            raise BadFile(f"cannot be read: {self.shards[shard]} ends early")
        return data

    @cached_property
    def _open(self) -> Callable[[int], _Shard]:
        return lru_cache(_OPEN_SHARDS)(lambda shard: _Shard(self.shards[shard]))


class _Shard:
    """An open tar; closed when nobody reads from it any more."""

    def __init__(self, path: str) -> None:
        self._file = -1
        self._file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def read_tar_index(pattern: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> TarIndex:
    """The index of the tar shards that ``pattern`` names: "train-{0000..1023}.tar", "train-*.tar", or one tar.

    Classes are named "0", "1", ... up to the largest label. ``cache`` is the folder for the index, as for image folders.
    Raises ``ValueError`` for shards that are missing, are no plain tars, or hold an image without a class.
    """
    shards = find_shards(pattern)
    root = os.path.commonpath([os.path.dirname(shard) for shard in shards])
    file = cache_file(Path("/", hashlib.sha256("\0".join(shards).encode()).hexdigest()), cache)
    stats = np.array([[stat.st_size, stat.st_mtime_ns] for stat in map(os.stat, shards)])
    with locked(file):
        found = _cached(file, stats)
        missing = [i for i, contents in enumerate(found) if contents is None]

        def scan(chunk: Int64[np.ndarray, " 1"]) -> int:
            found[chunk[0]] = _scan(shards[chunk[0]], os.path.relpath(shards[chunk[0]], root))
            return 1

        run_with_progress(scan, [np.array([i]) for i in missing], len(missing), "reading tar shards", _THREADS)
        contents = [shard for shard in found if shard is not None]
        counts = np.array([len(shard.labels) for shard in contents])
        arrays = {name: np.concatenate([getattr(shard, name) for shard in contents]) for name in _COLUMNS}
        if missing:
            write_cache(file, stats=stats, counts=counts, **arrays)
    if not counts.sum():
        raise ValueError(f"root must be tar shards that hold images ({', '.join(EXTENSIONS)}), got {str(pattern)!r}")
    owner = np.repeat(np.arange(len(shards)), counts)
    unsized = np.flatnonzero(arrays["sizes"][:, 0] == 0)
    broken = {int(i): _broken(shards[owner[i]], arrays["places"][i]) for i in unsized}
    return TarIndex(
        root, arrays["files"], arrays["labels"], arrays["sizes"], tuple(map(str, range(arrays["labels"].max() + 1))), broken,
        shards=tuple(shards), members=np.column_stack([owner, arrays["places"]]),
    )  # fmt: skip


def find_shards(pattern: str | os.PathLike[str]) -> list[str]:
    """The absolute paths that ``pattern`` names, in order. Raises ``ValueError`` for those that do not exist."""
    paths = []
    for part in _expand(os.path.abspath(os.path.expanduser(os.fspath(pattern)))):
        named = sorted(glob.glob(part)) if glob.has_magic(part) else [part]
        if not named or not os.path.isfile(named[0]):
            raise ValueError(f"root must name tar shards that exist, got {str(pattern)!r}: there is no {part}")
        paths += named
    return paths


def _expand(pattern: str) -> list[str]:
    """Replaces the first {0000..1023} or {a,b} by each of its values, and so on."""
    head, opening, rest = pattern.partition("{")
    inside, closing, tail = rest.partition("}")
    if not (opening and closing):
        return [pattern]
    first, dots, last = inside.partition("..")
    if dots and first.isdecimal() and last.isdecimal() and int(first) <= int(last):
        values = [f"{i:0{len(first)}d}" for i in range(int(first), int(last) + 1)]
    elif dots:
        raise ValueError(f"root must have braces like {{0000..1023}} or {{a,b}}, got {pattern!r}")
    else:
        values = inside.split(",")
    return [head + value + end for value in values for end in _expand(tail)]


_COLUMNS = ("files", "labels", "sizes", "places")


@dataclass(frozen=True, eq=False)
class _Contents:
    """The samples of one shard."""

    files: np.ndarray  # (n,) of dtype S
    labels: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, "n 2"]
    places: Int64[np.ndarray, "n 2"]  # offset, length


def _scan(path: str, name: str) -> _Contents:
    images: dict[str, tuple[bytes, tuple[int, int], tuple[int, int]]] = {}
    labels: dict[str, int] = {}
    try:
        with tarfile.open(path, "r:") as tar, open(path, "rb", buffering=0) as file:
            for member in tar:
                tar.members.clear()  # type: ignore[attr-defined]  # else a tar of a million members is kept in memory
                if not member.isreg():
                    continue
                folder, _, base = member.name.rpartition("/")
                stem, _, ending = base.partition(".")
                key, ending = f"{folder}/{stem}", "." + ending.lower()
                place = member.offset_data, member.size
                if ending == ".cls":
                    labels[key] = _label(path, member.name, os.pread(file.fileno(), member.size, member.offset_data))
                elif ending.endswith(EXTENSIONS):
                    if key in images:
                        raise ValueError(f"root must have one image a key, got two of {stem!r} in {path}")
                    size = _size(file.fileno(), *place)
                    images[key] = os.fsencode(f"{name}/{member.name}"), place, (0, 0) if isinstance(size, str) else size
    except tarfile.TarError as error:
        raise ValueError(f"root must be plain tar files, got {path}: {error}") from error
    missing = images.keys() - labels.keys()
    if missing:
        raise ValueError(f"root must have a .cls file for every image, got none for {min(missing)!r} in {path}")
    rows = images.values()
    return _Contents(
        files=np.array([row[0] for row in rows], "S"),
        labels=np.array([labels[key] for key in images], np.int64),
        sizes=np.array([row[2] for row in rows], np.int64).reshape(-1, 2),
        places=np.array([row[1] for row in rows], np.int64).reshape(-1, 2),
    )


def _label(path: str, name: str, text: bytes) -> int:
    if not text.strip().isdigit():
        raise ValueError(f"root must have class numbers as text in .cls files, got {text[:20]!r} in {name} of {path}")
    return int(text)


def _size(file: int, offset: int, length: int) -> tuple[int, int] | str:
    """(height, width), or the reason why there is none."""
    try:
        try:
            return image_size(os.pread(file, min(length, _HEAD), offset))
        except CutShort:
            return image_size(os.pread(file, length, offset))
    except BadFile as reason:
        return str(reason)


def _broken(path: str, place: Int64[np.ndarray, " 2"]) -> str:
    file = os.open(path, os.O_RDONLY)
    try:
        size = _size(file, *place.tolist())
        return size if isinstance(size, str) else "was changed while the index was read"
    finally:
        os.close(file)


def _cached(file: Path, stats: Int64[np.ndarray, "s 2"]) -> list[_Contents | None]:
    """The contents of the shards that are as they were when the cache was written, None for the others."""
    old = cached_arrays(file, "stats", "counts", *_COLUMNS)
    if not old or old["stats"].shape != stats.shape:
        return [None] * len(stats)
    ends = np.cumsum(old["counts"])
    parts = {name: np.split(old[name], ends[:-1]) for name in _COLUMNS}
    same = (old["stats"] == stats).all(1)
    return [_Contents(*(parts[name][i] for name in _COLUMNS)) if same[i] else None for i in range(len(stats))]
