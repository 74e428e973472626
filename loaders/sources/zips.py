"""Zip archives as a data set: of an image folder, or of WebDataset's pairs of an image and its class.

Members are read by position and unpacked here, so that any number of threads read one archive, and each is compared with its
checksum. JPEG files are best stored; packed ones cost unpacking.
"""

from __future__ import annotations

import os
import struct
import zipfile
import zlib
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from pipelines.bad_file import BadFile

from ..printable import printable
from .folder import EXTENSIONS
from .packed import Contents, Packed, class_folder, json_label, size_or_none
from .progress import TIMEOUT, Turn
from .storage import open_regular

_LOCAL = struct.Struct("<4s22xHH")  # magic, lengths of the name and of the extra field
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)


class ZipFiles(Packed):
    """The images of zip archives; ``files`` are "archive.zip/folder/name.jpg".

    ``pattern`` names the archives as for tar shards. The class of an image is its folder, under the one that all share, or
    ``name.cls`` beside ``name.jpg``, or what ``label`` takes of ``name.json`` (a key, or a function). Raises ``ValueError``
    for archives that are missing, cut off, encrypted or packed by another method than deflate.
    """

    def __init__(
        self,
        pattern: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        label: str | Callable[[Any], Any] | None = None,
        classes: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(
            pattern, lambda path, name, turn: _scan(path, name, turn, label), what="zip archives",
            broken_shard=(zipfile.BadZipFile, NotImplementedError), options=None if callable(label) else f"zip {label}",
            classes=classes, cache=cache, timeout=timeout,
        )  # fmt: skip

    def decode(self, data: bytes, *place: int) -> bytes:
        """A member unpacked and compared with its checksum. Raises ``BadFile``."""
        method, checksum = place
        if method == zipfile.ZIP_DEFLATED:
            try:
                data = zlib.decompress(data, -zlib.MAX_WBITS)
            except zlib.error as error:
                raise BadFile(f"cannot be unpacked: {error}") from error
        if zlib.crc32(data) != checksum:
            raise BadFile("does not match its checksum")
        return data


def _scan(path: str, name: str, turn: Turn, label: str | Callable[[Any], Any] | None) -> Contents:
    with open(path, "rb", opener=open_regular) as file, zipfile.ZipFile(file) as archive:
        members = {info.filename: info for info in archive.infolist() if not info.is_dir()}
        images = [info for info in members.values() if _is_image(info.filename)]
        found = [_label(archive, members, info.filename, label) for info in images]
        for info, value in zip(images, found, strict=True):
            if value is None:
                raise BadFile(f"there is no class for {printable(info.filename)}")
            if info.flag_bits & 1 or info.compress_type not in _METHODS:
                raise BadFile(
                    f"its member {printable(info.filename)} is encrypted, or packed by another method than deflate"
                )
        places, sizes = [], []
        for info in images:
            turn(path)
            places.append((_offset(file, info), info.compress_size, info.compress_type, info.CRC))
            sizes.append(_size(archive, info))
    return Contents(
        files=np.array([os.fsencode(f"{name}/{info.filename}") for info in images], "S"),
        labels=np.array(found) if images else np.zeros(0, np.int64),
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        places=np.array(places, np.int64).reshape(-1, 4),
    )


def _is_image(name: str) -> bool:
    base = name.rpartition("/")[2]
    return base.lower().endswith(EXTENSIONS) and not base.startswith(".") and not name.startswith("__MACOSX/")


def _label(archive: zipfile.ZipFile, members: dict[str, Any], name: str, label: str | Callable[[Any], Any] | None) -> Any:
    stem = name.rpartition(".")[0]
    if label is not None:
        return json_label(archive.read(f"{stem}.json"), label) if f"{stem}.json" in members else None
    if f"{stem}.cls" in members:
        text = archive.read(f"{stem}.cls").strip()
        if not text.isdigit():
            raise BadFile(f"{printable(stem)}.cls must hold a class number, got {text[:20]!r}")
        return int(text)
    return class_folder(name)


def _offset(file: BinaryIO, info: zipfile.ZipInfo) -> int:
    """Where the data of a member begin."""
    head = os.pread(file.fileno(), _LOCAL.size, info.header_offset)
    if len(head) < _LOCAL.size or not head.startswith(b"PK\3\4"):
        raise BadFile(f"there is no member at byte {info.header_offset}")
    _, name, extra = _LOCAL.unpack(head)
    return info.header_offset + _LOCAL.size + int(name) + int(extra)


def _size(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> tuple[int, int]:
    try:
        with archive.open(info) as member:
            return size_or_none(member)  # type: ignore[arg-type]  # it seeks
    except (zipfile.BadZipFile, zlib.error, EOFError):
        return 0, 0
