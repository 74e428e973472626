"""TFRecord files of ``tf.train.Example`` as a data set, without TensorFlow.

    length (8 bytes) | its masked CRC-32C | data | their masked CRC-32C

https://www.tensorflow.org/tutorials/load_data/tfrecord. An Example is a protocol buffer of features by name. When a file is
scanned its checksums are compared, and where the bytes of each image lie inside of its record goes into the cache;
afterwards an image is one read by position.
"""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipelines.bad_file import BadFile

from .packed import Contents, Packed, size_or_none
from .progress import TIMEOUT, Turn
from .storage import open_regular

_IMAGES = ("image/encoded", "image", "image_raw", "jpg", "jpeg", "png")
_LABELS = ("image/class/label", "label", "class", "cls")
_HEAD = struct.Struct("<QI")
_TAIL = struct.Struct("<I")
_LONGEST = 1 << 31  # bytes of a record; more is no length


class TfRecords(Packed):
    """The images of TFRecord files; ``files`` are "file/record number".

    ``pattern`` names the files as for tar shards. ``columns`` are the features that hold image and label: by default those
    of the ImageNet scripts, "image/encoded" and "image/class/label", or "image" and "label". Labels are numbers, names, or
    several floats, weights of all classes. Raises ``ValueError`` for files that are missing, cut off, damaged, or of other
    records.
    """

    def __init__(
        self,
        pattern: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        columns: tuple[str, str] | None = None,
        classes: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(
            pattern, lambda path, name, turn: _scan(path, name, turn, columns), what="TFRecord files",
            options=f"tfrecord {columns}", classes=classes, cache=cache, timeout=timeout,
        )  # fmt: skip


def is_tfrecord(path: str) -> bool:
    """Whether a path is called as TFRecord files are: "x.tfrecord", "x.tfrecord-00000-of-00010", "train-00000-of-01024"."""
    name = os.path.basename(path)
    return ".tfrecord" in name or re.search(r"-(\d{5}|[{*?].*)-of-\d{5}$", name) is not None


def _scan(path: str, name: str, turn: Turn, columns: tuple[str, str] | None) -> Contents:
    files, labels, sizes, places = [], [], [], []
    with open(path, "rb", opener=open_regular) as file:
        for number, (offset, record) in enumerate(_records(file)):
            turn(path)
            features = _features(record)
            image, label = columns or (_known(_IMAGES, features, number), _known(_LABELS, features, number))
            if len(features.get(image, ())) != 1 or not isinstance(features[image][0], slice) or not features.get(label):
                raise BadFile(f"record {number} has no {image!r} and {label!r}, it has {', '.join(features)}")
            place = features[image][0]
            labels.append(_value(record, features[label]))
            places.append((offset + place.start, place.stop - place.start))
            sizes.append(size_or_none(io.BytesIO(record[place])))
            files.append(os.fsencode(f"{name}/{number}"))
    return Contents(
        files=np.array(files, "S"),
        labels=np.array(labels) if labels else np.zeros(0, np.int64),
        sizes=np.array(sizes, np.int64).reshape(-1, 2),
        places=np.array(places, np.int64).reshape(-1, 2),
    )


def _known(names: tuple[str, ...], features: dict[str, Any], number: int) -> str:
    found = next((name for name in names if name in features), None)
    if found is None:
        raise BadFile(
            f"record {number} has none of {', '.join(names)} (columns= names others), it has {', '.join(features)}"
        )
    return found


def _records(file: Any) -> Iterator[tuple[int, bytes]]:
    """Offset and data of each record. Raises ``BadFile`` for one that was cut off or damaged."""
    from .crc32c import masked_crc32c  # compiled, on first use

    at = 0
    while head := file.read(_HEAD.size):
        if len(head) < _HEAD.size:
            raise BadFile(f"it was cut off in the record at byte {at}")
        length, checksum = _HEAD.unpack(head)
        if masked_crc32c(head[:8]) != checksum or length > _LONGEST:
            raise BadFile(f"there is no TFRecord at byte {at}, or its length is damaged")
        data, tail = file.read(length), file.read(_TAIL.size)
        if len(data) < length or len(tail) < _TAIL.size:
            raise BadFile(f"it was cut off in the record at byte {at}")
        if masked_crc32c(data) != _TAIL.unpack(tail)[0]:
            raise BadFile(f"the record at byte {at} does not match its checksum")
        yield at + _HEAD.size, data
        at += _HEAD.size + length + _TAIL.size


def _features(record: bytes) -> dict[str, list[Any]]:
    """The features of an Example: places of bytes in the record, integers, or floats. Raises ``BadFile``."""
    found: dict[str, list[Any]] = {}
    try:
        for _, features in _fields(record, slice(0, len(record)), 1):
            for _, entry in _fields(record, features, 1):
                (key,) = (record[place].decode() for _, place in _fields(record, entry, 1))
                values = [value for _, feature in _fields(record, entry, 2) for value in _values(record, feature)]
                found[key] = values
    except (ValueError, IndexError, struct.error) as error:
        raise BadFile(f"a record is no Example: {error}") from error
    return found


def _values(record: bytes, feature: slice) -> Iterator[Any]:
    for kind, several in _fields(record, feature):
        if not isinstance(several, slice):
            raise ValueError("a feature is no list")
        for _, value in _fields(record, several, 1):
            if kind == 1 or not isinstance(value, slice):
                yield value if isinstance(value, (slice, int)) or kind == 1 else float(value)
            elif kind == 2:  # packed floats
                yield from np.frombuffer(record[value], "<f4").tolist()
            else:
                at = value.start
                while at < value.stop:
                    number, at = _varint(record, at)
                    yield number


def _fields(record: bytes, place: slice, only: int | None = None) -> Iterator[tuple[int, Any]]:
    """Number and value of each field of a message: a place, an integer or a float."""
    at = place.start
    while at < place.stop:
        tag, at = _varint(record, at)
        number, kind = tag >> 3, tag & 7
        value: Any
        if kind == 0:
            value, at = _varint(record, at)
        elif kind == 1:
            value, at = struct.unpack_from("<d", record, at)[0], at + 8
        elif kind == 2:
            length, at = _varint(record, at)
            value, at = slice(at, at + length), at + length
        elif kind == 5:
            value, at = struct.unpack_from("<f", record, at)[0], at + 4
        else:
            raise ValueError(f"a field is of the unknown kind {kind}")
        if at > place.stop:
            raise ValueError("a field runs past its end")
        if only is None or number == only:
            yield number, value


def _varint(record: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = record[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return (value - (1 << 64) if value >> 63 else value), at


def _value(record: bytes, values: list[Any]) -> Any:
    """A label: a number, a name, or weights."""
    if isinstance(values[0], slice):
        return record[values[0]].decode("utf-8", "surrogateescape")
    return values[0] if len(values) == 1 and isinstance(values[0], int) else [float(value) for value in values]
