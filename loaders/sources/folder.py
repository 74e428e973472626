"""A folder with one sub-folder per class.

Order, labels and accepted file names are those of torchvision's ``ImageFolder``, but that a link back to a folder that it
lies in is not followed. The sizes, which crop windows are drawn from, are read from the headers once and kept in the user's
cache folder; a later start lists the folder and reads again only the headers of files that are new, have another length or
another time of change, or were broken.
"""

from __future__ import annotations

import hashlib
import logging
import os
from array import array
from collections.abc import Callable
from operator import attrgetter
from pathlib import Path

import numpy as np
from jaxtyping import Int64, UInt8

from pipelines.bad_file import BadFile

from ..printable import printable
from .base import Listing
from .cache import cache_file, locked, read_cache, version_of, write_cache
from .headers import Size, image_size
from .progress import TIMEOUT, Turn, run_with_progress
from .read_many import Places, whole_files
from .splits import refuse_splits
from .storage import open_regular, read_file, retried

_log = logging.getLogger("mixstage")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
_SHARDS = (".tar", ".parquet", ".arrow", ".zip")  # what a folder of no classes may hold
_THREADS = 16  # waiting for storage, mostly
_CHUNK = 256  # files of one task

_Identity = tuple[int, int]  # device, inode
_Stats = Int64[np.ndarray, "n 2"]  # length in bytes, time of change in ns; -1 where there are none


