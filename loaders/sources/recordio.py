"""MXNet's RecordIO files as a data set, as ``im2rec`` writes them, without MXNet; the .idx file is not needed.

    magic 0xced7230a | 3 bits: part of a record, 29 bits: length | data, padded to 4 bytes
    data: flag (4 bytes) | label (float) | id (8) | id2 (8) | flag floats, if flag > 0: more labels | the image

A record whose data hold the magic word is written in parts with the word between them left out.
"""

from __future__ import annotations

import io
import os
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.bad_file import BadFile

from .packed import Contents, Packed, size_or_none
from .progress import TIMEOUT, Turn
from .storage import open_regular

_MAGIC = struct.pack("<I", 0xCED7230A)
_PART = struct.Struct("<4sI")
_HEADER = struct.Struct("<IfQQ")
_WHOLE, _FIRST, _LAST = 0, 1, 3


class RecordFiles(Packed):
    """The images of .rec files; ``files`` are "file/record number".

    ``pattern`` names the files as for tar shards. Labels are class numbers, or several floats a record: weights of all
    classes. Records without an image are passed over. Raises ``ValueError`` for files that are missing, cut off, or no
    RecordIO.
    """

    def __init__(
        self,
        pattern: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        classes: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(
            pattern, _scan, what="RecordIO files", options="recordio", classes=classes, cache=cache, timeout=timeout
        )

    def decode(self, data: bytes, *place: int) -> bytes:
        """The image of a record. Raises ``BadFile``."""
        ((_, _, payload),) = _records(io.BytesIO(data))
        return _image(payload)[1]


def _scan(path: str, name: str, turn: Turn) -> Contents:
    files, labels, sizes, places = [], [], [], []
    with open(path, "rb", opener=open_regular) as file:
        for number, (offset, length, payload) in enumerate(_records(file)):
            turn(path)
            label, image = _image(payload)
            if not image:
                continue
            files.append(os.fsencode(f"{name}/{number}"))
            labels.append(label)
            places.append((offset, length))
            sizes.append(size_or_none(io.BytesIO(image)))
    return Contents(
        files=np.array(files, "S"),
        labels=np.array(labels) if labels else np.zeros(0, np.int64),
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        places=np.array(places, np.int64).reshape(-1, 2),
    )


def _records(file: Any) -> Iterator[tuple[int, int, bytes]]:
    """Offset, length and data of each record. Raises ``BadFile`` for one that was cut off or damaged."""
    at = start = 0
    parts: list[bytes] = []
    while head := file.read(_PART.size):
        if len(head) < _PART.size or not head.startswith(_MAGIC):
            whole = len(head) == _PART.size
            raise BadFile(f"there is no RecordIO record at byte {at}" if whole else f"it was cut off at byte {at}")
        part, length = divmod(_PART.unpack(head)[1], 1 << 29)
        padded = -(-length // 4) * 4
        data = file.read(padded)
        if len(data) < padded:
            raise BadFile(f"it was cut off in the record at byte {at}")
        if (part in (_WHOLE, _FIRST)) != (not parts):
            raise BadFile(f"the record at byte {at} is not a part that may come there")
        parts.append(data[:length])
        at += _PART.size + padded
        if part in (_WHOLE, _LAST):
            yield start, at - start, _MAGIC.join(parts)
            parts, start = [], at
    if parts:
        raise BadFile(f"it was cut off in the record at byte {start}")


def _image(payload: bytes) -> tuple[Any, bytes]:
    """Label and image of a record."""
    if len(payload) < _HEADER.size:
        raise BadFile(f"a record has {len(payload)} bytes, less than its header")
    flag, label, _, _ = _HEADER.unpack_from(payload)
    rest = payload[_HEADER.size :]
    if not flag:
        return (int(label) if label == int(label) else [label]), rest
    labels = np.frombuffer(rest[: 4 * flag], "<f4").tolist()
    return (int(labels[0]) if flag == 1 and labels[0] == int(labels[0]) else labels), rest[4 * flag :]
