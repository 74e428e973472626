"""Writes a .beton file: records in the order in which they come, each with a checksum of it and of its metadata.

``beton.py`` says what lies where. Equal records become equal files.
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Int64, UInt8

from .beton import ALLOCATION, COLUMNS, FIELD, HEADER, IMAGE, INT, JPEG, RAW, VERSION, Annotations, checksum

LONGEST_SIDE = 65535  # 16 bits in the metadata
_FIELDS = {"image": IMAGE, "label": INT}
_ROW = np.dtype([("", COLUMNS[kind]) for kind in _FIELDS.values()], align=True)
_PAGE = 1 << 23  # FFCV's default
_LARGEST_PAGE = 1 << 31


@dataclass(frozen=True, eq=False)
class Record:
    """One encoded image."""

    mode: int
    height: int
    width: int
    data: bytes


def encode_record(image: Any, max_side: int | None, quality: int | None) -> Record:
    """An RGB image of Pillow's, shrunk by area averages, as JPEG, or raw where ``quality`` is ``None``.

    Raises ``ValueError`` for an image whose sides do not fit the format.
    """
    from PIL import Image

    if max_side is not None and max(image.size) > max_side:
        scale = max_side / max(image.size)
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
    if max(image.size) > LONGEST_SIDE:
        raise ValueError(
            f"has {image.height} x {image.width} pixels, sides up to {LONGEST_SIDE} can be stored; give max_side"
        )
    if quality is None:
        return Record(RAW, image.height, image.width, image.tobytes())
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Record(JPEG, image.height, image.width, data.getvalue())


def page_size(sizes: Int64[np.ndarray, "n 2"], max_side: int | None) -> int:
    """A power of two that holds every image raw: a record may not cross the border of a page."""
    sides = sizes.astype(np.float64)
    if max_side is not None:
        sides = np.ceil(sides * np.minimum(1, max_side / sides.max(1, keepdims=True)))
    size = _PAGE
    while size < 3 * sides.prod(1).max():
        size *= 2
    if size > _LARGEST_PAGE:
        raise ValueError(f"max_side must be given, {_LARGEST_PAGE} bytes is the largest page and does not hold these images")
    return size


def write_beton(
    file: BinaryIO,
    records: Iterable[Record],
    labels: Int64[np.ndarray, " n"],
    classes: tuple[str, ...],
    names: Sequence[str],
    page: int,
) -> None:
    """Writes a whole file to ``file``, which is empty. Raises ``ValueError`` for a record that fits no page, by name."""
    count = len(labels)
    header = np.zeros(1, HEADER)
    header["version"], header["fields"], header["samples"], header["page_size"] = VERSION, len(_FIELDS), count, page
    fields = np.zeros(len(_FIELDS), FIELD)
    for field, (name, kind) in zip(fields, _FIELDS.items(), strict=True):
        field["type"] = kind
        field["name"][: len(name)] = np.frombuffer(name.encode(), np.uint8)
    rows = np.zeros(count, _ROW)
    raw_rows: UInt8[np.ndarray, "n bytes"] = rows.view(np.uint8).reshape(count, _ROW.itemsize)
    allocations = np.zeros(count, ALLOCATION)
    checksums = np.zeros(count, np.uint32)

    at = _next_page(header.nbytes + fields.nbytes + rows.nbytes, page)
    for sample, record in enumerate(records):
        size = len(record.data)
        if size > page:
            raise ValueError(f"{names[sample]}: has {size} bytes, more than a page of {page}; give max_side")
        if at % page + size > page:
            at = _next_page(at, page)
        rows[sample] = (record.mode, record.width, record.height, at), labels[sample]
        allocations[sample] = sample, at, size
        checksums[sample] = checksum(raw_rows[sample], record.data)
        file.seek(at)
        file.write(record.data)
        at += size

    file.seek(_next_page(at, page))  # FFCV reads whole pages
    file.write(Annotations(checksums, classes, tuple(names)).to_bytes())
    header["allocations"] = file.tell()
    file.write(allocations.tobytes())
    file.seek(0)
    for table in (header, fields, rows):
        file.write(table.tobytes())


def _next_page(at: int, page: int) -> int:
    return -(-at // page) * page
