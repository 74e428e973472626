"""The file that keeps what was read, and its lock: whole or not at all, for one at a time, whatever lies in its place."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from loaders.sources import cache
from loaders.sources.cache import cache_file, locked, read_cache, version_of, write_cache

ARRAYS = {"files": np.array([b"a.jpg", b"b.jpg"]), "sizes": np.array([[1, 2], [3, 4]], np.int32), "none": np.zeros((0, 3))}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_cache(tmp_path / "x.npz", **ARRAYS)
    for names in (("files", "sizes", "none"), ("none", "files", "sizes")):
        stored = read_cache(tmp_path / "x.npz", *names)
        assert list(stored) == list(names)
        for name in names:
            np.testing.assert_array_equal(stored[name], ARRAYS[name])
    assert os.listdir(tmp_path) == ["x.npz"]


def test_there_need_not_be_a_place() -> None:
    write_cache(None, **ARRAYS)
    assert read_cache(None, "files") == {}
    with locked(None, "x", 1) as alive:
        alive()


@pytest.mark.parametrize(
    "change",
    [
        {"sizes": ARRAYS["sizes"][:1]}, {"sizes": ARRAYS["sizes"].ravel()}, {"sizes": ARRAYS["sizes"] + 1},
        {"sizes": ARRAYS["sizes"] * np.nan}, {"files": np.array([b"a.jpg", b"c.jpg"])}, {"checksum": np.zeros(3)},
    ],
)  # fmt: skip
def test_other_contents_are_not_used(
    tmp_path: Path, change: dict[str, np.ndarray], caplog: pytest.LogCaptureFixture
) -> None:
    write_cache(tmp_path / "x.npz", **ARRAYS)
    with np.load(tmp_path / "x.npz") as stored:
        np.savez(tmp_path / "y.npz", **{**stored, **change})
    assert read_cache(tmp_path / "y.npz", *ARRAYS) == {}
    assert "cannot use the index cache" in caplog.text and "making it anew" in caplog.text


def test_some_arrays_are_read_without_the_others(tmp_path: Path) -> None:
    """And what is wrong with the others does not matter."""
    write_cache(tmp_path / "x.npz", **ARRAYS)
    with np.load(tmp_path / "x.npz") as stored:
        np.savez(tmp_path / "y.npz", **{**stored, "files": np.array([b"a.jpg", b"c.jpg"])})
    assert list(read_cache(tmp_path / "y.npz", "sizes")) == ["sizes"]
    assert read_cache(tmp_path / "y.npz", "sizes", "files") == {}


def test_a_cache_that_was_written_again_is_another_version(tmp_path: Path) -> None:
    assert version_of(None) is version_of(tmp_path / "x.npz") is None
    write_cache(tmp_path / "x.npz", **ARRAYS)
    before = version_of(tmp_path / "x.npz")
    assert before is not None and version_of(tmp_path / "x.npz") == before
    (tmp_path / "x.npz").rename(tmp_path / "old.npz")  # else its number may be given to the next one
    write_cache(tmp_path / "x.npz", **ARRAYS)
    assert version_of(tmp_path / "x.npz") != before


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog) -> None:
    def full(file, **_: object) -> None:
        file.write(b"some")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    write_cache(tmp_path / "x.npz", **ARRAYS)
    assert os.listdir(tmp_path) == []
    assert "No space left" in caplog.text


def test_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MIXSTAGE_CACHE", str(tmp_path))
    one, other = cache_file("/data/train", None), cache_file("/data/val", None)
    assert one is not None and other is not None and one != other and one.parent == tmp_path
    given = cache_file("/data/train", tmp_path / "given")
    assert given == tmp_path / "given" / one.name


def test_one_at_a_time(tmp_path: Path) -> None:
    inside, most = [], []

    def run() -> None:
        with locked(tmp_path / "folder" / "x.npz", "data", 60):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.02)
            inside.pop()

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 6


_HOLD = """
import sys
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    sys.stdin.read()
"""  # what ``locked`` holds, without importing torch


def hold(file: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _HOLD, str(file.with_suffix(".lock"))],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    return process


def test_a_lock_that_is_held_for_ever_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The wait begins anew whenever the holder makes progress, and says what it was for."""
    process, clock = hold(tmp_path / "x.npz"), [0.0]

    def sleep(_: float) -> None:
        clock[0] += 0.5
        if clock[0] <= 7.5:  # so long the holder makes progress
            os.utime(tmp_path / "x.lock", ns=(0, int(clock[0] * 1e9)))

    with monkeypatch.context() as patched:
        patched.setattr(cache, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
        with (
            pytest.raises(TimeoutError, match=rf"waited 1 s for another process that reads my data .*{tmp_path}/x.lock"),
            locked(tmp_path / "x.npz", "my data", 1),
        ):
            pass
    assert clock[0] == 9.0
    process.communicate("")
    with locked(tmp_path / "x.npz", "my data", 1) as alive:  # it is gone
        os.utime(tmp_path / "x.lock", ns=(0, 0))
        alive()
        assert os.stat(tmp_path / "x.lock").st_mtime > 0


def test_a_lock_file_that_is_another_file_stays_what_it_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    precious = tmp_path / "precious"
    for plant in (os.symlink, os.link):
        precious.write_text("precious")
        plant(precious, tmp_path / "x.lock")
        with locked(tmp_path / "x.npz", "data", 1):
            pass
        assert precious.read_text() == "precious"
        os.unlink(tmp_path / "x.lock")
    assert "cannot lock" in caplog.text


def test_without_a_folder_nobody_waits(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with locked(tmp_path / "file" / "x.npz", "data", 1), locked(tmp_path / "file" / "x.npz", "data", 1):
        pass
