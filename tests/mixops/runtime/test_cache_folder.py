"""A place for what can be made again, wherever a process runs."""

from __future__ import annotations

import logging
import os
import tempfile
from pathlib import Path

import platformdirs
import pytest

from mixops.runtime import cache_folder as module
from mixops.runtime.cache_folder import cache_folder
from mixops.runtime.jit import kernel_folder, njit


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module._hint.cache_clear()
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)


def nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """No home: HOME is not set, and the user is not known."""

    def raising(*_: object) -> Path:
        raise RuntimeError("could not determine the home directory")

    monkeypatch.setattr(platformdirs, "user_cache_path", raising)


def test_the_usual_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "mixstage"
    assert kernel_folder() == str(tmp_path / "mixstage" / "numba")
    assert caplog.text == ""


@pytest.mark.parametrize("home", ["none", "relative", "a file"])
def test_without_a_home_there_is_a_folder_of_ones_own(tmp_path, monkeypatch, caplog, home: str) -> None:
    if home == "none":
        nowhere(monkeypatch)
    elif home == "relative":
        monkeypatch.setattr(platformdirs, "user_cache_path", lambda name: Path("~/.cache") / name)
    else:
        (tmp_path / "file").touch()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    spare = tmp_path / "tmp" / f"mixstage-{os.geteuid()}"
    for _ in range(3):
        assert cache_folder() == spare
    assert spare.stat().st_mode & 0o777 == 0o700
    assert len(caplog.records) == 1 and caplog.records[0].levelno == logging.WARNING
    assert "set MIXSTAGE_CACHE" in caplog.text and str(spare) in caplog.text
    assert not Path("~").exists()


@pytest.mark.parametrize("planted", ["writable by all", "link", "file"])
def test_a_folder_that_others_can_write_to_is_not_trusted(tmp_path, monkeypatch, caplog, planted: str) -> None:
    nowhere(monkeypatch)
    spare = tmp_path / "tmp" / f"mixstage-{os.geteuid()}"
    if planted == "link":
        (tmp_path / "elsewhere").mkdir()
        spare.symlink_to(tmp_path / "elsewhere")
    elif planted == "file":
        spare.touch()
    else:
        spare.mkdir()
        spare.chmod(0o777)
    assert cache_folder() is None
    assert "every process reads headers and compiles anew" in caplog.text
    assert kernel_folder() is None

    @njit()
    def add(a: int, b: int) -> int:
        return a + b

    assert add(1, 2) == 3


def test_numbas_own_variable_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "given"))
    assert kernel_folder() == str(tmp_path / "given")
    (tmp_path / "file").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "file"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert kernel_folder() == str(tmp_path / "mixstage" / "numba")
