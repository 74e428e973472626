"""Arrow and Parquet files as a data set.

In Parquet, rows lie packed in groups of hundreds, so that an image in a random order would cost unpacking a group: the
images are unpacked once into an Arrow file in the cache, as the library ``datasets`` does.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .cache import cache_file, locked, read_cache, write_cache
from .packed import find_shards
from .progress import TIMEOUT, Turn, run_with_progress
from .tables import Table, find_columns

Columns = tuple[str, str]  # of image and label


def arrow_files(pattern: Any, *, columns: Columns | None = None, cache: Any = None, timeout: float = TIMEOUT) -> Table:
    """Arrow files, as ``Dataset.save_to_disk`` writes them, as one table; ``columns`` are those of image and label.

    Raises ``ImportError`` with the install line without pyarrow, ``ValueError`` for files that are missing, cut off or have
    no such columns.
    """
    pa = _pyarrow()
    paths = find_shards(pattern, "Arrow files")
    table = pa.concat_tables([_mapped(path) for path in paths])
    found, classes = find_columns(table.schema, columns)
    return Table(table, found, classes, _together(paths))


def parquet_files(pattern: Any, *, columns: Columns | None = None, cache: Any = None, timeout: float = TIMEOUT) -> Table:
    """Parquet files as one table, unpacked once into the cache folder; rows of a group that cannot be read are bad.

    ``columns`` are those of image and label: by default the first that holds images and the first called "label" or alike.
    Raises ``ImportError`` with the install line without pyarrow, and ``ValueError`` for files that are missing, cut off,
    have no such columns, or do not fit on the disk of the cache.
    """
    _pyarrow()
    paths = find_shards(pattern, "Parquet files")
    key = "\0".join(f"{path} {os.stat(path).st_size} {os.stat(path).st_mtime_ns}" for path in paths)
    file = cache_file(f"parquet {columns} {key}", cache)
    if file is None:
        raise ValueError(
            "cache must be a folder that can be written to for Parquet files, which are unpacked there, got none"
        )
    unpacked = file.with_suffix(".arrow")
    with locked(file, _together(paths), timeout) as alive:
        if not unpacked.exists():
            _unpack(paths, unpacked, columns, timeout, alive)
    lost = read_cache(file, "rows", "reasons")
    broken = dict(zip(lost["rows"].tolist(), lost["reasons"].tolist(), strict=True)) if lost else {}
    table = _mapped(str(unpacked))
    found, classes = find_columns(table.schema, columns)
    return Table(table, found, classes, _together(paths), broken=broken)


def _pyarrow() -> Any:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Arrow and Parquet files need pyarrow: pip install 'mixstage[arrow]'") from error
    return pyarrow


def _together(paths: Sequence[str]) -> str:
    return paths[0] if len(paths) == 1 else os.path.join(os.path.commonpath(paths), f"({len(paths)} files)")


def _mapped(path: str) -> Any:
    """A table whose columns are looks into a file. Raises ``ValueError``."""
    import pyarrow as pa

    try:
        source = pa.memory_map(path)
        return (pa.ipc.open_file if source.read(6) == b"ARROW1" else pa.ipc.open_stream)(pa.memory_map(path)).read_all()
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"root must be whole Arrow files, got {path}: {error}") from error


def _unpack(
    paths: Sequence[str], unpacked: Path, columns: Columns | None, timeout: float, alive: Callable[[], None]
) -> None:
    """Writes the image and label columns of Parquet files to an Arrow file, whole or not at all, and what was lost."""
    import pyarrow as pa

    files = [(path, _parquet(path)) for path in paths]
    schema = files[0][1].schema_arrow
    kept, _ = find_columns(schema, columns)
    groups = [(path, file, group) for path, file in files for group in range(file.num_row_groups)]
    need = sum(file.metadata.row_group(group).total_byte_size for _, file, group in groups)
    if need > shutil.disk_usage(unpacked.parent).free:
        raise ValueError(
            f"cache must be a folder with room for {need / 1e9:.1f} GB of unpacked images, got {unpacked.parent}"
        )
    small = pa.schema([schema.field(name) for name in kept], schema.metadata)
    broken: dict[int, str] = {}
    rows = 0
    part = unpacked.with_suffix(f".{os.getpid()}.part")

    def work(place: tuple[str, Any, int], turn: Turn) -> int:
        nonlocal rows
        path, file, group = place
        turn(path)
        count: int = file.metadata.row_group(group).num_rows
        try:
            table = file.read_row_group(group, columns=list(kept)).select(list(kept)).cast(small)
        except (pa.ArrowException, OSError) as error:
            why = f"cannot be read: row group {group} of {path}: {' '.join(str(error).split()):.200}"
            broken.update(dict.fromkeys(range(rows, rows + count), why))
            table = _empty_rows(file, group, kept, small, count)
        writer.write_table(table)
        rows += count
        return count

    total = sum(file.metadata.num_rows for _, file in files)
    try:
        with pa.OSFile(str(part), "wb") as out, pa.ipc.new_file(out, small) as writer:
            run_with_progress(work, groups, total, "unpacking", 1, timeout=timeout, alive=alive)
        reasons = np.array(list(broken.values()), "U") if broken else np.zeros(0, "U1")
        write_cache(unpacked.with_suffix(".npz"), rows=np.array(list(broken), np.int64), reasons=reasons)
        os.replace(part, unpacked)
    finally:
        part.unlink(missing_ok=True)


def _parquet(path: str) -> Any:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"root must be whole Parquet files, got {path}: {error}") from error


def _empty_rows(file: Any, group: int, columns: Columns, schema: Any, count: int) -> Any:
    """Rows without images, with their labels where these can be read, else with class 0: they are never shown."""
    import pyarrow as pa

    field = schema.field(columns[1])
    try:
        labels = file.read_row_group(group, columns=[columns[1]]).column(0).cast(field.type)
    except (pa.ArrowException, OSError):
        zero: Any = [] if pa.types.is_list(field.type) else "" if pa.types.is_string(field.type) else 0
        labels = pa.array([zero] * count, field.type)
    return pa.table([pa.nulls(count, schema.field(columns[0]).type), labels], schema=schema)
