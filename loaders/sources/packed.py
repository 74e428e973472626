"""Images that lie in the middle of larger files: shards of a tar, a zip, a TFRecord or a RecordIO file.

    shards  ->  scan, once each, in threads  ->  cache: names, labels, sizes, places  ->  read(i): one read by position

The schedule is therefore the one of image folders: a permutation of all samples, exact resume, any number of ranks, uneven
shards, no shuffle buffer. A shard is scanned again when its length or its time of change is another.
"""

from __future__ import annotations

import glob
import io
import json
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from braceexpand import braceexpand
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from .base import Labels, Listing
from .cache import cache_file, locked, read_cache, write_cache
from .headers import Size, image_size
from .labels import as_labels, distinct
from .progress import Turn, run_with_progress
from .read_many import Places
from .remote import RemoteShards, is_address
from .storage import open_regular, retried

_THREADS = 16
_OPEN_SHARDS = 256  # descriptors kept open
_COLUMNS = ("files", "labels", "sizes", "places")


@dataclass(frozen=True, eq=False)
class Contents:
    """The samples of one shard.

    ``labels`` are class numbers, class names, weights of all classes, or folders that end in "/", whose names under the one
    that all samples share are the classes. ``places`` are an offset, a length, and whatever else ``decode`` needs.
    """

    files: np.ndarray  # (n,) of dtype S, "shard/name"
    labels: np.ndarray
    sizes: Int64[np.ndarray, "n 2"]
    places: Int64[np.ndarray, "n p"]


