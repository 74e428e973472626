"""Arrow tables of images and labels, as the Hugging Face library ``datasets`` lays them out.

    column image: struct<bytes: binary, path: string>, or binary      column label: integers, names, or lists of either

Images are the bytes that are stored; of a table that is mapped into memory a row is one look into its file.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from pipelines.bad_file import BadFile

from .labels import as_labels
from .storage import read_file

IMAGES = ("image", "img", "jpg", "png", "picture", "photo")
LABELS = ("label", "labels", "fine_label", "class", "cls", "target")


class Table:
    """The rows ``rows`` of an Arrow table, all by default.

    ``image`` and ``label`` are its columns, ``classes`` the names of the classes. Lists of several class numbers become
    multi-label weights. ``broken`` says why rows have no image.
    """

    decoded = False

    def __init__(
        self,
        table: Any,
        columns: tuple[str, str],
        classes: Sequence[str] | None,
        what: str,
        rows: np.ndarray | None = None,
        broken: dict[int, str] | None = None,
    ) -> None:
        self._rows = np.arange(len(table)) if rows is None else rows
        column = table.column(columns[0])
        self._chunks = [_fields(chunk) for chunk in column.chunks]
        self._ends = np.cumsum([len(chunk) for chunk in column.chunks])
        values = table.column(columns[1]).to_pylist()
        found = _numbers([values[row] for row in self._rows.tolist()], classes)
        self.labels, self.classes = as_labels(found, classes)
        self.sizes = np.zeros((len(self._rows), 2), np.int64)
        self.broken = {} if broken is None else broken
        self._what = what

    @property
    def digest(self) -> str:
        """Of labels and classes, and the numbers of rows."""
        text = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        text.update(self._rows.tobytes())
        text.update(self.labels.tobytes())
        return text.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._rows)

    def name(self, sample: int) -> str:
        """The number of the row, and the path that the image once had."""
        path = self._place(sample)[1]
        said = f" ({path.as_py()})" if path is not None and path.is_valid else ""
        return f"row {self._rows[sample]} of {self._what}{said}"

    def read(self, sample: int) -> bytes:
        """The encoded image: the row's bytes, or the file at its path. Raises ``BadFile``."""
        data, path = self._place(sample)
        if data.is_valid:
            return bytes(data.as_buffer())
        if path is None or not path.is_valid:
            raise BadFile(self.broken.get(sample, "has no image"))
        if not os.path.isabs(path.as_py()):
            raise BadFile("has neither bytes nor the path of a file")
        return read_file(path.as_py())

    def _place(self, sample: int) -> tuple[Any, Any]:
        row = int(self._rows[sample])
        chunk = int(np.searchsorted(self._ends, row, "right"))
        inside = row - (int(self._ends[chunk - 1]) if chunk else 0)
        data, path = self._chunks[chunk]
        return data[inside], None if path is None else path[inside]


def _fields(images: Any) -> tuple[Any, Any]:
    """Bytes and paths of an array of images, null where an image is."""
    if not hasattr(images, "flatten") or not str(images.type).startswith("struct"):
        return images, None
    fields = {field.name: column for field, column in zip(images.type, images.flatten(), strict=True)}
    return fields["bytes"], fields.get("path")


def _numbers(values: list[Any], classes: Sequence[str] | None) -> Any:
    """Labels as they are; lists of several classes of a sample as weights."""
    if not isinstance(values[0], list) or classes is None:
        return values
    weights = np.zeros((len(values), len(classes)), np.float32)
    for row, numbers in zip(weights, values, strict=True):
        row[numbers] = 1
    return weights


def find_columns(schema: Any, columns: tuple[str, str] | None) -> tuple[tuple[str, str], Sequence[str] | None]:
    """The columns of image and label, and the names of the classes where the library has left them in the schema."""
    said = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
    features = said.get("info", {}).get("features", {})
    if columns is None:
        kinds = {name: features.get(name, {}).get("_type") for name in schema.names}
        inner = {name: (features.get(name, {}).get("feature") or {}).get("_type") for name in schema.names}
        images = [name for name in schema.names if kinds[name] == "Image"] or [
            name for name in IMAGES if name in schema.names
        ]
        labels = [name for name in schema.names if "ClassLabel" in (kinds[name], inner[name])]
        labels += [name for name in LABELS if name in schema.names]
        if not images or not labels:
            raise ValueError(
                f"root must have columns of image and label (columns= names them), got {', '.join(schema.names)}"
            )
        columns = images[0], labels[0]
    missing = [name for name in columns if name not in schema.names]
    if missing:
        raise ValueError(f"columns must be among {', '.join(schema.names)}, got {missing[0]!r}")
    feature = features.get(columns[1], {})
    return columns, (feature.get("feature") or feature).get("names")
