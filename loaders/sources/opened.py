"""Makes of anything that satisfies ``Source`` one whose samples have been looked at: all sizes, and the bad ones named.

Sizes that a source does not know are read from its samples once and kept in the user's cache folder; some are read again at
every start, and all of them where one has changed.
"""

from __future__ import annotations

import io
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from .base import Labels, Opened, Sample, Source
from .cache import cache_file, locked, read_cache, write_cache
from .headers import Size, image_size
from .labels import as_labels
from .progress import Turn, run_with_progress
from .read_many import HasPlaces, Places

_log = logging.getLogger("mixstage")
_MEMBERS = ("read", "name", "labels", "classes", "sizes", "digest")
_THREADS = 16
_CHUNK = 64
_PROBES = 16  # samples whose sizes are read again


def opened(source: Any, cache: str | os.PathLike[str] | None, timeout: float) -> Opened:
    """``source`` with all its sizes. Raises ``TypeError`` for what is no source, ``ValueError`` for labels that are none."""
    missing = [name for name in _MEMBERS if not hasattr(source, name)] + ["len"] * (not hasattr(source, "__len__"))
    if missing:
        raise TypeError(
            "root must be a path or a Source, such as Arrays(images, labels) or Files(paths, labels) of "
            f"mixstage.loaders.sources, got {type(source).__name__}, which has no {', '.join(missing)}"
        )
    if not len(source):
        raise ValueError(f"root must have at least one sample, got {type(source).__name__} with none")
    labels, classes = as_labels(source.labels, source.classes, count=len(source))
    sizes = np.asarray(source.sizes, np.int64)
    if sizes.shape != (len(source), 2):
        raise ValueError(f"sizes must be (height, width) of {len(source)} samples, got shape {sizes.shape}")
    broken = dict(getattr(source, "broken", {}))
    unknown = np.setdiff1d(np.flatnonzero((sizes < 1).any(1)), list(broken))
    if hasattr(source, "broken") and hasattr(source, "decoded") and not len(unknown) and _is_plain(source.labels, labels):
        return cast(Opened, source)
    if len(unknown):
        sizes = sizes.copy()
        key = f"{type(source).__module__}.{type(source).__qualname__} {source.digest}"
        broken |= _read_sizes(source, sizes, unknown, key, cache, timeout)
    decoded = getattr(source, "decoded", None)
    if decoded is None:
        good = next((i for i in range(len(source)) if i not in broken), None)
        decoded = good is not None and not isinstance(source.read(good), bytes)
    return Examined(source, labels, classes, sizes, broken, decoded)


def _is_plain(given: Any, labels: Labels) -> bool:
    """Whether labels are as they were given, in memory that torch takes."""
    return isinstance(given, np.ndarray) and given.dtype == labels.dtype and given.flags.writeable


@dataclass(frozen=True, eq=False)
class Examined:
    """A source, and what its samples have told."""

    source: Source
    labels: Labels
    classes: tuple[str, ...]
    sizes: Int64[np.ndarray, "n 2"]
    broken: Mapping[int, str]
    decoded: bool
    digest: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "digest", str(self.source.digest))

    def __len__(self) -> int:
        return len(self.source)

    def name(self, sample: int) -> str:
        """As the source calls it."""
        return self.source.name(sample)

    def read(self, sample: int) -> Sample:
        """What the source gives."""
        return self.source.read(sample)

    def places(self, samples: Int64[np.ndarray, " n"]) -> Places | None:
        """Where samples lie, if the source says it."""
        return self.source.places(samples) if isinstance(self.source, HasPlaces) else None


def _read_sizes(
    source: Source, sizes: np.ndarray, unknown: np.ndarray, key: str, cache: str | os.PathLike[str] | None, timeout: float
) -> dict[int, str]:
    """Fills in the ``unknown`` rows of ``sizes``; returns the samples that have none, with reasons."""
    broken: dict[int, str] = {}
    file = cache_file(f"sizes {key}", cache)

    def scan(chunk: np.ndarray, turn: Turn) -> int:
        for i in chunk.tolist():
            turn(source.name(i))
            try:
                sizes[i] = size_of(source.read(i))
            except BadFile as reason:
                broken[i] = str(reason)
        return len(chunk)

    def scan_all(samples: np.ndarray) -> None:
        chunks = np.split(samples, range(_CHUNK, len(samples), _CHUNK))
        run_with_progress(scan, chunks, len(samples), "reading images", _THREADS, timeout=timeout, alive=alive)

    with locked(file, key, timeout) as alive:
        stored = read_cache(file, "sizes").get("sizes")
        missing = unknown
        if stored is not None and stored.shape == sizes.shape:
            probes = unknown[np.linspace(0, len(unknown) - 1, min(_PROBES, len(unknown))).astype(int)]
            scan_all(probes)
            if np.array_equal(sizes[probes], stored[probes]):
                sizes[unknown] = stored[unknown]
                missing = unknown[(stored[unknown] < 1).any(1)]  # bad ones, which may be good by now
        if len(missing):
            broken.clear()
            scan_all(missing)
            write_cache(file, sizes=sizes.astype(np.int32))
    return broken


def size_of(sample: Sample) -> Size:
    """(height, width) of a sample. Raises ``BadFile`` where there is none, and for pixels of another kind."""
    if isinstance(sample, (bytes, bytearray, memoryview)):
        return image_size(io.BytesIO(sample))
    if sample.dtype != np.uint8 or sample.ndim != 3 or sample.shape[2] != 3:
        raise BadFile(f"must be uint8 pixels (h, w, 3), got {sample.dtype} of shape {sample.shape}")
    return sample.shape[0], sample.shape[1]