class Packed(Listing):
    """The images of shards; ``files`` are "shard/name".

    ``pattern`` names the shards: "train-{0000..1023}.tar", "train-*.tar", one file, or addresses that ``fsspec`` reads, such
    as "s3://bucket/train-{0000..1023}.tar", which are fetched into the cache. ``scan(path, name, turn)`` gives the contents
    of a shard and raises ``BadFile`` or ``broken_shard`` for one that is none. ``what`` says what shards are, in words, and
    ``options`` what else the contents depend on, ``None`` if that is what no cache can know.
    """

    def __init__(
        self,
        pattern: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        scan: Callable[[str, str, Turn], Contents],
        *,
        what: str,
        broken_shard: tuple[type[Exception], ...] = (),
        options: str | None = "",
        classes: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None,
        timeout: float,
    ) -> None:
        self._remote = RemoteShards(pattern, cache, what) if is_address(pattern) else None
        self.shards = tuple(find_shards(pattern, what) if self._remote is None else self._remote.addresses)
        root = os.path.commonpath([os.path.dirname(shard) for shard in self.shards]) if self._remote is None else ""
        scanner = _Scanner(self.shards, root, scan, what, broken_shard, self._remote, timeout)
        counts, columns = scanner.run(None if options is None else cache_file("\0".join([*self.shards, options]), cache))
        if not counts.sum():
            raise ValueError(f"root must be {what} that hold images, got {str(pattern)!r}")
        files, labels, sizes, places = (columns[name] for name in _COLUMNS)
        owner = np.repeat(np.arange(len(self.shards)), counts)
        self.members: Int64[np.ndarray, "n p"] = np.column_stack([owner, places])  # shard, offset, length, ...
        numbers, names = folder_labels(labels, classes, files)
        super().__init__(root, files, numbers, sizes, names)
        self.broken.update({i: self._reason(i) for i in np.flatnonzero(sizes[:, 0] == 0).tolist()})

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read, ``OSError`` if its storage cannot."""
        return retried(self.name(sample), self._read, *self.members[sample].tolist())

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places | None:
        """Where samples lie; None where they have to be fetched, are made of what lies there, or cannot be opened."""
        if self._remote is not None or type(self).decode is not Packed.decode:
            return None
        shards, offset, length = np.ascontiguousarray(self.members[samples, :3].T)
        try:
            held = [self._open(shard) for shard in shards.tolist()]
        except (BadFile, OSError):  # which ``read`` raises of each
            return None
        files = np.array([shard.descriptor for shard in held], np.int32)
        return Places(b"", np.zeros(len(files), "S1"), files, offset, length, held)

    def decode(self, data: bytes, *place: int) -> bytes:
        """The image in what lies at a place. Raises ``BadFile``."""
        return data

    def _read(self, shard: int, offset: int, length: int, *more: int) -> bytes:
        data = self._open(shard).read(offset, length)
        if len(data) < length:
            raise BadFile(f"cannot be read: {self.shards[shard]} ends early")
        return self.decode(data, *more)

    @cached_property
    def _open(self) -> Callable[[int], _Shard]:
        return lru_cache(_OPEN_SHARDS)(self._opened)

    def _opened(self, shard: int) -> _Shard:
        if self._remote is None:
            return _Shard(self.shards[shard])
        with self._remote.held(shard) as path:
            return _Shard(path)

    def _reason(self, sample: int) -> str:
        """Why an image has no size."""
        try:
            image_size(io.BytesIO(self.read(sample)))
        except BadFile as reason:
            return str(reason)
        return "was changed while the index was read"


class _Shard:
    """An open shard; closed when nobody reads from it any more."""

    def __init__(self, path: str) -> None:
        self.descriptor = -1
        self.descriptor = open_regular(path, os.O_RDONLY | os.O_CLOEXEC)

    def read(self, offset: int, length: int) -> bytes:
        return os.pread(self.descriptor, length, offset)

    def __del__(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)


@dataclass(frozen=True, eq=False)
class _Scanner:
    shards: tuple[str, ...]
    root: str
    scan: Callable[[str, str, Turn], Contents]
    what: str
    broken_shard: tuple[type[Exception], ...]
    remote: RemoteShards | None
    timeout: float

    def run(self, cache: Path | None) -> tuple[Int64[np.ndarray, " s"], dict[str, np.ndarray]]:
        """The images in each shard, and the columns of all: from the cache, where shards are as when that was written."""
        with locked(cache, self.root or self.shards[0], self.timeout) as alive:
            stats = np.array(self.remote.stats if self.remote else [_stat(shard) for shard in self.shards])
            old = read_cache(cache, "stats", "counts", *_COLUMNS)
            found = _unchanged(old, stats)
            missing = [i for i in range(len(self.shards)) if i not in found]
            if not missing:
                return old["counts"], old
            errors: tuple[type[Exception], ...] = (BadFile, *self.broken_shard)

            def work(shard: int, turn: Turn) -> int:
                path = self.shards[shard]
                turn(path)
                try:
                    if self.remote is None:
                        found[shard] = retried(path, self.scan, path, os.path.relpath(path, self.root), turn)
                    else:
                        with self.remote.held(shard, lambda: turn(path)) as local:
                            found[shard] = retried(path, self.scan, local, path, turn)
                except errors as error:
                    raise ValueError(f"root must be {self.what}, got {path}: {error}") from error
                return 1

            text = f"reading {self.what.split(' (')[0]}"
            run_with_progress(work, missing, len(missing), text, _THREADS, timeout=self.timeout, alive=alive)
            contents = [found[i] for i in range(len(self.shards))]
            full = [shard for shard in contents if len(shard.files)]
            if len({(shard.labels.dtype.kind, shard.labels.shape[1:]) for shard in full}) > 1:
                raise ValueError(f"root must be {self.what} with labels of one kind, got several")
            counts = np.array([len(shard.files) for shard in contents])
            columns = {name: np.concatenate([getattr(shard, name) for shard in full]) for name in _COLUMNS} if full else {}
            if columns:
                write_cache(cache, stats=stats, counts=counts, **columns)
        return counts, columns


def _stat(path: str) -> tuple[int, int]:
    status = os.stat(path)
    return status.st_size, status.st_mtime_ns


def _unchanged(old: dict[str, np.ndarray], stats: Int64[np.ndarray, "s 2"]) -> dict[int, Contents]:
    """The contents of the shards that are as they were when the cache ``old`` was written."""
    if not old or old["stats"].shape != stats.shape:
        return {}
    ends = np.cumsum(old["counts"])
    parts = {name: np.split(old[name], ends[:-1]) for name in _COLUMNS}
    same = np.flatnonzero((old["stats"] == stats).all(1)).tolist()
    return {i: Contents(*(parts[name][i] for name in _COLUMNS)) for i in same}


def find_shards(pattern: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], what: str = "tar shards") -> list[str]:
    """The absolute paths that ``pattern`` names, in order. Raises ``ValueError`` for those that do not exist."""
    if not isinstance(pattern, (str, os.PathLike)):
        return [path for part in pattern for path in find_shards(part, what)]
    whole = os.path.abspath(os.path.expanduser(os.fspath(pattern)))
    if os.path.isfile(whole):  # whatever characters its name has
        return [whole]
    paths = []
    for part in braceexpand(whole):
        named = sorted(glob.glob(part)) if glob.has_magic(part) else [part]
        if not named or not os.path.isfile(named[0]):
            raise ValueError(f"root must name {what.split(' (')[0]} that exist, got {str(pattern)!r}: there is no {part}")
        paths += named
    return paths


def size_or_none(file: BinaryIO) -> Size:
    """(height, width) of the image in an open file, 0 where there is none."""
    try:
        return image_size(file)
    except BadFile:
        return 0, 0


def class_folder(name: str) -> str | None:
    """The folder of a member as ``Contents`` holds it, ``None`` for one at the top."""
    folder = posixpath.normpath(posixpath.dirname(name)).strip("/")
    return None if folder in ("", ".") else f"{folder}/"


def folder_labels(labels: np.ndarray, classes: Sequence[str] | None, files: np.ndarray) -> tuple[Labels, tuple[str, ...]]:
    """Labels and classes, of folders those of an image folder."""
    if labels.dtype.kind != "U" or not labels[0].endswith("/"):
        return as_labels(labels, classes)
    folders, numbers = distinct(labels)
    parts = [folder[:-1].split("/") for folder in folders]
    shared = _shared(parts) if len(parts) > 1 else len(parts[0]) - 1
    for i, part in enumerate(parts):
        if len(part) <= shared:
            first = files[np.flatnonzero(numbers == i)[0]]
            raise ValueError(f"root must have every image in the folder of its class, got {os.fsdecode(first)!r}")
    found, names = as_labels([part[shared] for part in parts], classes)
    return found[numbers], names


def _shared(parts: list[list[str]]) -> int:
    """How many folders all paths begin with."""
    least, most = min(parts), max(parts)
    return next((i for i, (a, b) in enumerate(zip(least, most, strict=False)) if a != b), min(len(least), len(most)))


def json_label(data: bytes, label: Callable[[Any], Any] | str) -> Any:
    """The label in a sample's JSON: what is under a key, or what a function makes of it. Raises ``BadFile``."""
    try:
        value = json.loads(data)
        return label(value) if callable(label) else value[label]
    except (ValueError, KeyError, TypeError, IndexError) as error:
        raise BadFile(f"has no label in its JSON: {type(error).__name__}: {error}") from error
