"""Shards that lie elsewhere, on S3, GCS, HTTP or whatever ``fsspec`` reads, fetched whole into a folder of this machine.

    addresses  ->  held(shard): local path, downloaded unless it is there  ->  read by position, as local shards are

A download that was broken off goes on where it ended; a shard takes its name only when it is complete. With a limit, those
that were not read for longest make room. A random order touches every shard all the time, so the limit is for data sets of
which ranks or runs read a part.
"""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from braceexpand import braceexpand
from filelock import FileLock, Timeout

from pipelines.bad_file import BadFile

from .cache import cache_file
from .storage import retried

_GONE = (404, 410)  # of HTTP: there is no such file, or no more
_BLOCK = 1 << 22
_THREADS = 16


def is_address(pattern: Any) -> bool:
    """Whether a pattern names what lies elsewhere, such as "s3://bucket/train-{000..127}.tar"."""
    first = pattern if isinstance(pattern, (str, os.PathLike)) else next(iter(pattern), "")
    return "://" in os.fspath(first)


class RemoteShards:
    """Shards under addresses, fetched into ``cache`` (the folder of indexes by default) as they are needed.

    ``$MIXSTAGE_SHARDS_GB`` is the most that is kept of all of them, in gigabytes. Raises ``ImportError`` with the install
    line without ``fsspec``, ``ValueError`` for addresses that name nothing, ``OSError`` for a store that does not answer.
    """

    def __init__(self, pattern: Any, cache: str | os.PathLike[str] | None, what: str) -> None:
        self._store, self.addresses = _find(pattern, what)
        place = cache_file("shards", cache)
        if place is None:
            raise ValueError("cache must be a folder that can be written to for shards that lie elsewhere, got none")
        self._folder = place.parent / "shards"
        limit = os.environ.get("MIXSTAGE_SHARDS_GB")
        self._limit = None if limit is None else int(float(limit) * 1e9)
        self._lock = threading.Lock()
        try:
            with ThreadPoolExecutor(_THREADS) as pool:
                self.stats = list(pool.map(lambda address: retried(address, self._stat, address), self.addresses))
        except BadFile as error:
            raise ValueError(f"root must name {what.split(' (')[0]} that exist, got {pattern!r}: {error}") from error

    @contextmanager
    def held(self, shard: int, alive: Callable[[], None] = lambda: None) -> Iterator[str]:
        """The local path of a shard, downloaded if it is not there, which nobody removes meanwhile.

        ``alive`` is called while the download gets on.
        """
        address, (size, version) = self.addresses[shard], self.stats[shard]
        name = hashlib.sha256(f"{address} {size} {version}".encode()).hexdigest()[:16]
        local = self._folder / f"{name}-{os.path.basename(address)}"
        local.parent.mkdir(parents=True, exist_ok=True)
        fetched = False
        try:
            with FileLock(f"{local}.lock"):
                if not local.exists():
                    retried(address, self._download, address, size, local, alive)
                    fetched = True
                    self._make_room(local)
                os.utime(local)
                yield str(local)
        finally:
            if fetched:  # what was held then, as this one was, could not be removed
                self._make_room(local)

    def _stat(self, address: str) -> tuple[int, int]:
        """Length, -1 where the store does not say, and a number that changes with the contents, as far as it says."""
        info: dict[str, Any] = _named(address, self._store.info, address)
        names = ("ETag", "etag", "mtime", "LastModified", "last_modified", "updated")
        said = "\0".join(str(info[name]) for name in names if name in info)
        size = info.get("size")
        return -1 if size is None else int(size), int(hashlib.sha256(said.encode()).hexdigest()[:15], 16)

    def _download(self, address: str, size: int, local: Path, alive: Callable[[], None]) -> None:
        part = local.with_name(local.name + ".part")
        have = part.stat().st_size if part.exists() else 0
        if size < 0 or have > size:
            have = 0
        with open(part, "r+b" if have else "wb") as out:
            out.seek(have)
            while have != size:
                block = _named(address, self._range, address, have, size)
                if not block:
                    break
                out.write(block)
                have += len(block)
                alive()
        if size >= 0 and have != size:
            raise OSError(errno.EIO, f"the store gave {have} bytes of {size}", address)
        os.replace(part, local)

    def _range(self, address: str, start: int, size: int) -> bytes:
        stop = start + _BLOCK if size < 0 else min(start + _BLOCK, size)
        data: bytes = self._store.cat_file(address, start=start, end=stop)
        if size >= 0 and len(data) > stop - start:  # a server that knows no ranges gives all of it
            data = data[start:stop]
        return data

    def _make_room(self, newest: Path) -> None:
        """Removes the shards that were read longest ago while there are more bytes than the limit allows."""
        if self._limit is None:
            return
        with self._lock:
            if not newest.exists():
                return  # it made room itself
            kept = [(path.stat(), path) for path in map(Path, glob.glob(f"{glob.escape(str(self._folder))}/*"))
                    if path.suffix not in (".lock", ".part")]  # fmt: skip
            total = sum(status.st_size for status, _ in kept)
            for status, path in sorted(kept, key=lambda one: one[0].st_mtime_ns):
                if total <= self._limit:
                    return
                if path == newest:
                    continue
                with suppress(OSError, Timeout), FileLock(f"{path}.lock", blocking=False):  # unless it is held
                    path.unlink()  # who has it open reads on
                    total -= status.st_size


def _find(pattern: Any, what: str) -> tuple[Any, list[str]]:
    try:
        import fsspec
    except ImportError as error:
        raise ImportError("an address needs fsspec: pip install 'mixstage[remote]'") from error
    parts = [pattern] if isinstance(pattern, (str, os.PathLike)) else list(pattern)
    addresses: list[str] = []
    store: Any = None
    for part in (expanded for given in parts for expanded in braceexpand(os.fspath(given))):
        store = store or _named(part, fsspec.core.url_to_fs, part)[0]
        found = [part]
        if glob.has_magic(part):
            found = sorted(store.unstrip_protocol(path) for path in _named(part, store.glob, part))
        if not found:
            raise ValueError(f"root must name {what.split(' (')[0]} that exist, got {pattern!r}: there is no {part}")
        addresses += found
    return store, addresses


def _named(address: str, call: Callable[..., Any], *arguments: Any) -> Any:
    """What a store returns; its errors, of any kind, as ``OSError`` with a number, or ``BadFile`` for what is gone."""
    try:
        return call(*arguments)
    except FileNotFoundError as error:
        cause = error.__cause__ or error.__context__
        if isinstance(cause, OSError) and not isinstance(cause, FileNotFoundError):  # so fsspec says that nobody answers
            raise OSError(cause.errno or errno.EIO, cause.strerror or str(cause), address) from error
        if cause is not None and not isinstance(cause, FileNotFoundError) and getattr(cause, "status", 0) not in _GONE:
            raise OSError(errno.EIO, f"{type(cause).__name__}: {cause}", address) from error  # or hangs up
        raise BadFile(f"cannot be read: there is no {address}") from error
    except ImportError as error:
        raise ImportError(f"{address} needs a package that fsspec reads it by: {error}") from error
    except OSError as error:
        number = error.errno if error.errno is not None else errno.EIO
        raise OSError(number, f"{error.strerror or error}", address) from error
    except Exception as error:  # of the store's own kinds
        raise OSError(errno.EIO, f"{type(error).__name__}: {error}", address) from error
