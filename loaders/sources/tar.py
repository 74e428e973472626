"""WebDataset tar shards as a data set: samples are read out of the middle of the tars, in any order.

A sample is ``key.jpg`` beside ``key.cls``, its class number as text (https://github.com/webdataset/webdataset); names that
begin with a dot are passed over, as there. The tars are walked once: where every image lies, its label and its size go into
the cache, and afterwards shards are opened only for reading images. So the schedule is the one of image folders: a
permutation of all samples, exact resume, any number of ranks, uneven shards, and no shuffle buffer. That needs storage that
can read from the middle of a file: a disk or a shared file system, no pipe and no object store.
"""

from __future__ import annotations

import glob
import io
import logging
import os
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
from braceexpand import braceexpand
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from ..printable import printable
from .base import MOST_CLASSES, Listing, numbered_classes
from .cache import cache_file, locked, read_cache, write_cache
from .folder import EXTENSIONS
from .headers import Size, image_size
from .progress import TIMEOUT, Turn, run_with_progress
from .storage import open_regular, retried

_log = logging.getLogger("mixstage")
_THREADS = 16
_OPEN_SHARDS = 256  # descriptors kept open
_LONGEST_LABEL = 32  # bytes
_AFTER = 1 << 20  # bytes that are looked at behind the end mark


