"""Where to keep what can be made again: compiled kernels, indexes of data sets.

That is the user's cache folder as platformdirs has it. Containers leave processes without one: no HOME, a uid that has no
name, a file system that cannot be written to. Then a folder of this user alone among the temporary files takes its place.
Compiled code is read back from there, so the folder is taken only if nobody else can have written to it.
"""

from __future__ import annotations

import logging
import os
import stat
import tempfile
from functools import cache
from pathlib import Path

import platformdirs

_log = logging.getLogger("mixstage")


def cache_folder() -> Path | None:
    """The folder, made if it was not there, or ``None`` where nothing can be written; says once if it is not the usual."""
    usual = _usual()
    if usual is not None and can_write(usual):
        return usual
    spare = _spare()
    _hint(usual, spare)
    return spare


def can_write(folder: Path) -> bool:
    """Whether files can be made in ``folder``, which is made if it was not there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:
        return False
    return os.access(folder, os.W_OK | os.X_OK)


def _usual() -> Path | None:
    try:
        folder = platformdirs.user_cache_path("mixstage")
    except (KeyError, RuntimeError):  # nobody knows where home is
        return None
    return folder if folder.is_absolute() else None  # "~/.cache", as older versions give then


def _spare() -> Path | None:
    """A folder among the temporary files that belongs to this user and that nobody else can write to."""
    try:
        folder = Path(tempfile.gettempdir()) / f"mixstage-{os.geteuid()}"
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return None
    private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o077
    return folder if private and can_write(folder) else None


@cache
def _hint(usual: Path | None, spare: Path | None) -> None:
    _log.warning(
        "%s: %s; set MIXSTAGE_CACHE (indexes) and NUMBA_CACHE_DIR (compiled code) to folders of your own",
        "there is no home folder" if usual is None else f"the cache folder {usual} cannot be written to",
        "every process reads headers and compiles anew" if spare is None else f"using {spare}",
    )
