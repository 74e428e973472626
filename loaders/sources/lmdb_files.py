"""LMDB databases of encoded images as a data set. There is no one layout; those that need no pickle are taken.

key "cat/1.jpg", value the image            as an image folder: the key's folder is the class
key "1.jpg" and "1.cls"                     as WebDataset: the class number is beside the image
key "image-000000001" and "label-000000001"
any keys, with labels= in their order       as LSUN
"""

from __future__ import annotations

import io
import os
import threading
import weakref
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.bad_file import BadFile

from .base import Listing
from .cache import cache_file, locked, read_cache, write_cache
from .folder import EXTENSIONS
from .labels import as_labels
from .packed import class_folder, folder_labels, size_or_none
from .progress import TIMEOUT, Turn, run_with_progress

_THREADS = 16
_CHUNK = 256


class Lmdb(Listing):
    """The images of an LMDB database, a folder with data.mdb or a file; ``files`` are its keys.

    ``labels`` are those of all values in the order of the keys, where the keys do not say them; ``classes`` names. Values
    that are Python pickles are bad samples: reading them would run what they hold. Raises ``ImportError`` with the install
    line without lmdb, ``ValueError`` for what is no database, was cut off, or has no labels.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        labels: Any = None,
        classes: Sequence[str] | None = None,
        *,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        root = os.path.abspath(os.path.expanduser(path))
        self._database = _open(root)
        with self._database.begin() as reading:
            keys, found = _find(reading, labels, root)
        files = np.array(keys, "S")
        if any(key.endswith(b"\0") for key in keys):
            raise ValueError(f"root must be a database whose keys do not end in zeros, got {root!r}")
        numbers, names = (
            folder_labels(found, classes, files) if labels is None else as_labels(labels, classes, count=len(keys))
        )
        super().__init__(root, files, numbers, np.zeros((len(keys), 2), np.int64), names)
        self._read_sizes(cache_file(root, cache), timeout)

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if there is none."""
        with self._database.begin() as reading:
            data = reading.get(bytes(self.files[sample]))
        if data is None:
            raise BadFile("there is no such key any more")
        return bytes(data)

    def _read_sizes(self, file: Any, timeout: float) -> None:
        data = os.path.join(self.root, "data.mdb") if os.path.isdir(self.root) else self.root
        stats = np.array([os.stat(data).st_size, os.stat(data).st_mtime_ns])

        def scan(start: int, turn: Turn) -> int:
            for i in range(start, min(start + _CHUNK, len(self))):
                turn(self.name(i))
                self.sizes[i] = size_or_none(io.BytesIO(self.read(i)))
            return min(_CHUNK, len(self) - start)

        with locked(file, self.root, timeout) as alive:
            old = read_cache(file, "stats", "files", "sizes")
            if old and np.array_equal(old["stats"], stats) and np.array_equal(old["files"], self.files):
                self.sizes[:] = old["sizes"]
            else:
                starts = range(0, len(self), _CHUNK)
                run_with_progress(scan, starts, len(self), "reading images", _THREADS, timeout=timeout, alive=alive)
                write_cache(file, stats=stats, files=self.files, sizes=self.sizes)
        for i in np.flatnonzero(self.sizes[:, 0] == 0).tolist():
            self.broken[i] = f"is no image of an accepted format, begins with {self.read(i)[:12]!r}"


def _open(root: str) -> Any:
    try:
        import lmdb
    except ImportError as error:
        raise ImportError("an LMDB database needs lmdb: pip install 'mixstage[lmdb]'") from error
    data = os.path.join(root, "data.mdb") if os.path.isdir(root) else root
    if not os.path.isfile(data):
        raise ValueError(f"root must be an LMDB database, got {root!r}, which is none")
    with _OPENING:
        status = os.stat(data)
        key = status.st_dev, status.st_ino
        if (found := _DATABASES.get(key)) is None:
            found = _DATABASES[key] = _Database(_checked(lmdb, root, status.st_size))
        return found


class _Database:
    """An open database; a process may open one only once."""

    def __init__(self, opened: Any) -> None:
        self.begin = opened.begin


_OPENING = threading.Lock()
_DATABASES: weakref.WeakValueDictionary[tuple[int, int], _Database] = weakref.WeakValueDictionary()


def _checked(lmdb: Any, root: str, size: int) -> Any:
    try:
        database = lmdb.open(root, subdir=os.path.isdir(root), readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise ValueError(f"root must be an LMDB database, got {root!r}: {error}") from error
    need = (database.info()["last_pgno"] + 1) * database.stat()["psize"]
    if size < need:  # it is mapped into memory, and reading beyond its end would end the process
        database.close()
        raise ValueError(
            f"root must be a whole LMDB database, got {root!r}, which was cut off: it has {need} bytes by its header"
        )
    return database


def _find(reading: Any, labels: Any, root: str) -> tuple[list[bytes], np.ndarray]:
    """The keys of images in order, and their labels where the keys say them."""
    keys = [bytes(key) for key in reading.cursor().iternext(keys=True, values=False)]
    if not keys:
        raise ValueError(f"root must be a database with images, got {root!r}, which is empty")
    if labels is not None:
        return keys, np.zeros(0)
    numbered = [key for key in keys if key.startswith(b"image-")]
    if numbered:
        return numbered, np.array([_number(reading, b"label-" + key[6:], root) for key in numbered])
    images = [key for key in keys if os.fsdecode(key).lower().endswith(EXTENSIONS)]
    if not images:
        raise ValueError(
            f"root must be a database with keys such as 'cat/1.jpg' or 'image-1', or labels= must be given, got {root!r} "
            f"with keys such as {keys[0]!r}"
        )
    if reading.get(images[0].rpartition(b".")[0] + b".cls") is not None:
        return images, np.array([_number(reading, key.rpartition(b".")[0] + b".cls", root) for key in images])
    folders = [class_folder(os.fsdecode(key)) for key in images]
    if None in folders:
        raise ValueError(f"root must have a class for every image, got none for {images[folders.index(None)]!r} in {root}")
    return images, np.array(folders)


def _number(reading: Any, key: bytes, root: str) -> int:
    text = reading.get(key)
    if text is None or not bytes(text).strip().isdigit():
        raise ValueError(f"root must have class numbers as text, got {text!r:.50} under {key!r} in {root}")
    return int(bytes(text))
