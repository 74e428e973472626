"""``mixstage convert``: a data set becomes one .beton file that FFCV and this package read.

FFCV's own writer forks a process per core, loses the class names, ends with the samples in another order than they were
encoded in, and waits for ever when one image cannot be read. This one encodes in threads, writes in the order of the source,
so that equal folders become equal files, and adds a checksum of every record, the file names and the class names where FFCV
looks at nothing (``pipelines/ffcv/beton.py`` says where).
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipelines.ffcv.beton_writer import LONGEST_SIDE, Record, encode_record, page_size, write_beton

from ..daemon_pool import DaemonPool
from ..printable import printable
from ..processors import usable_processors
from ..sources.base import Listing, Source
from ..sources.plain import read_image
from ..sources.progress import TIMEOUT
from ..sources.registry import open_source

_AHEAD = 8  # images per thread that may wait to be written


def convert(
    root: Annotated[Path, typer.Argument(help="Data set to read: a folder of class folders, tar shards, a .beton file.")],
    out: Annotated[Path, typer.Argument(help="The .beton file to write; must not exist.")],
    max_side: Annotated[int | None, typer.Option(help="Shrink images whose longer side is longer than this.")] = None,
    quality: Annotated[int, typer.Option(help="JPEG quality, 1 to 100.")] = 90,
    jpeg_share: Annotated[float, typer.Option(help="Share of images stored as JPEG; the rest is raw pixels.")] = 1.0,
    num_threads: Annotated[int, typer.Option(help="Threads that decode and encode; 0 takes all cores.")] = 0,
) -> None:
    """Write a data set into one .beton file for FFCV, with checksums, file names and class names.

    Order, ids and labels are those of the source, as torchvision's ImageFolder has them. Raises ``ValueError`` for bad
    arguments and for an image that cannot be read, by name, ``FileExistsError`` if ``out`` exists; nothing is left then.
    """
    for name, value, low, high in (("quality", quality, 1, 100), ("jpeg_share", jpeg_share, 0, 1)):
        if not low <= value <= high:
            raise ValueError(f"{name} must be in [{low}, {high}], got {value}")
    if not (max_side is None or 1 <= max_side <= LONGEST_SIDE):
        raise ValueError(f"max_side must be in [1, {LONGEST_SIDE}], got {max_side}")
    if num_threads < 0:
        raise ValueError(f"num_threads must be at least 0, got {num_threads}")
    _refuse(out)
    if not out.absolute().parent.is_dir():
        raise ValueError(f"out must lie in a folder that exists, got {str(out)!r}")
    source = open_source(root)
    if source.labels.ndim == 2:
        raise ValueError(
            f"root must have class numbers for labels, which is what the format holds, got weights in {str(root)!r}"
        )
    for sample, reason in source.broken.items():
        raise ValueError(f"{printable(source.name(sample))}: {reason} (`mixstage check` lists all such files)")

    def encode(sample: int) -> Record:
        # as many of the first n images as the share says, for every n: evenly over the classes, and no randomness
        jpeg = int((sample + 1) * jpeg_share) > int(sample * jpeg_share)
        try:
            return encode_record(read_image(source, sample), max_side, quality if jpeg else None)
        except Exception as error:  # Pillow's encoders raise whatever they like
            raise ValueError(f"{printable(source.name(sample))}: cannot be converted: {error}") from error

    part = out.absolute().with_name(f".{out.name}.{os.getpid()}.part")
    try:
        with open(part, "xb") as file:
            records = _encoded(encode, source, num_threads or usable_processors())
            page = page_size(source.sizes, max_side)
            write_beton(file, records, source.labels, source.classes, _relative_names(source), page)
            file.flush()
            os.fsync(file.fileno())
        _publish(part, out)
    finally:
        part.unlink(missing_ok=True)
    size = out.stat().st_size / 1e6
    text = f"{printable(str(out))}: {len(source)} images of {len(source.classes)} classes, {size:.1f} MB"
    Console(stderr=True).print(text, markup=False)


def _encoded(encode: Callable[[int], Record], source: Source, threads: int) -> Iterator[Record]:
    """The records in order, encoded in threads, with a progress bar and a bounded number waiting."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    pool = DaemonPool(threads, "mixstage-convert")
    finished = False
    try:
        with Progress(*columns, console=Console(stderr=True)) as progress:
            task = progress.add_task("converting", total=len(source))
            waiting: deque[tuple[int, Future[Record]]] = deque()
            coming = iter(range(len(source)))
            while True:
                some = islice(coming, threads * _AHEAD - len(waiting))
                waiting.extend((sample, pool.submit(encode, sample)) for sample in some)
                if not waiting:
                    break
                sample, future = waiting.popleft()
                if not wait([future], TIMEOUT).done:
                    raise TimeoutError(f"waited {TIMEOUT:g} s for {printable(source.name(sample))}")
                yield future.result()
                progress.advance(task)
        finished = True
    finally:
        pool.shutdown(wait=finished)


def _relative_names(source: Source) -> list[str]:
    """Names as they are in any copy of the data set, where the source has such."""
    if isinstance(source, Listing):
        return [os.fsdecode(name) for name in source.files.tolist()]
    return [source.name(sample) for sample in range(len(source))]


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
