"""A list of image files and their labels: from code, or from a manifest (CSV, JSON, JSON lines).

file_name,label          [{"file_name": "a/1.jpg", "label": "cat"}, ...]          {"a/1.jpg": 3, ...}
a/1.jpg,cat
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64

from .base import Listing
from .cache import cache_file
from .folder import as_bytes, read_sizes, stat_of
from .labels import as_labels
from .progress import TIMEOUT, Turn, run_with_progress
from .read_many import Places, whole_files
from .storage import read_file

_IMAGES = ("file_name", "filename", "file", "path", "image", "image_path")  # the first is the Hugging Face image folder's
_LABELS = ("label", "labels", "class", "target")
_THREADS = 16
_CHUNK = 256
_ROW_BY_ROW = (".csv", ".tsv", ".jsonl")
_UNRESOLVED = ("//", "/./", "/../", "/\0", "/.\0", "/..\0")  # in paths, one behind the other


class Files(Listing):
    """Image files of any names, each with its label.

    ``files`` are paths, or the path of a manifest: CSV or TSV with a header, JSON with a list of objects or an object of
    labels by file, or JSON lines, whose columns are called "file_name" and "label" (``columns`` names others). ``labels``
    are class numbers, class names or weights (n, classes); ``classes`` their names in order. Relative paths are relative to
    ``root``: by default a manifest's folder, else the working folder. Raises ``ValueError`` or ``TypeError`` naming the
    argument, and ``TimeoutError`` naming a file that does not answer for ``timeout`` seconds; files that cannot be read are
    bad files.
    """

    def __init__(
        self,
        files: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
        labels: Any = None,
        classes: Sequence[str] | None = None,
        *,
        root: str | os.PathLike[str] | None = None,
        columns: tuple[str, str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        place = None if root is None else os.path.abspath(os.path.expanduser(root))
        if isinstance(files, (str, os.PathLike)):
            if labels is not None:
                raise ValueError(f"labels must be None for a manifest, which has them, got {labels!r:.100}")
            place = place or os.path.dirname(os.path.abspath(files))
            files, labels = read_manifest(Path(files), columns)
        here = place or os.getcwd()
        paths = [_absolute(os.fspath(file), here) for file in files]
        if not paths:
            raise ValueError("files must be at least one, got none")
        numbers, names = as_labels(labels, classes, count=len(paths))
        base = place or os.path.commonpath({os.path.dirname(path) for path in paths})
        found = as_bytes(_relative(paths, base))
        stats = _stats(paths, timeout)
        key = "\0".join([base, str(len(paths)), *(paths[0], paths[-1])])
        sizes, broken = read_sizes(base, found, stats, cache_file(key, cache), timeout)
        super().__init__(base, found, numbers, sizes, names, broken)

    def read(self, sample: int) -> bytes:
        """The encoded image. Raises ``BadFile`` if it cannot be read, ``OSError`` if its storage cannot."""
        return read_file(self.name(sample))

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places:
        """Where samples lie."""
        return whole_files(self.root, self.files, samples)


def _absolute(path: str, here: str) -> str:
    return path if path[:1] == "/" else os.path.join(here, os.path.expanduser(path))


def _relative(paths: list[str], base: str) -> list[str]:
    """``os.path.relpath`` of each; where no path has anything to be resolved in it, just what comes after ``base``."""
    text, start = "\0".join([*paths, ""]), os.path.join(base, "")
    if any(part in text for part in _UNRESOLVED) or not all(path.startswith(start) for path in paths):
        return [os.path.relpath(path, base) for path in paths]
    return [path[len(start) :] for path in paths]


def _stats(paths: list[str], timeout: float) -> np.ndarray:
    stats = np.empty((len(paths), 2), np.int64)

    def look(start: int, turn: Turn) -> int:
        for i, path in enumerate(paths[start : start + _CHUNK], start):
            turn(path)
            stats[i] = stat_of(path, partial(os.stat, path))
        return _CHUNK

    run_with_progress(look, range(0, len(paths), _CHUNK), len(paths), "looking at files", _THREADS, timeout=timeout)
    return stats


def read_manifest(path: Path, columns: tuple[str, str] | None = None) -> tuple[list[str], list[Any]]:
    """Files and labels of a manifest. Whole numbers are class numbers, other text is class names. Raises ``ValueError``."""
    rows = _rows(path)
    if path.suffix.lower() not in _ROW_BY_ROW:
        (document,) = rows
        if isinstance(document, dict):
            return list(document), _typed(list(document.values()))
        rows = iter(document if isinstance(document, list) else [])
    files: list[str] = []
    labels: list[Any] = []
    image = label = ""
    for number, row in enumerate(rows, 1):  # of a row nothing else is kept
        if not isinstance(row, dict):
            files = []
            break
        if number == 1:
            image, label = columns or (_column(_IMAGES, row, path), _column(_LABELS, row, path))
        if not row.get(image) or row.get(label) in (None, ""):
            raise ValueError(f"files must have {image!r} and {label!r} in every row, not in row {number} of {str(path)!r}")
        files.append(row[image])
        labels.append(row[label])
    if not files:
        raise ValueError(f"files must be a manifest with a row a sample, got {str(path)!r}")
    return files, _typed(labels)


def _rows(path: Path) -> Iterator[Any]:
    """The rows of a table or of JSON lines as they are read, or all of a JSON document at once."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            if path.suffix.lower() in (".csv", ".tsv"):
                yield from csv.DictReader(file, delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
            elif path.suffix.lower() == ".jsonl":
                yield from (json.loads(line) for line in file if line.strip())
            else:
                yield json.load(file)
    except FileNotFoundError as error:
        raise ValueError(f"files must be a manifest that exists, got {str(path)!r}") from error
    except ValueError as error:  # no JSON, no UTF-8
        raise ValueError(f"files must be a manifest, got {str(path)!r}: {error}") from error


def _column(known: tuple[str, ...], row: dict[str, Any], path: Path) -> str:
    found = next((name for name in known if name in row), None)
    if found is None:
        raise ValueError(
            f"files must have a column {known[0]!r} (columns= names another), got {str(path)!r} with {', '.join(row)}"
        )
    return found


def _typed(labels: list[Any]) -> list[Any]:
    """Text that is whole numbers throughout as numbers: CSV has no others."""
    if all(isinstance(label, str) and label.strip().isdecimal() for label in labels):
        return [int(label) for label in labels]
    return labels