class TarShards(Listing):
    """The images of tar shards; ``files`` are "shard.tar/key.jpg".

    ``pattern`` names the shards: "train-{0000..1023}.tar", "train-*.tar", or one tar. Classes are named "0", "1", ... up to
    the largest label. ``cache`` is the folder for the index, as for image folders. Raises ``ValueError`` for shards that are
    missing, are no plain tars, were cut off, or hold an image without a class, and ``TimeoutError`` naming a shard that does
    not answer for ``timeout`` seconds.
    """

    def __init__(
        self, pattern: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None, timeout: float = TIMEOUT
    ) -> None:
        self.shards = tuple(find_shards(pattern))
        root = os.path.commonpath([os.path.dirname(shard) for shard in self.shards])
        contents = _read_shards(self.shards, root, cache_file("\0".join(self.shards), cache), timeout)
        counts = [len(shard.labels) for shard in contents]
        if not sum(counts):
            raise ValueError(f"root must be tar shards that hold images ({', '.join(EXTENSIONS)}), got {str(pattern)!r}")
        files, labels, sizes, places = (np.concatenate([getattr(shard, name) for shard in contents]) for name in _COLUMNS)
        owner = np.repeat(np.arange(len(self.shards)), counts)
        self.members: Int64[np.ndarray, "n 3"] = np.column_stack([owner, places])  # shard, offset, length
        super().__init__(root, files, labels, sizes, numbered_classes(int(labels.max())))
        self.broken.update({i: self._reason(i) for i in np.flatnonzero(sizes[:, 0] == 0).tolist()})

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read, ``OSError`` if its storage cannot."""
        return retried(self.name(sample), self._read, *self.members[sample].tolist())

    def _read(self, shard: int, offset: int, length: int) -> bytes:
        data = self._open(shard).read(offset, length)
        if len(data) < length:
            raise BadFile(f"cannot be read: {self.shards[shard]} ends early")
        return data

    @cached_property
    def _open(self) -> Callable[[int], _Shard]:
        return lru_cache(_OPEN_SHARDS)(lambda shard: _Shard(self.shards[shard]))

    def _reason(self, sample: int) -> str:
        """Why an image has no size."""
        try:
            image_size(io.BytesIO(self.read(sample)))
        except BadFile as reason:
            return str(reason)
        return "was changed while the index was read"


class _Shard:
    """An open tar; closed when nobody reads from it any more."""

    def __init__(self, path: str) -> None:
        self._file = -1
        self._file = open_regular(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self._file, length, offset)

    def __del__(self) -> None:
        if self._file >= 0:
            os.close(self._file)


def find_shards(pattern: str | os.PathLike[str]) -> list[str]:
    """The absolute paths that ``pattern`` names, in order. Raises ``ValueError`` for those that do not exist."""
    whole = os.path.abspath(os.path.expanduser(os.fspath(pattern)))
    if os.path.isfile(whole):  # whatever characters its name has
        return [whole]
    paths = []
    for part in braceexpand(whole):
        named = sorted(glob.glob(part)) if glob.has_magic(part) else [part]
        if not named or not os.path.isfile(named[0]):
            raise ValueError(f"root must name tar shards that exist, got {str(pattern)!r}: there is no {part}")
        paths += named
    return paths


_COLUMNS = ("files", "labels", "sizes", "places")


@dataclass(frozen=True, eq=False)
class _Contents:
    """The samples of one shard."""

    files: np.ndarray  # (n,) of dtype S
    labels: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, "n 2"]
    places: Int64[np.ndarray, "n 2"]  # offset, length


def _read_shards(shards: tuple[str, ...], root: str, cache: Path | None, timeout: float) -> list[_Contents]:
    """The contents of every shard: from the cache, where it is as it was when that was written."""
    stats = np.array([[status.st_size, status.st_mtime_ns] for status in map(os.stat, shards)])
    with locked(cache, root, timeout) as alive:
        found = _cached(cache, stats)
        missing = [i for i in range(len(shards)) if i not in found]

        def scan(shard: int, turn: Turn) -> int:
            path = shards[shard]
            try:
                found[shard] = retried(path, _scan, path, os.path.relpath(path, root), turn)
            except (BadFile, tarfile.TarError) as error:
                raise ValueError(f"root must be plain tar files, got {path}: {error}") from error
            return 1

        run_with_progress(scan, missing, len(missing), "reading tar shards", _THREADS, timeout=timeout, alive=alive)
        contents = [found[i] for i in range(len(shards))]
        if missing:
            arrays = {name: np.concatenate([getattr(shard, name) for shard in contents]) for name in _COLUMNS}
            write_cache(cache, stats=stats, counts=np.array([len(shard.labels) for shard in contents]), **arrays)
    return contents


def _scan(path: str, name: str, turn: Turn) -> _Contents:
    images: dict[str, tuple[bytes, tuple[int, int], Size]] = {}
    labels: dict[str, int] = {}
    with open(path, "rb", buffering=0, opener=open_regular) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            turn(path)
            tar.members = []  # type: ignore[attr-defined]  # else a tar of a million members is kept in memory
            folder, _, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key, ending, place = f"{folder}/{stem}", "." + ending.lower(), (member.offset_data, member.size)
            if member.size < 0 or member.issparse():
                raise BadFile(f"its member {printable(member.name)} is none that can be read")
            if base.startswith("."):  # as macOS puts beside every file
                continue
            if not member.isreg():
                if ending.endswith(EXTENSIONS):
                    _log.warning("%s: %s is a link and passed over", printable(path), printable(member.name))
                continue
            if ending == ".cls":
                text = os.pread(file.fileno(), min(member.size, _LONGEST_LABEL), member.offset_data)
                labels[key] = _label(path, member.name, text)
            elif ending.endswith(EXTENSIONS):
                if key in images:
                    raise ValueError(f"root must have one image a key, got two of {stem!r} in {path}")
                images[key] = os.fsencode(f"{name}/{member.name}"), place, _size(tar, member)
        _check_end(file, tar.offset)  # type: ignore[attr-defined]
    if missing := images.keys() - labels.keys():
        raise ValueError(f"root must have a .cls file for every image, got none for {min(missing)!r} in {path}")
    rows = images.values()
    return _Contents(
        files=np.array([row[0] for row in rows], "S"),
        labels=np.array([labels[key] for key in images], np.int64),
        sizes=np.array([row[2] for row in rows], np.int64).reshape(-1, 2),
        places=np.array([row[1] for row in rows], np.int64).reshape(-1, 2),
    )


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raises ``BadFile`` unless zeros are what follows ``offset``: tarfile takes whatever is no header for the end."""
    rest = os.pread(file.fileno(), _AFTER, offset)
    if len(rest) < tarfile.BLOCKSIZE:
        raise BadFile(f"it was cut off: there is no end mark at byte {offset}")
    if any(rest[: tarfile.BLOCKSIZE]):
        raise BadFile(f"the header of the member at byte {offset} is damaged")
    if rest.strip(b"\0"):
        raise BadFile(f"there are data behind its end mark at byte {offset}; are these several tars in one?")


def _label(path: str, name: str, text: bytes) -> int:
    if text.strip().isdigit() and len(text) < _LONGEST_LABEL and int(text) < MOST_CLASSES:
        return int(text)
    raise ValueError(
        f"root must have class numbers below {MOST_CLASSES} as text in .cls files, "
        f"got {text[:20]!r} in {printable(name)} of {path}"
    )


def _size(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Size:
    """(height, width), 0 where there is none."""
    try:
        return image_size(tar.extractfile(member))  # type: ignore[arg-type]  # it is a regular member, and read in parts
    except BadFile:
        return 0, 0


def _cached(cache: Path | None, stats: Int64[np.ndarray, "s 2"]) -> dict[int, _Contents]:
    """The contents of the shards that are as they were when the cache was written."""
    old = read_cache(cache, "stats", "counts", *_COLUMNS)
    if not old:
        return {}
    ends = np.cumsum(old["counts"])
    parts = {name: np.split(old[name], ends[:-1]) for name in _COLUMNS}
    same = np.flatnonzero((old["stats"] == stats).all(1)).tolist()
    return {i: _Contents(*(parts[name][i] for name in _COLUMNS)) for i in same}
