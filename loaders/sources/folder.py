"""The index of a data set: files, labels, class names and image sizes of a folder with one sub-folder per class.

Order, labels and accepted file names are those of torchvision's ``ImageFolder``. The sizes, which crop windows are drawn
from, are read from the headers once and kept in the user's cache folder; a later start lists the folder and reads again
only the headers of files that are new, have another length or another time of change, or were broken.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Int64
from rich.console import Console
from rich.progress import Progress

from pipelines.bad_file import BadFile

from .headers import CutShort, image_size

_log = logging.getLogger("mixstage")
EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")  # torchvision's
_HEAD = 16384  # bytes that hold the header of nearly every file
_THREADS = 16  # waiting for storage, mostly
_CHUNK = 256  # files of one task
_LOCK_SECONDS = 3600.0


@dataclass(frozen=True, eq=False)
class Index:
    """A data set of n images.

    ``files`` are names relative to ``root``, as bytes (``S`` dtype: a hundredth of a gigabyte per million where Python's
    strings need a tenth); ``sizes`` are (height, width) as stored, 0 where the header is broken; ``broken`` says why.
    """

    root: str
    files: np.ndarray  # (n,) of dtype S
    labels: Int64[np.ndarray, " n"]
    sizes: Int64[np.ndarray, "n 2"]
    classes: tuple[str, ...]
    broken: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, sample: int) -> str:
        """The path of a sample's file."""
        return os.path.join(self.root, os.fsdecode(self.files[sample]))

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read."""
        try:
            with open(self.name(sample), "rb", buffering=0) as file:
                return file.read()
        except OSError as error:
            raise BadFile(f"cannot be read: {error.strerror or os.strerror(error.errno or 0)}") from error

    @cached_property
    def digest(self) -> str:
        """Hash of names and labels: equal for equal data sets wherever they lie, whatever has become of single files."""
        text = hashlib.sha256("\0".join(self.classes).encode())
        text.update(f"\0{self.files.dtype.itemsize}\0".encode())
        text.update(self.files.tobytes())
        text.update(self.labels.tobytes())
        return text.hexdigest()[:16]


def read_index(root: str | os.PathLike[str], *, cache: str | os.PathLike[str] | None = None) -> Index:
    """The index of an image folder, or of tar shards where ``root`` ends in ".tar" (``loaders/sources/tar.py``).

    ``cache`` is the folder for the sizes, by default ``$MIXSTAGE_CACHE`` or ``mixstage`` in the user's cache folder. Raises
    ``ValueError`` for a root that is missing, has no class folders, or has a class without images.
    """
    if os.fspath(root).endswith(".tar"):
        from .tar import read_tar_index

        return read_tar_index(root, cache=cache)
    path = Path(root).expanduser().absolute()
    if not path.is_dir():
        raise ValueError(f"root must be a folder with one sub-folder per class, got {str(root)!r}, which does not exist")
    classes = tuple(sorted(entry.name for entry in os.scandir(path) if entry.is_dir()))
    if not classes:
        raise ValueError(f"root must be a folder with one sub-folder per class, got {str(root)!r}, which has none")
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda name: _list_class(str(path), name), classes))
    for name, (names, _) in zip(classes, found, strict=True):
        if not names:
            raise ValueError(
                f"root must have images ({', '.join(EXTENSIONS)}) for every class, got {str(root)!r}, "
                f"whose class {name!r} has none"
            )
    files = np.array(os.fsencode("\0".join(name for names, _ in found for name in names)).split(b"\0"))
    stats = np.concatenate([stat for _, stat in found])
    labels = np.repeat(np.arange(len(classes)), [len(names) for names, _ in found])
    sizes, broken = _read_sizes(path, files, stats, cache_file(path, cache))
    return Index(str(path), files, labels, sizes, classes, broken)


def _list_class(root: str, name: str) -> tuple[list[str], Int64[np.ndarray, "n 2"]]:
    """Names relative to root in ImageFolder's order, and (length in bytes, time of change in ns) of each file."""
    folders = {}
    found = [os.path.join(root, name)]
    for folder in found:  # grows
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        found += [entry.path for entry in entries if entry.is_dir()]
        folders[folder] = [e for e in entries if e.name.lower().endswith(EXTENSIONS) and not e.is_dir()]
    names, stats = [], []
    for folder in sorted(folders):
        inside = os.path.relpath(folder, root)
        names += [f"{inside}/{entry.name}" for entry in folders[folder]]
        stats += [_stat(entry) for entry in folders[folder]]
    return names, np.array(stats, np.int64).reshape(-1, 2)


def _stat(entry: os.DirEntry[str]) -> tuple[int, int]:
    try:
        stat = entry.stat()
    except OSError:  # a dangling link; the header scan says so
        return -1, -1
    return stat.st_size, stat.st_mtime_ns


