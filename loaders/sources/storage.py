"""Reading from storage that may fail, stall, or hold under a file's name what is no file.

An error is the file's own (it is gone, nobody may read it), or it is not: too many open files, no memory, a disk or a server
that does not answer. The latter are tried again and then raised as they are, for every other file would fail, too, and a run
that went on with other samples would be another run.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
import time
from collections.abc import Callable
from typing import Any, TypeVar

from pipelines.bad_file import BadFile

from ..printable import printable

T = TypeVar("T")
_log = logging.getLogger("mixstage")
_WAITS = (0.05, 0.25, 1.0, 2.0)  # seconds before each further try
_FILES_OWN = frozenset({
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENXIO,
})  # fmt: skip
_KINDS = {
    stat.S_IFDIR: "a folder", stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}  # fmt: skip


def read_file(path: str) -> bytes:
    """The contents of a file. Raises ``BadFile`` or, for what is not the file's fault, ``OSError`` naming it."""
    return retried(path, _read, path)


def retried(name: str, read: Callable[..., T], *arguments: Any) -> T:
    """What ``read(*arguments)`` returns, tried again for some seconds where an error is not that of the file ``name``."""
    waits = iter(_WAITS)
    while True:
        try:
            return read(*arguments)
        except OSError as error:
            if error.errno in _FILES_OWN:
                raise BadFile(f"cannot be read: {os.strerror(error.errno)}") from error
            if error.errno is None:  # raised by a library, of what it read
                raise
            again = next(waits, None)
            if again is None:
                raise type(error)(error.errno, error.strerror, name) from error
            _log.warning("cannot read %s: %s; trying again", printable(name), error.strerror)
        except MemoryError:
            again = next(waits, None)
            if again is None:
                raise
        time.sleep(again)


def open_regular(path: str, flags: int) -> int:
    """An ``opener`` for ``open`` that never waits: ``BadFile`` for a FIFO or anything else that is no regular file."""
    file = os.open(path, flags | os.O_NONBLOCK)  # which regular files ignore
    mode = os.fstat(file).st_mode
    if not stat.S_ISREG(mode):
        os.close(file)
        raise BadFile(f"is {_KINDS.get(stat.S_IFMT(mode), 'something')}, not a file")
    return file


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0, opener=open_regular) as file:
        return file.read()
