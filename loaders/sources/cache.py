"""What was read of a data set, kept for the next start: a file of arrays in the user's cache folder, and a lock.

Only one process at a time reads the headers of a data set; others wait for it as long as it makes progress. The lock's file
is opened without following links and nothing is written to it, for the cache folder may be one that others write to.
"""

from __future__ import annotations

import hashlib
import logging
import os
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from mixops.runtime.cache_folder import cache_folder

from ..printable import printable

_log = logging.getLogger("mixstage")
_VERSION = 3  # of the contents
_POLL = 0.1
_SUMS = "checksum"  # of each array, in the order of their names, so that some can be read without the others


def cache_file(key: str, folder: str | os.PathLike[str] | None) -> Path | None:
    """Where what is known of the data set ``key`` is kept: in ``folder``, ``$MIXSTAGE_CACHE`` or the user's cache folder.

    ``None`` where there is no place for it.
    """
    given = folder or os.environ.get("MIXSTAGE_CACHE")
    place = Path(given) if given else cache_folder()
    name = hashlib.sha256(os.fsencode(key)).hexdigest()[:16]
    return None if place is None else place / f"index-{_VERSION}-{name}.npz"


def read_cache(file: Path | None, *names: str) -> dict[str, np.ndarray]:
    """The arrays ``names`` as ``write_cache`` was given them; none at all, with a warning, where they cannot be had."""
    if file is None:
        return {}
    try:
        with open(file, "rb") as opened, np.load(opened, allow_pickle=False) as stored:
            arrays, sums = {name: stored[name] for name in names}, stored[_SUMS].tolist()
            places = {name: i for i, name in enumerate(sorted(set(stored.files) - {_SUMS}))}
            if any(sums[places[name]] != _checksum(name, array) for name, array in arrays.items()):
                raise ValueError("it does not match its checksum")
            return arrays
    except FileNotFoundError:
        return {}
    except Exception as error:  # whatever it holds, it is not needed
        _log.warning("cannot use the index cache %s (%s); making it anew", file, error)
        return {}


def write_cache(file: Path | None, **arrays: np.ndarray) -> None:
    """Write ``arrays`` to ``file``, whole or not at all; a warning where that is impossible."""
    if file is None:
        return
    part = None
    try:
        with tempfile.NamedTemporaryFile(dir=file.parent, suffix=".tmp", delete=False) as opened:
            part = opened.name
            sums = [_checksum(name, array) for name, array in sorted(arrays.items())]
            np.savez(opened, **{_SUMS: np.array(sums)}, **arrays)  # type: ignore[arg-type]
        os.replace(part, file)
        part = None
    except OSError as error:
        _log.warning("cannot write the index cache %s (%s); the next start reads all headers again", file, error)
    finally:
        if part is not None:
            with suppress(OSError):
                os.unlink(part)


def _checksum(name: str, array: np.ndarray) -> int:
    """Of name, type, shape and contents."""
    value = zlib.crc32(f"{name} {array.dtype.str} {array.shape}".encode())
    return zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data, value)


def version_of(file: Path | None) -> tuple[int, int] | None:
    """What is another once ``file`` was written anew; None where there is none."""
    if file is None:
        return None
    try:
        status = os.stat(file)
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@contextmanager
def locked(file: Path | None, what: str, timeout: float) -> Iterator[Callable[[], None]]:
    """Holds the lock of ``file``; without a folder to lock in, or on a file system without locks, all go on at once.

    Yields a function for its holder to call while it makes progress. Raises ``TimeoutError`` where another process holds the
    lock and has called it for ``timeout`` seconds no more; ``what`` says what that is reading.
    """
    lock = None if file is None else _lock(file, what, timeout)
    try:
        yield lambda: None if lock is None else _touch(lock.lock_file)
    finally:
        if lock is not None:
            lock.release()


def _lock(file: Path, what: str, timeout: float) -> FileLock | None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError:
        return None
    lock = FileLock(file.with_suffix(".lock"))
    seen, since = 0, time.monotonic()
    while not _acquired(lock):
        touched = _touched(lock.lock_file)
        if touched != seen:
            seen, since = touched, time.monotonic()
        if time.monotonic() - since > timeout:
            raise TimeoutError(
                f"waited {timeout:g} s for another process that reads {printable(what)} and does not get on; "
                f"it holds {lock.lock_file}"
            )
        time.sleep(_POLL)
    return lock


def _acquired(lock: FileLock) -> bool:
    """Whether there is no need to wait any more."""
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return False
    except OSError as error:  # no right, no such thing there, or a link in its place
        _log.warning("cannot lock %s (%s); other processes may read the same", lock.lock_file, error.strerror)
    return True


def _touch(path: str) -> None:
    with suppress(OSError):
        os.utime(path, follow_symlinks=False)


def _touched(path: str) -> int:
    with suppress(OSError):
        return os.lstat(path).st_mtime_ns
    return 0
