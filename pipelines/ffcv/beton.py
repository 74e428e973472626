"""The .beton file: its tables, its records, and the check that a record is what was written.

    header | field descriptors | metadata, a row a sample | pages of records | annotations | allocation table

FFCV reads the header, the tables and the pages. The annotations are ours and lie where FFCV looks at nothing: a zip archive
(NumPy's npz) with checksums, class names and file names, then its length and a magic word, right before the allocation
table. Records are read by position, so a file that was cut off is an error here where a memory map ends the process.
"""

from __future__ import annotations

import io
import json
import os
import struct
import weakref
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, UInt8, UInt32

from ..bad_file import BadFile
from ..jpeg import frame_size

VERSION = 2
JPEG, RAW = 0, 1
INT, IMAGE = 1, 2  # ids of FFCV's field types
HEADER = np.dtype(
    [("version", "<u2"), ("fields", "<u2"), ("page_size", "<u4"), ("samples", "<u8"), ("allocations", "<u8")], align=True
)
FIELD = np.dtype([("type", "<u1"), ("name", "<u1", 16), ("arguments", "<u1", 1024)], align=True)
ALLOCATION = np.dtype([("sample", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
_BYTES = np.dtype([("pointer", "<u8"), ("size", "<u8")])
COLUMNS: dict[int, np.dtype[Any]] = {  # what the metadata hold for each field type
    0: np.dtype("<f8"),
    INT: np.dtype("<i8"),
    IMAGE: np.dtype([("mode", "<u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")]),
    3: _BYTES,
    4: np.dtype("<u8"),
    5: _BYTES,
    6: np.dtype("<u8"),
}
_STORED = (IMAGE, 3, 4, 5, 6)  # field types that have a record a sample
_MAGIC = b"mixstage"
_FOOTER = struct.Struct("<Q8s")


@dataclass(frozen=True, eq=False)
class Annotations:
    """What ``mixstage convert`` adds to a file; all empty in files that FFCV wrote.

    ``checksums`` hold the CRC-32 of each sample's metadata row followed by its record.
    """

    checksums: UInt32[np.ndarray, " n"] | None = None
    classes: tuple[str, ...] = ()
    names: tuple[str, ...] = ()

    def to_bytes(self) -> bytes:
        """The archive with its footer."""
        archive = io.BytesIO()
        classes, names = (np.frombuffer(json.dumps(text).encode(), np.uint8) for text in (self.classes, self.names))
        checksums = np.zeros(0, np.uint32) if self.checksums is None else self.checksums
        np.savez_compressed(archive, checksums=checksums, classes=classes, names=names)
        data = archive.getvalue()
        return data + _FOOTER.pack(len(data), _MAGIC)

    @classmethod
    def from_bytes(cls, data: bytes) -> Annotations:
        """Reads what ``to_bytes`` wrote, without the footer. Raises ``ValueError`` or ``zipfile.BadZipFile``."""
        with np.load(io.BytesIO(data), allow_pickle=False) as archive:
            classes, names = (tuple(json.loads(archive[name].tobytes())) for name in ("classes", "names"))
            return cls(archive["checksums"], classes, names)


@dataclass(frozen=True, eq=False)
class Images:
    """The metadata of one image field over n samples; ``size`` is the record's bytes, 0 where there is no such record."""

    mode: Int64[np.ndarray, " n"]
    height: Int64[np.ndarray, " n"]
    width: Int64[np.ndarray, " n"]
    pointer: Int64[np.ndarray, " n"]
    size: Int64[np.ndarray, " n"]


class Beton:
    """An open .beton file.

    ``dtype`` is that of the metadata rows, needed where the file has custom fields. Raises ``FileNotFoundError``, and
    ``ValueError`` for a file that is no FFCV data set or was cut off.
    """

    def __init__(self, path: str | os.PathLike[str], dtype: np.dtype[Any] | None = None) -> None:
        self.path = Path(path)
        self._file = os.open(self.path, os.O_RDONLY)
        self._finalizer = weakref.finalize(self, os.close, self._file)
        try:
            self.length = os.fstat(self._file).st_size
            self._read_tables(dtype)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the file, as the end of the object does; may be called twice."""
        self._finalizer()

    def _read_tables(self, dtype: np.dtype[Any] | None) -> None:
        if not self.length:
            raise ValueError(f"{self.path} is empty")
        header = np.frombuffer(self._part(0, HEADER.itemsize), HEADER)[0]
        if header["version"] != VERSION:
            raise ValueError(f"{self.path} must be an FFCV data set of version {VERSION}, its header is of another kind")
        self.samples, self.page_size = int(header["samples"]), int(header["page_size"])
        descriptors = np.frombuffer(self._part(HEADER.itemsize, int(header["fields"]) * FIELD.itemsize), FIELD)
        self.types = {_text(d["name"]): int(d["type"]) for d in descriptors}
        if dtype is None:
            unknown = [name for name, kind in self.types.items() if kind not in COLUMNS]
            if unknown:
                raise ValueError(f"{self.path} has fields of custom types, which cannot be read here: {unknown}")
            dtype = np.dtype([("", COLUMNS[kind]) for kind in self.types.values()], align=True)
        start = HEADER.itemsize + descriptors.nbytes
        rows = np.frombuffer(self._part(start, self.samples * dtype.itemsize), np.uint8)
        self.rows: UInt8[np.ndarray, "n bytes"] = rows.reshape(self.samples, dtype.itemsize)
        self.metadata: np.ndarray = rows.view(dtype)
        table, kinds = int(header["allocations"]), self.types.values()
        stored = (self.length - table) / ALLOCATION.itemsize
        expected = self.samples * sum(kind in _STORED for kind in kinds)
        known = all(kind in COLUMNS for kind in kinds)
        if table < start + rows.nbytes or (stored != expected if known else stored % 1):
            raise ValueError(f"{self.path} was cut off or not finished: it has {self.length} bytes")
        self.allocations = np.sort(np.frombuffer(self._part(table, self.length - table), ALLOCATION), order="pointer")
        self.annotations = self._read_annotations(table)
        checksums = self.annotations.checksums
        if checksums is not None and len(checksums) != self.samples:
            raise ValueError(f"{self.path} has {len(checksums)} checksums for {self.samples} samples")

    def _read_annotations(self, table: int) -> Annotations:
        length, magic = _FOOTER.unpack(self._part(table - _FOOTER.size, _FOOTER.size))
        if magic != _MAGIC:
            return Annotations()
        try:
            return Annotations.from_bytes(self._part(table - _FOOTER.size - length, length))
        except Exception as error:
            raise ValueError(f"the checksums and names in {self.path} cannot be read: {error}") from error

    def check_replaced(self) -> None:
        """Raises ``RuntimeError`` if the name now belongs to another file or to none."""
        try:
            same = os.path.samestat(os.stat(self.path), os.fstat(self._file))
        except FileNotFoundError:
            same = False
        if not same:
            raise RuntimeError(f"{self.path} was replaced or removed since it was opened")

    def name(self, sample: int) -> str:
        """What to call a sample in a message: the file it was made from where that is known."""
        names = self.annotations.names
        return f"sample {sample} of {self.path}" + (f" ({names[sample]})" if names else "")

    def column(self, name: str) -> np.ndarray:
        """The metadata of a field, a row a sample."""
        return self.metadata[f"f{list(self.types).index(name)}"]

    def first(self, kind: int) -> str:
        """Name of the first field of a type. Raises ``ValueError`` where there is none."""
        for name, found in self.types.items():
            if found == kind:
                return name
        wanted = {IMAGE: "image", INT: "integer"}[kind]
        raise ValueError(f"{self.path} must have a field of type {wanted}, it has {list(self.types)}")

    def images(self, name: str) -> Images:
        """The metadata of an image field."""
        column = self.column(name)
        mode, width, height, pointer = (column[part].astype(np.int64) for part in column.dtype.names or ())
        return Images(mode, height, width, pointer, self._sizes(pointer))

    def read(self, images: Images, sample: int) -> bytes:
        """A record of an image field, checked: against its checksum where there is one, else its header and its end.

        Raises ``BadFile``, and ``RuntimeError`` if the file is no longer as long as it was.
        """
        size = int(images.size[sample])
        if not size:
            raise BadFile("its metadata point to no record of the file")
        record = os.pread(self._file, size, int(images.pointer[sample]))
        if len(record) != size:
            self.check_length()
            raise OSError(f"{self.path} gave {len(record)} bytes of {size}")
        self._check(images, sample, record)
        return record

    def check_length(self) -> None:
        """Raises ``RuntimeError`` if the file is no longer as long as it was when it was opened."""
        length = os.fstat(self._file).st_size
        if length != self.length:
            raise RuntimeError(f"{self.path} had {self.length} bytes when it was opened and now has {length}")

    def _check(self, images: Images, sample: int, record: bytes) -> None:
        checksums = self.annotations.checksums
        if checksums is not None:
            if checksum(self.rows[sample], record) != checksums[sample]:
                raise BadFile("does not match its checksum")
            return
        height, width = int(images.height[sample]), int(images.width[sample])
        if images.mode[sample] == RAW:
            if len(record) != 3 * height * width:
                raise BadFile(f"has {len(record)} bytes for {height} x {width} raw pixels")
        elif images.mode[sample] != JPEG:
            raise BadFile(f"has the unknown mode {images.mode[sample]}")
        elif frame_size(record) != (height, width):
            raise BadFile(f"its JPEG header does not say {height} x {width} pixels")
        elif record.rfind(b"\xff\xd9") < 0:  # the end marker, which compressed data cannot contain
            raise BadFile("its JPEG ends early")

    def _sizes(self, pointer: Int64[np.ndarray, " n"]) -> Int64[np.ndarray, " n"]:
        """Bytes of the record at each pointer, 0 where none begins there or it runs past the end of the file."""
        if not len(self.allocations):
            return np.zeros(len(pointer), np.int64)
        pointers = self.allocations["pointer"].astype(np.int64)
        sizes = self.allocations["size"].astype(np.int64)
        at = np.minimum(np.searchsorted(pointers, pointer), len(pointers) - 1)
        inside = (pointers[at] == pointer) & (sizes[at] >= 0) & (sizes[at] <= self.length - pointer)
        return np.where(inside, sizes[at], 0)

    def _part(self, offset: int, size: int) -> bytes:
        if offset < 0 or size < 0 or offset + size > self.length:
            raise ValueError(f"{self.path} was cut off: it has {self.length} bytes and needs {offset + size}")
        return os.pread(self._file, size, offset)


def checksum(row: UInt8[np.ndarray, " bytes"], record: bytes) -> int:
    """CRC-32 of a sample's metadata row followed by its record."""
    return zlib.crc32(record, zlib.crc32(row.tobytes()))


def _text(name: UInt8[np.ndarray, " 16"]) -> str:
    return name.tobytes().split(b"\0")[0].decode("ascii", "replace")