def _read_sizes(
    root: Path, files: np.ndarray, stats: Int64[np.ndarray, "n 2"], cache: Path
) -> tuple[Int64[np.ndarray, "n 2"], dict[int, str]]:
    with locked(cache):
        sizes = _cached_sizes(cache, files, stats)
        missing = np.flatnonzero(sizes[:, 0] == 0)
        broken = _scan(root, files, sizes, missing)
        if len(missing) > len(broken):  # something was learnt
            write_cache(cache, files=files, stats=stats, sizes=sizes.astype(np.int32))
    if broken:
        _log.warning(
            "%d of %d files in %s have no readable header; `mixstage check` lists them", len(broken), len(files), root
        )
    return sizes, broken


def _scan(
    root: Path, files: np.ndarray, sizes: Int64[np.ndarray, "n 2"], missing: Int64[np.ndarray, " m"]
) -> dict[int, str]:
    """Fill in the sizes of the files ``missing``; returns the reasons for those that have none."""
    if len(missing) >= _CHUNK:
        _log.info("reading the headers of %d images in %s", len(missing), root)
    broken: dict[int, str] = {}

    def scan(chunk: Int64[np.ndarray, " c"]) -> int:
        for i in chunk.tolist():
            size = _file_size(os.path.join(root, os.fsdecode(files[i])))
            if isinstance(size, str):
                broken[i] = size
            else:
                sizes[i] = size
        return len(chunk)

    chunks = np.split(missing, range(_CHUNK, len(missing), _CHUNK)) if len(missing) else []
    run_with_progress(scan, chunks, len(missing), "reading image headers", _THREADS)
    return dict(sorted(broken.items()))


def run_with_progress(
    work: Callable[[Int64[np.ndarray, " c"]], int],
    chunks: list[Int64[np.ndarray, " c"]],
    total: int,
    text: str,
    threads: int,
) -> None:
    """Run ``work`` on every chunk in threads; a bar on a terminal counts what it returns."""
    show = sys.stderr.isatty() and len(chunks) > 1
    with (
        Progress(console=Console(stderr=True), transient=True, disable=not show) as progress,
        ThreadPoolExecutor(threads) as pool,
    ):
        task = progress.add_task(text, total=total)
        try:
            for done in pool.map(work, chunks):
                progress.advance(task, done)
        except BaseException:  # Ctrl-C: do not work off the rest
            pool.shutdown(cancel_futures=True)
            raise


def _file_size(path: str) -> tuple[int, int] | str:
    """(height, width), or the reason why there is none."""
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(_HEAD)
            try:
                return image_size(head)
            except CutShort:
                return image_size(head + file.read())
    except BadFile as reason:
        return str(reason)
    except OSError as error:
        return f"cannot be read: {error.strerror}"


def cache_file(root: Path, folder: str | os.PathLike[str] | None) -> Path:
    """Where the index of ``root`` is kept, in ``folder`` or the user's cache folder."""
    if folder is None:
        home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
        folder = os.environ.get("MIXSTAGE_CACHE") or os.path.join(home, "mixstage")
    name = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:16]
    return Path(folder) / f"index-1-{name}.npz"  # 1: version of the contents


def _cached_sizes(cache: Path, files: np.ndarray, stats: Int64[np.ndarray, "n 2"]) -> Int64[np.ndarray, "n 2"]:
    """Sizes of the files that are as they were, 0 for the others."""
    sizes = np.zeros((len(files), 2), np.int64)
    stored = cached_arrays(cache, "files", "stats", "sizes")
    if not stored:
        return sizes
    old_files, old_stats, old_sizes = stored.values()
    if np.array_equal(old_files, files):
        old = np.arange(len(files))
    else:
        where = {name: i for i, name in enumerate(old_files.tolist())}
        old = np.array([where.get(name, -1) for name in files.tolist()])
    same = (old >= 0) & (old_stats[old] == stats).all(1)
    sizes[same] = old_sizes[old[same]]
    return sizes


def cached_arrays(cache: Path, *names: str) -> dict[str, np.ndarray]:
    """The arrays ``names`` of the file ``cache``; none at all, with a warning, where they cannot be had."""
    try:
        with open(cache, "rb") as file, np.load(file, allow_pickle=False) as stored:
            return {name: stored[name] for name in names}
    except FileNotFoundError:
        return {}
    except Exception as error:  # whatever it holds, it is not needed
        _log.warning("cannot use the index cache %s (%s); reading the headers again", cache, error)
        return {}


def write_cache(cache: Path, **arrays: np.ndarray) -> None:
    """Write ``arrays`` to the file ``cache``; a warning where that is impossible."""
    try:
        with tempfile.NamedTemporaryFile(dir=cache.parent, suffix=".tmp", delete=False) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
        os.replace(file.name, cache)  # whole or not at all
    except OSError as error:
        _log.warning("cannot write the index cache %s (%s); the next start reads all headers again", cache, error)


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Only one process at a time reads the headers of a data set; without a folder to lock in, all do."""
    try:
        cache.parent.mkdir(parents=True, exist_ok=True)
        lock = open(cache.with_suffix(".lock"), "w")  # noqa: SIM115 (closed below)
    except OSError:
        yield
        return
    with lock:
        deadline = time.monotonic() + _LOCK_SECONDS
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise TimeoutError(f"waited {_LOCK_SECONDS:.0f} s for another process to finish {cache}") from None
                time.sleep(0.1)
            except OSError:  # a file system without locks
                break
        yield