class Folder(Listing):
    """The images of a folder of class folders, as ``torchvision.datasets.ImageFolder`` lists them.

    ``cache`` is the folder for the sizes, by default ``$MIXSTAGE_CACHE`` or ``mixstage`` in the user's cache folder. Raises
    ``ValueError`` for a root that is missing, has no class folders, or has a class without images, and ``TimeoutError``
    naming a file or folder that does not answer for ``timeout`` seconds.
    """

    def __init__(
        self, root: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None, timeout: float = TIMEOUT
    ) -> None:
        path = Path(root).expanduser().absolute()
        if not path.is_dir():
            why = "which is no folder" if os.path.lexists(path) else "which does not exist"
            raise ValueError(f"root must be a folder with one sub-folder per class, got {str(root)!r}, {why}")
        classes = tuple(sorted(entry.name for entry in os.scandir(path) if _is_folder(entry)))
        if not classes:
            shard = next((found.suffix for found in sorted(path.iterdir()) if found.suffix in _SHARDS), None)
            hint = "" if shard is None else f"; its shards are {str(path / ('*' + shard))!r}"
            raise ValueError(f"root must be a folder with one sub-folder per class, got {str(root)!r}, which has none{hint}")
        refuse_splits(path, classes)
        found = _list_classes(str(path), classes, timeout)
        for name, (names, _) in zip(classes, found, strict=True):
            if not len(names):
                raise ValueError(
                    f"root must have images ({', '.join(EXTENSIONS)}) for every class, got {str(root)!r}, "
                    f"whose class {name!r} has none"
                )
        labels = np.repeat(np.arange(len(classes)), [len(names) for names, _ in found])
        files, stats = (np.concatenate(parts) for parts in zip(*found, strict=True))
        del found  # as much memory again
        sizes, broken = read_sizes(str(path), files, stats, cache_file(str(path.resolve()), cache), timeout)
        super().__init__(str(path), files, labels, sizes, classes, broken)

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read, ``OSError`` if its storage cannot."""
        return read_file(self.name(sample))

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places:
        """Where samples lie."""
        return whole_files(self.root, self.files, samples)


def _list_classes(root: str, classes: tuple[str, ...], timeout: float) -> list[tuple[np.ndarray, _Stats]]:
    found: dict[str, tuple[np.ndarray, _Stats]] = {}

    def work(name: str, turn: Turn) -> int:
        found[name] = _list_class(root, name, turn)
        return 1

    run_with_progress(work, classes, len(classes), "listing", _THREADS, timeout=timeout)
    return [found[name] for name in classes]


def _list_class(root: str, name: str, turn: Turn) -> tuple[np.ndarray, _Stats]:
    """Names relative to root in ImageFolder's order (dtype S), and the stats of each file.

    All is kept as bytes and numbers: a million names as Python's strings are a tenth of a gigabyte.
    """
    folders: dict[str, list[os.DirEntry[str]]] = {}
    top = os.path.join(root, name)
    above: tuple[_Identity, ...] = (_identity(root), _identity(top))
    found = [(top, above)]
    for folder, above in found:  # grows
        turn(folder)
        folders[folder] = []
        for entry in sorted(os.scandir(folder), key=attrgetter("name")):
            if not _is_folder(entry):
                if entry.name.lower().endswith(EXTENSIONS):
                    folders[folder].append(entry)
            elif not _leads_back(entry.path, above):
                found.append((entry.path, (*above, _identity(entry.path))))
    names, stats = [], array("q")
    for folder in sorted(folders):
        inside = os.path.relpath(folder, root)
        for i, entry in enumerate(folders[folder]):
            if i % _CHUNK == 0:
                turn(entry.path)
            names.append(f"{inside}/{entry.name}")
            stats.extend(stat_of(entry.path, entry.stat))
    return as_bytes(names), np.array(stats, np.int64).reshape(-1, 2)


def as_bytes(names: list[str]) -> np.ndarray:
    """File names as an array of dtype S."""
    return np.array(os.fsencode("\0".join(names)).split(b"\0")) if names else np.zeros(0, "S1")


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return retried(entry.path, entry.is_dir)
    except BadFile:  # a link to itself
        return False


def _identity(folder: str) -> _Identity:
    status = os.stat(folder)
    return status.st_dev, status.st_ino


def _leads_back(folder: str, above: tuple[_Identity, ...]) -> bool:
    """Whether ``folder`` is one that it lies in itself, by a link, so that listing it would never end."""
    if _identity(folder) not in above:
        return False
    _log.warning("%s leads back to a folder that it lies in; it is not listed", printable(folder))
    return True


def stat_of(path: str, stat: Callable[[], os.stat_result]) -> tuple[int, int]:
    """Length and time of change of a file, as the cache compares them, from what ``stat`` gives."""
    try:
        status = retried(path, stat)
    except BadFile:  # a dangling link; the header scan says so
        return -1, -1
    return status.st_size, status.st_mtime_ns


def read_sizes(
    root: str, files: np.ndarray, stats: _Stats, cache: Path | None, timeout: float
) -> tuple[Int64[np.ndarray, "n 2"], dict[int, str]]:
    """Sizes of ``files`` under ``root``, 0 for broken ones, and why those are; read from the cache where it has them.

    The cache is first looked at without its lock, which many processes that start at once would wait for in turn.
    """
    listing = _digest(files, stats)
    version, (sizes, is_current) = version_of(cache), _cached_sizes(cache, files, stats, listing)
    if is_current and sizes.all():
        return sizes, {}
    with locked(cache, root, timeout) as alive:
        if version_of(cache) != version:  # another process has written it meanwhile
            sizes, is_current = _cached_sizes(cache, files, stats, listing)
        missing = np.flatnonzero(sizes[:, 0] == 0)
        broken: dict[int, str] = {}

        def scan(chunk: Int64[np.ndarray, " c"], turn: Turn) -> int:
            for i in chunk.tolist():
                name = os.path.join(root, os.fsdecode(files[i]))
                turn(name)
                try:
                    sizes[i] = retried(name, _file_size, name)
                except BadFile as reason:
                    broken[i] = str(reason)
            return len(chunk)

        if len(missing) >= _CHUNK:
            _log.info("reading the headers of %d images in %s", len(missing), printable(root))
        chunks = np.split(missing, range(_CHUNK, len(missing), _CHUNK)) if len(missing) else []
        run_with_progress(scan, chunks, len(missing), "reading image headers", _THREADS, timeout=timeout, alive=alive)
        if len(missing) > len(broken) or (not is_current and sizes.any()):  # something was learnt, or files are gone
            write_cache(cache, listing=listing, files=files, stats=stats, sizes=sizes.astype(np.int32))
    if broken:
        _log.warning(
            "%d of %d files in %s have no readable header; `mixstage check` lists them",
            len(broken), len(files), printable(root),
        )  # fmt: skip
    return sizes, dict(sorted(broken.items()))


def _file_size(path: str) -> Size:
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        return image_size(file)


def _digest(files: np.ndarray, stats: _Stats) -> UInt8[np.ndarray, " bytes"]:
    """Of a listing: names and stats."""
    digest = hashlib.sha256(f"{files.dtype.str} {files.shape}".encode())
    digest.update(np.ascontiguousarray(files).view(np.uint8).data)
    digest.update(np.ascontiguousarray(stats).data)
    return np.frombuffer(digest.digest(), np.uint8)


def _cached_sizes(
    cache: Path | None, files: np.ndarray, stats: _Stats, listing: UInt8[np.ndarray, " bytes"]
) -> tuple[Int64[np.ndarray, "n 2"], bool]:
    """Sizes of the files that are as they were, 0 for the others, and whether the cache is of this very listing."""
    stored = read_cache(cache, "listing", "sizes")
    if stored and np.array_equal(stored["listing"], listing):  # then names and stats need not be read
        return stored["sizes"].astype(np.int64), True
    sizes = np.zeros((len(files), 2), np.int64)
    stored = stored and read_cache(cache, "files", "stats", "sizes")
    if not stored:
        return sizes, False
    old_files, old_stats, old_sizes = (stored[name] for name in ("files", "stats", "sizes"))
    order = np.argsort(old_files, kind="stable")
    old = order[np.minimum(np.searchsorted(old_files, files, sorter=order), len(order) - 1)]
    same = (old_files[old] == files) & (old_stats[old] == stats).all(1)
    sizes[same] = old_sizes[old[same]]
    return sizes, False
