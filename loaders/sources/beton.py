"""A .beton file as a data set: the names and classes that ``mixstage convert`` keeps in it, else numbers."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from pipelines.ffcv.beton import IMAGE, INT, RAW, Beton

from .base import MOST_CLASSES, Listing, Sample, numbered_classes
from .progress import TIMEOUT
from .storage import retried


class BetonFile(Listing):
    """The first image field of a .beton file and its first integer field, which holds the labels.

    Nothing is kept in a cache: the file has it all. Raises ``ValueError`` for a file that is none, was cut off, or has
    labels that are no class numbers.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        if not Path(path).is_file():
            why = "which is no file" if os.path.lexists(path) else "which does not exist"
            raise ValueError(f"root must be a .beton file, got {str(path)!r}, {why}")
        self._beton = beton = Beton(path)
        self._images = images = beton.images(beton.first(IMAGE))
        labels = beton.column(beton.first(INT)).astype(np.int64)
        if not len(labels):
            raise ValueError(f"{beton.path} has no samples")
        classes = beton.annotations.classes
        most = len(classes) if classes else MOST_CLASSES
        if labels.min() < 0 or labels.max() >= most:
            wrong = int(np.flatnonzero((labels < 0) | (labels >= most))[0])
            raise ValueError(f"{beton.name(wrong)} must have a label of 0 to {most - 1}, got {labels[wrong]}")
        names = beton.annotations.names or tuple(f"sample {i}" for i in range(len(labels)))
        sizes = np.stack([images.height, images.width], 1)
        self._decoded = bool((images.mode == RAW).all())
        empty = np.flatnonzero((images.size == 0) | (sizes.min(1) == 0)).tolist()
        super().__init__(
            root=str(beton.path.absolute()),
            files=np.array([name.encode("utf-8", "surrogateescape") for name in names]),
            labels=labels,
            sizes=sizes,
            classes=classes or numbered_classes(int(labels.max())),
            broken=dict.fromkeys(empty, "its metadata point to no record of the file"),
        )

    @property
    def decoded(self) -> bool:  # type: ignore[override]  # of each file
        """Whether all records are raw pixels."""
        return self._decoded

    def read(self, sample: int) -> Sample:
        """The record: a JPEG file, or pixels. Raises ``BadFile``, and ``RuntimeError`` if the file changed its length."""
        record = retried(self.name(sample), self._beton.read, self._images, sample)
        if self._images.mode[sample] != RAW:
            return record
        return np.frombuffer(record, np.uint8).reshape(*self.sizes[sample].tolist(), 3)
