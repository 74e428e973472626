"""Sources made of sources: some samples of one, several one after the other, as torch's ``Subset`` and ``ConcatDataset``."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from .base import Labels, Opened, Sample
from .read_many import HasPlaces, Places, join_places

_AT_ONCE = 65536


class Joined:
    """The samples of several opened sources, one source after the other, which must agree on the kind of labels.

    Classes are those of the source that has most; all others must begin as they do. Raises ``ValueError``.
    """

    def __init__(self, parts: Sequence[Opened]) -> None:
        self._parts = tuple(parts)
        self._ends = np.cumsum([len(part) for part in parts])
        self.classes = max((part.classes for part in parts), key=len)
        for part in parts:
            if part.classes != self.classes[: len(part.classes)] or part.labels.ndim != parts[0].labels.ndim:
                raise ValueError(f"sources that are joined must have the same classes, got {part.classes!r:.100}")
        self.labels: Labels = np.concatenate([part.labels for part in parts])
        self.sizes = np.concatenate([part.sizes for part in parts])
        starts = [0, *self._ends.tolist()]
        self.broken = {start + i: why for start, part in zip(starts, parts, strict=False) for i, why in part.broken.items()}
        self.decoded = all(part.decoded for part in parts)
        digests = "\0".join(("joined", *(part.digest for part in parts)))
        self.digest = hashlib.sha256(digests.encode()).hexdigest()[:16]

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, sample: int) -> str:
        """As its own source calls it."""
        part, inside = self._place(sample)
        return part.name(inside)

    def read(self, sample: int) -> Sample:
        """What its own source gives."""
        part, inside = self._place(sample)
        return part.read(inside)

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places | None:
        """Where samples of the sources lie that say it."""
        parts = np.searchsorted(self._ends, samples, "right")
        found = []
        for part in np.unique(parts).tolist():
            source, rows = self._parts[part], np.flatnonzero(parts == part)
            inside = samples[rows] - (int(self._ends[part - 1]) if part else 0)
            if isinstance(source, HasPlaces) and (places := source.places(inside)) is not None:
                found.append((rows, places))
        return join_places(len(samples), found)

    def _place(self, sample: int) -> tuple[Opened, int]:
        part = int(np.searchsorted(self._ends, sample, "right"))
        return self._parts[part], sample - (int(self._ends[part - 1]) if part else 0)


class Selected:
    """Some samples of an opened source, in the order of ``indices``; the classes are the source's."""

    def __init__(self, source: Opened, indices: Any) -> None:
        self._source = source
        self._indices = np.asarray(indices, np.int64)
        if self._indices.ndim != 1 or not len(self._indices):
            raise ValueError(f"indices must be at least one, got {indices!r:.100}")
        self.classes, self.decoded = source.classes, source.decoded
        self.labels: Labels = source.labels[self._indices]
        self.sizes = source.sizes[self._indices]
        bad = np.flatnonzero(np.isin(self._indices, np.array(list(source.broken), np.int64)))
        self.broken = {i: source.broken[int(self._indices[i])] for i in bad.tolist()}
        digest = hashlib.sha256("\0".join(("selected", source.digest, "")).encode())
        for start in range(0, len(self._indices), _AT_ONCE):  # in parts, for the text is twice as long
            digest.update(self._indices[start : start + _AT_ONCE].tobytes().hex().encode())
        self.digest = digest.hexdigest()[:16]

    def __len__(self) -> int:
        return len(self._indices)

    def name(self, sample: int) -> str:
        """As its own source calls it."""
        return self._source.name(int(self._indices[sample]))

    def read(self, sample: int) -> Sample:
        """What its own source gives."""
        return self._source.read(int(self._indices[sample]))

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places | None:
        """Where samples lie, if the source says it."""
        return self._source.places(self._indices[samples]) if isinstance(self._source, HasPlaces) else None
