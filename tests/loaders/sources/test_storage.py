"""Reading a file: whose fault an error is, what is tried again, and no waiting for what is no file."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from loaders.sources import storage
from loaders.sources.storage import read_file, retried
from pipelines.bad_file import BadFile

NOT_THE_FILES = ("EMFILE", "ENFILE", "ENOMEM", "EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN", "ENOTCONN", "EINTR", "EAGAIN")


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_WAITS", (0.0, 0.0, 0.0))


def failing(times: int, error: BaseException):
    """A read that fails ``times`` times, and the number of its calls."""
    calls = []

    def read() -> str:
        calls.append(error)
        if len(calls) <= times:
            raise error
        return "data"

    return read, calls


def test_contents(tmp_path: Path) -> None:
    for data in (b"", b"x", os.urandom(100_000)):
        (tmp_path / "x").write_bytes(data)
        assert read_file(str(tmp_path / "x")) == data


@pytest.mark.parametrize("name", NOT_THE_FILES)
def test_what_is_not_the_files_fault_is_tried_again(name: str, caplog: pytest.LogCaptureFixture) -> None:
    error = OSError(getattr(errno, name), os.strerror(getattr(errno, name)))
    read, calls = failing(3, error)
    assert retried("a.jpg", read) == "data"
    assert len(calls) == 4
    assert caplog.text.count("cannot read a.jpg") == 3
    read, _ = failing(4, error)
    with pytest.raises(OSError) as raised:
        retried("a.jpg", read)
    assert raised.value.errno == getattr(errno, name)
    assert raised.value.filename == "a.jpg"


def test_memory_is_not_the_files_fault() -> None:
    read, calls = failing(3, MemoryError())
    assert retried("a.jpg", read) == "data" and len(calls) == 4
    read, _ = failing(4, MemoryError())
    with pytest.raises(MemoryError):
        retried("a.jpg", read)


@pytest.mark.parametrize("name", ["ENOENT", "EACCES", "ELOOP", "ENAMETOOLONG"])
def test_what_is_the_files_own_is_not(name: str) -> None:
    read, calls = failing(1, OSError(getattr(errno, name), "no"))
    with pytest.raises(BadFile, match="cannot be read: "):
        retried("a.jpg", read)
    assert len(calls) == 1


def test_a_librarys_own_error_is_left_alone() -> None:
    read, calls = failing(1, OSError("image file is truncated"))
    with pytest.raises(OSError, match="truncated"):
        retried("a.jpg", read)
    assert len(calls) == 1


def test_files_that_are_none(tmp_path: Path) -> None:
    """None of them is waited for: a FIFO that nobody writes to would take for ever."""
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket"))
        for name, message in {
            "fifo": "is a FIFO, not a file",
            "folder": "is a folder, not a file",
            "loop": "cannot be read: Too many levels of symbolic links",
            "missing": "cannot be read: No such file or directory",
            "socket": "cannot be read: No such device or address",
        }.items():
            with pytest.raises(BadFile, match=message):
                read_file(str(tmp_path / name))
    with pytest.raises(BadFile, match="is a device, not a file"):
        read_file("/dev/zero")
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BadFile):
        read_file(str(tmp_path / "fifo"))
    assert len(os.listdir("/proc/self/fd")) == before
