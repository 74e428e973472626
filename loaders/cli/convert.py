"""``mixstage convert``: an image folder becomes one .beton file that FFCV and this package read.

FFCV's own writer forks a process per core, loses the class names, ends with the samples in another order than they were
encoded in, and waits for ever when one image cannot be read. This one encodes in threads, writes in the order of the folder,
so that equal folders become equal files, and adds a checksum of every record, the file names and the class names where FFCV
looks at nothing (``pipelines/ffcv/beton.py`` says where).
"""

from __future__ import annotations

import io
import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Annotated, BinaryIO

import numpy as np
import typer
from jaxtyping import UInt8
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.ffcv.beton import ALLOCATION, COLUMNS, FIELD, HEADER, IMAGE, INT, JPEG, RAW, VERSION, Annotations, checksum

from ..sources.folder import Index, read_index

_FIELDS = {"image": IMAGE, "label": INT}
_ROW = np.dtype([("", COLUMNS[kind]) for kind in _FIELDS.values()], align=True)
_PAGE = 1 << 23  # FFCV's default
_LARGEST_PAGE = 1 << 31
_LONGEST_SIDE = 65535  # 16 bits in the metadata
_AHEAD = 8  # images per thread that may wait to be written


@dataclass(frozen=True, eq=False)
class Record:
    """One encoded image."""

    mode: int
    height: int
    width: int
    data: bytes


def convert(
    root: Annotated[Path, typer.Argument(help="Image folder with one sub-folder per class.")],
    out: Annotated[Path, typer.Argument(help="The .beton file to write; must not exist.")],
    max_side: Annotated[int | None, typer.Option(help="Shrink images whose longer side is longer than this.")] = None,
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 90,
    jpeg_share: Annotated[float, typer.Option(help="Share of images stored as JPEG; the rest is raw pixels.")] = 1.0,
    num_threads: Annotated[int, typer.Option(help="Threads that decode and encode; 0 takes all cores.")] = 0,
) -> None:
    """Write an image folder into one .beton file for FFCV, with checksums, file names and class names.

    Order, ids and labels are those of the folder, as torchvision's ImageFolder has them. Raises ``ValueError`` for bad
    arguments and for an image that cannot be read, by name, ``FileExistsError`` if ``out`` exists; nothing is left then.
    """
    for name, value, low, high in (("quality", quality, 1, 100), ("jpeg_share", jpeg_share, 0, 1)):
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
    if not (max_side is None or 1 <= max_side <= _LONGEST_SIDE):
        raise ValueError(f"max_side must be in [1, {_LONGEST_SIDE}], got {max_side}")
    if num_threads < 0:
        raise ValueError(f"num_threads must be at least 0, got {num_threads}")
    _refuse(out)
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out must lie in a folder that exists, got {str(out)!r}")
    index = read_index(root)
    for sample, reason in index.broken.items():
        raise ValueError(f"{index.name(sample)}: {reason} (`mixstage check` lists all such files)")

    def encode(sample: int) -> Record:
        # as many of the first n images as the share says, for every n: evenly over the classes, and no randomness
        jpeg = int((sample + 1) * jpeg_share) > int(sample * jpeg_share)
        try:
            return encode_image(index.name(sample), max_side, quality if jpeg else None)
        except Exception as error:  # Pillow's decoders raise whatever they like
            raise ValueError(f"{index.name(sample)}: cannot be converted: {error}") from error

    part = out.absolute().with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as file:
            _write(
                file, index, _encoded(encode, len(index), num_threads or os.cpu_count() or 1), _page_size(index, max_side)
            )
            file.flush()
            os.fsync(file.fileno())
        _publish(part, out)
    finally:
        part.unlink(missing_ok=True)
    Console(stderr=True).print(
        f"{out}: {len(index)} images of {len(index.classes)} classes, {out.stat().st_size / 1e6:.1f} MB"
    )


def encode_image(path: str, max_side: int | None, quality: int | None) -> Record:
    """Reads an image as RGB, shrinks it by area averages, and encodes it as JPEG, or raw where ``quality`` is ``None``."""
    from PIL import Image

    with Image.open(path) as opened:
        image = opened.convert("RGB")
    if max_side is not None and max(image.size) > max_side:
        scale = max_side / max(image.size)
        image = image.resize([max(1, round(side * scale)) for side in image.size], Image.Resampling.BOX)
    if max(image.size) > _LONGEST_SIDE:
        raise ValueError(
            f"has {image.height} x {image.width} pixels, sides up to {_LONGEST_SIDE} can be stored; give max_side"
        )
    if quality is None:
        return Record(RAW, image.height, image.width, image.tobytes())
    data = io.BytesIO()
    image.save(data, "JPEG", quality=quality)
    return Record(JPEG, image.height, image.width, data.getvalue())


def _encoded(encode: Callable[[int], Record], count: int, threads: int) -> Iterator[Record]:
    """The records in order, encoded in threads, with a progress bar and a bounded number waiting."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress, ThreadPoolExecutor(threads) as pool:
        task = progress.add_task("converting", total=count)
        waiting: deque[Future[Record]] = deque()
        coming = iter(range(count))
        try:
            while True:
                waiting.extend(pool.submit(encode, sample) for sample in islice(coming, threads * _AHEAD - len(waiting)))
                if not waiting:
                    return
                yield waiting.popleft().result()
                progress.advance(task)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _page_size(index: Index, max_side: int | None) -> int:
    """A power of two that holds every image raw: a record may not cross the border of a page."""
    sides = index.sizes.astype(np.float64)
    if max_side is not None:
        sides = np.ceil(sides * np.minimum(1, max_side / sides.max(1, keepdims=True)))
    size = _PAGE
    while size < 3 * sides.prod(1).max():
        size *= 2
    if size > _LARGEST_PAGE:
        raise ValueError(f"max_side must be given, {_LARGEST_PAGE} bytes is the largest page and does not hold these images")
    return size


def _write(file: BinaryIO, index: Index, records: Iterator[Record], page: int) -> None:
    count = len(index)
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
            raise ValueError(f"{index.name(sample)}: has {size} bytes, more than a page of {page}; give max_side")
        if at % page + size > page:
            at = _next_page(at, page)
        rows[sample] = (record.mode, record.width, record.height, at), index.labels[sample]
        allocations[sample] = sample, at, size
        checksums[sample] = checksum(raw_rows[sample], record.data)
        file.seek(at)
        file.write(record.data)
        at += size

    names = tuple(os.fsdecode(name) for name in index.files.tolist())
    file.seek(_next_page(at, page))  # FFCV reads whole pages
    file.write(Annotations(checksums, index.classes, names).to_bytes())
    header["allocations"] = file.tell()
    file.write(allocations.tobytes())
    file.seek(0)
    for table in (header, fields, rows):
        file.write(table.tobytes())


def _next_page(at: int, page: int) -> int:
    return -(-at // page) * page


def _refuse(out: Path) -> None:
    if os.path.lexists(out):
        raise FileExistsError(f"out must not exist, got {str(out)!r}")


def _publish(part: Path, out: Path) -> None:
    """Gives the finished file its name, unless that was taken meanwhile."""
    try:
        os.link(part, out)  # fails if out exists, where a rename would overwrite it
    except FileExistsError:
        _refuse(out)
    except OSError:  # a file system without links
        _refuse(out)
        os.rename(part, out)
