"""A folder with one sub-folder per class.

Order, labels and accepted file names are those of torchvision's ``ImageFolder``, but that a link back to a folder that it
lies in is not followed. The sizes, which crop windows are drawn from, are read from the headers once and kept in the user's
cache folder; a later start lists the folder and reads again only the headers of files that are new, have another length or
another time of change, or were broken.
"""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from ..printable import printable
from .base import Listing
from .cache import cache_file, locked, read_cache, write_cache
from .headers import Size, image_size
from .progress import TIMEOUT, Turn, run_with_progress
from .splits import refuse_splits
from .storage import open_regular, read_file, retried

_log = logging.getLogger("mixstage")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
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
            raise ValueError(f"root must be a folder with one sub-folder per class, got {str(root)!r}, which has none")
        refuse_splits(path, classes)
        found = _list_classes(str(path), classes, timeout)
        for name, (names, _) in zip(classes, found, strict=True):
            if not names:
                raise ValueError(
                    f"root must have images ({', '.join(EXTENSIONS)}) for every class, got {str(root)!r}, "
                    f"whose class {name!r} has none"
                )
        files = np.array(os.fsencode("\0".join(name for names, _ in found for name in names)).split(b"\0"))
        labels = np.repeat(np.arange(len(classes)), [len(names) for names, _ in found])
        stats = np.concatenate([stat for _, stat in found])
        sizes, broken = read_sizes(str(path), files, stats, cache_file(str(path.resolve()), cache), timeout)
        super().__init__(str(path), files, labels, sizes, classes, broken)

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read, ``OSError`` if its storage cannot."""
        return read_file(self.name(sample))


def _list_classes(root: str, classes: tuple[str, ...], timeout: float) -> list[tuple[list[str], _Stats]]:
    found: dict[str, tuple[list[str], _Stats]] = {}

    def work(name: str, turn: Turn) -> int:
        found[name] = _list_class(root, name, turn)
        return 1

    run_with_progress(work, classes, len(classes), "listing", _THREADS, timeout=timeout)
    return [found[name] for name in classes]


def _list_class(root: str, name: str, turn: Turn) -> tuple[list[str], _Stats]:
    """Names relative to root in ImageFolder's order, and the stats of each file."""
    folders: dict[str, list[os.DirEntry[str]]] = {}
    top = os.path.join(root, name)
    above: tuple[_Identity, ...] = (_identity(root), _identity(top))
    found = [(top, above)]
    for folder, above in found:  # grows
        turn(folder)
        folders[folder] = []
        for entry in sorted(os.scandir(folder), key=lambda entry: entry.name):
            if not _is_folder(entry):
                if entry.name.lower().endswith(EXTENSIONS):
                    folders[folder].append(entry)
            elif not _leads_back(entry.path, above):
                found.append((entry.path, (*above, _identity(entry.path))))
    names, stats = [], []
    for folder in sorted(folders):
        inside = os.path.relpath(folder, root)
        for i, entry in enumerate(folders[folder]):
            if i % _CHUNK == 0:
                turn(entry.path)
            names.append(f"{inside}/{entry.name}")
            stats.append(stat_of(entry))
    return names, np.array(stats, np.int64).reshape(-1, 2)


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


def stat_of(entry: os.DirEntry[str] | Path) -> tuple[int, int]:
    """Length and time of change of a file, as the cache compares them."""
    try:
        status = retried(os.fspath(entry), entry.stat)
    except BadFile:  # a dangling link; the header scan says so
        return -1, -1
    return status.st_size, status.st_mtime_ns


def read_sizes(
    root: str, files: np.ndarray, stats: _Stats, cache: Path | None, timeout: float
) -> tuple[Int64[np.ndarray, "n 2"], dict[int, str]]:
    """Sizes of ``files`` under ``root``, 0 for broken ones, and why those are; read from the cache where it has them."""
    with locked(cache, root, timeout) as alive:
        sizes = _cached_sizes(cache, files, stats)
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
        if len(missing) > len(broken):  # something was learnt
            write_cache(cache, files=files, stats=stats, sizes=sizes.astype(np.int32))
    if broken:
        _log.warning(
            "%d of %d files in %s have no readable header; `mixstage check` lists them",
            len(broken), len(files), printable(root),
        )  # fmt: skip
    return sizes, dict(sorted(broken.items()))


def _file_size(path: str) -> Size:
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        return image_size(file)


def _cached_sizes(cache: Path | None, files: np.ndarray, stats: _Stats) -> Int64[np.ndarray, "n 2"]:
    """Sizes of the files that are as they were, 0 for the others."""
    sizes = np.zeros((len(files), 2), np.int64)
    stored = read_cache(cache, "files", "stats", "sizes")
    if not stored:
        return sizes
    old_files, old_stats, old_sizes = (stored[name] for name in ("files", "stats", "sizes"))
    if np.array_equal(old_files, files):
        old = np.arange(len(files))
    else:
        where = {name: i for i, name in enumerate(old_files.tolist())}
        old = np.array([where.get(name, -1) for name in files.tolist()])
    same = (old >= 0) & (old_stats[old] == stats).all(1)
    sizes[same] = old_sizes[old[same]]
    return sizes
