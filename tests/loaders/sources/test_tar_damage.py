"""Tar shards that were cut off, damaged, packed on a Mac, or say classes that cannot be: named, never shorter in silence."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest
from support.images import encoded, picture

from loaders.sources.tar import TarShards


def shard(path: Path, count: int = 12, extra: dict[str, bytes] | None = None, label: bytes = b"1") -> bytes:
    """Writes images and their classes, and ``extra`` members before them; returns the bytes."""
    members = dict(extra or {})
    for i in range(count):
        members |= {f"{i:03d}.jpg": encoded(picture(i, 20, 20)), f"{i:03d}.cls": label}
    with tarfile.open(path, "w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path.read_bytes()


def opened(path: Path) -> TarShards:
    return TarShards(str(path), cache=path.parent / "cache")


def test_what_a_mac_adds_is_no_sample(tmp_path: Path) -> None:
    shard(tmp_path / "a.tar", 8, {"._000.jpg": b"\0\5\x16\7", "._000.cls": b"x"})
    assert len(opened(tmp_path / "a.tar")) == 8


def test_cut_off_at_the_border_of_a_member(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    shard(file)
    with tarfile.open(file) as tar:
        border = tar.getmembers()[8].offset
    file.write_bytes(file.read_bytes()[:border])
    with pytest.raises(ValueError, match=r"a\.tar: it was cut off: there is no end mark at byte"):
        opened(file)


def test_a_flipped_bit_in_a_header(tmp_path: Path) -> None:
    file = tmp_path / "a.tar"
    data = bytearray(shard(file))
    with tarfile.open(file) as tar:
        data[tar.getmembers()[8].offset + 3] ^= 1
    file.write_bytes(data)
    with pytest.raises(ValueError, match=r"a\.tar: the header of the member at byte \d+ is damaged"):
        opened(file)


@pytest.mark.parametrize("label", [b"9223372036854775808", b"2000000000"])
def test_a_class_number_that_would_take_all_memory(tmp_path: Path, label: bytes) -> None:
    shard(tmp_path / "a.tar", 3, label=label)
    with pytest.raises(ValueError, match=rf"class numbers below 1048576 .* got b'{label.decode()}' in 000\.cls"):
        opened(tmp_path / "a.tar")
