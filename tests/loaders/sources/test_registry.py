"""Which source a path is; what is none is refused with a list of what is taken."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from support.ffcv_data import write_beton
from support.images import make_jpeg_folder

from loaders.sources import Folder, open_source
from loaders.sources.base import Listing
from loaders.sources.beton import BetonFile
from loaders.sources.registry import SOURCES


def test_paths(tmp_path: Path) -> None:
    folder = make_jpeg_folder(tmp_path / "data", 10)
    assert isinstance(open_source(str(folder)), Folder)
    assert isinstance(open_source(write_beton(folder, tmp_path / "x.beton")), BetonFile)
    assert list(SOURCES)[-1] == "folder"


@pytest.mark.parametrize(
    ("path", "why"),
    [
        ("s3://bucket/train", "an address, which cannot be read"),
        ("https://host/train", "an address, which cannot be read"),
        ("nowhere", "which does not exist"),
        ("notes.txt", "none of these$"),
        ("train.tar.gz", "none of these; unpack it"),
    ],
)
def test_what_is_none_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, why: str) -> None:
    for name in ("notes.txt", "train.tar.gz"):
        (tmp_path / name).touch()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        ValueError, match=rf"^root must be one of: tar .*; a \.beton file; .*; a folder .*got '{path}', {why}"
    ):
        open_source(path)


def test_other_objects() -> None:
    with pytest.raises(TypeError, match=r"such as Arrays\(images, labels\) or .*, got list, which has no read, name"):
        open_source([1])  # type: ignore[arg-type]

    class Two(Listing):
        def read(self, sample: int) -> bytes:
            return b""

    two = Two("/x", np.array([b"a", b"b"]), np.array([0, 1]), np.ones((2, 2), np.int64), ("a", "b"))
    assert open_source(two) is two
