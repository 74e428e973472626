"""Which source a path is: one table, which the loader, the command line and the tests read."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from .base import Source
from .beton import BetonFile
from .folder import Folder
from .progress import TIMEOUT
from .tar import TarShards


@dataclass(frozen=True)
class _Kind:
    """A kind of source: what it is in words, whether a path is one, and the class that opens it."""

    what: str
    takes: Callable[[str], bool]
    open: Callable[..., Source]


SOURCES = {
    "tar": _Kind('tar shards ("a.tar", "a-{000..127}.tar", "a-*.tar")', lambda path: path.endswith(".tar"), TarShards),
    "beton": _Kind("a .beton file", lambda path: path.endswith((".beton", ".ffcv")), BetonFile),
    "folder": _Kind("a folder with one sub-folder per class", os.path.isdir, Folder),
}


def open_source(
    root: str | os.PathLike[str] | Source, *, cache: str | os.PathLike[str] | None = None, timeout: float = TIMEOUT
) -> Source:
    """The samples under a path; a ``Source`` is taken as it is.

    ``cache`` is the folder for what is read of them, by default the user's. Raises ``ValueError`` for a path that is nothing
    that can be read, and ``TimeoutError`` naming a file that does not answer for ``timeout`` seconds.
    """
    if not isinstance(root, (str, os.PathLike)):
        _check_source(root)
        return root
    path = os.path.expanduser(os.fspath(root))
    for kind in SOURCES.values():
        if kind.takes(path):
            return kind.open(path, cache=cache, timeout=timeout)
    known = "; ".join(kind.what for kind in SOURCES.values())
    if "://" in path:
        why = "an address, which cannot be read; mount it, or copy it to a disk"
    else:
        why = "none of these" if os.path.lexists(path) else "which does not exist"
    raise ValueError(f"root must be one of: {known}; got {str(root)!r}, {why}")


def _check_source(root: Any) -> None:
    missing = [name for name in ("read", "name", "labels", "classes", "sizes", "broken") if not hasattr(root, name)]
    if missing:
        raise TypeError(f"root must be a path or a Source, got {type(root).__name__}, which has no {', '.join(missing)}")
