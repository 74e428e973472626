"""Which source a path or an object is: two tables, which the loader, the command line and the tests read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .arrow import arrow_files, parquet_files
from .base import Opened, Source
from .beton import BetonFile
from .files import Files
from .folder import Folder
from .hub import from_hub, is_hub_dataset
from .lmdb_files import Lmdb
from .opened import opened
from .progress import TIMEOUT
from .recordio import RecordFiles
from .tar import TarShards
from .tfrecord import TfRecords, is_tfrecord
from .torch_dataset import from_torch, is_torch_dataset
from .zips import ZipFiles


@dataclass(frozen=True)
class _Kind:
    """A kind of source: what it is in words, whether a path is one, and the class that opens it."""

    what: str
    takes: Callable[[str], bool]
    open: Callable[..., Source]


def _ends(*endings: str) -> Callable[[str], bool]:
    return lambda path: path.lower().endswith(endings)


def _is_lmdb(path: str) -> bool:
    return path.endswith((".lmdb", ".mdb")) or os.path.isfile(os.path.join(path, "data.mdb"))


_is_packed = _ends(".gz", ".tgz", ".bz2", ".xz", ".zst")

# in this order: the first that takes a path opens it
SOURCES = {
    "tar": _Kind('tar shards ("a.tar", "a-{000..127}.tar", "a-*.tar")', _ends(".tar"), TarShards),
    "beton": _Kind("a .beton file", _ends(".beton", ".ffcv"), BetonFile),
    "zip": _Kind("zip archives", _ends(".zip"), ZipFiles),
    "parquet": _Kind("Parquet files", _ends(".parquet"), parquet_files),
    "arrow": _Kind("Arrow files", _ends(".arrow"), arrow_files),
    "tfrecord": _Kind("TFRecord files", is_tfrecord, TfRecords),
    "recordio": _Kind("RecordIO files (.rec)", _ends(".rec"), RecordFiles),
    "lmdb": _Kind("an LMDB database", _is_lmdb, Lmdb),
    "files": _Kind(
        "a manifest of files and labels (.csv, .tsv, .json, .jsonl)", _ends(".csv", ".tsv", ".json", ".jsonl"), Files
    ),
    "folder": _Kind("a folder with one sub-folder per class", os.path.isdir, Folder),
}

# objects of other libraries: what is one, and the source in it
DATASETS: dict[str, tuple[Callable[[Any], bool], Callable[..., Source]]] = {
    "datasets": (is_hub_dataset, lambda dataset, cache, timeout: from_hub(dataset)),
    "torch": (is_torch_dataset, from_torch),
}


def open_source(
    root: str | os.PathLike[str] | Source | Any, *, cache: str | os.PathLike[str] | None = None, timeout: float = TIMEOUT
) -> Opened:
    """The samples under a path, of a ``Source``, or of a map-style data set of torch's or of the library ``datasets``.

    ``cache`` is the folder for what is read of them, by default the user's. Raises ``ValueError`` for a path that is nothing
    that can be read, ``TypeError`` for an object that is no source, and ``TimeoutError`` naming a file that does not answer
    for ``timeout`` seconds.
    """
    if not isinstance(root, (str, os.PathLike)):
        takes = next((make for is_one, make in DATASETS.values() if is_one(root)), None)
        return opened(root if takes is None else takes(root, cache=cache, timeout=timeout), cache, timeout)
    path = os.path.expanduser(os.fspath(root))
    for kind in SOURCES.values():
        if kind.takes(path):
            return opened(kind.open(path, cache=cache, timeout=timeout), cache, timeout)
    known = "; ".join(kind.what for kind in SOURCES.values())
    if "://" in path:
        why = "an address, which cannot be read; mount it, or copy it to a disk"
    elif not os.path.lexists(path):
        why = "which does not exist"
    else:
        why = "none of these" + ("; unpack it: samples are read from its middle" if _is_packed(path) else "")
    raise ValueError(f"root must be one of: {known}; got {str(root)!r}, {why}")
