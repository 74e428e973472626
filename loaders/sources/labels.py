"""Labels as people have them, brought to one form: class numbers (n,), or weights of all classes (n, classes).

[3, 0, 7]  ["cat", "dog"]  tensor([3, 0])  "labels.npy"  [[0.9, 0.1], [0, 1]]   ->   (labels, classes)
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Int64

from .base import MOST_CLASSES, Labels, numbered_classes

_AT_ONCE = 65536


def as_labels(
    labels: Any, classes: Sequence[str] | None = None, *, count: int | None = None
) -> tuple[Labels, tuple[str, ...]]:
    """``labels`` as int64 (n,) or float32 (n, classes), and the names of the classes.

    ``labels`` are class numbers, class names, or weights of all classes (soft or multi-label), as anything NumPy takes or as
    the path of an .npy file. ``classes`` are their names in order: by default names are sorted, as torchvision's
    ``ImageFolder`` does, and numbers name themselves. ``count`` is how many there must be. Raises ``ValueError`` or
    ``TypeError``.
    """
    if isinstance(labels, (str, os.PathLike)):
        labels = np.load(labels, allow_pickle=False)
    found = np.asarray(labels)
    if found.dtype.kind in "US" and not all(isinstance(label, (str, bytes)) for label in labels):
        raise TypeError("labels must be all numbers or all names, got both")
    names = None if classes is None else tuple(map(str, classes))
    if names is not None and len(set(names)) < len(names):
        raise ValueError(f"classes must be different names, got {names!r:.200}")
    if not len(found.reshape(-1)) or (count is not None and len(found) != count):
        samples = "sample, at least 1" if count is None else f"of the {count} samples"
        raise ValueError(f"labels must be one for each {samples}, got {len(found)}")
    if found.ndim == 1 and found.dtype.kind in "US":
        return _numbers_of(found.astype(str), names)
    if found.ndim == 1 and found.dtype.kind in "iu":
        return _checked(found.astype(np.int64), names)
    if found.ndim == 2 and found.dtype.kind in "fiub":
        return _weights(found.astype(np.float32), names)
    raise TypeError(
        f"labels must be integers or names (n,), or weights (n, classes), got {found.dtype} of shape {found.shape}"
    )


def _numbers_of(found: np.ndarray, names: tuple[str, ...] | None) -> tuple[Labels, tuple[str, ...]]:
    labels, numbers = distinct(found)
    names = tuple(sorted(labels)) if names is None else names
    places = {name: i for i, name in enumerate(names)}
    if unknown := sorted(labels.keys() - places.keys()):
        raise ValueError(f"labels must be among the {len(names)} classes, got {unknown[0]!r}")
    return np.array([places[label] for label in labels], np.int64)[numbers], names


def distinct(labels: np.ndarray) -> tuple[dict[str, int], Int64[np.ndarray, " n"]]:
    """The different ones of some text labels, numbered in the order in which they come first, and the number of each.

    They are looked at a few at a time: a million names as Python's strings are a tenth of a gigabyte.
    """
    seen: dict[str, int] = {}
    numbers = np.empty(len(labels), np.int64)
    for start in range(0, len(labels), _AT_ONCE):
        part = labels[start : start + _AT_ONCE].tolist()
        numbers[start : start + _AT_ONCE] = [seen.setdefault(label, len(seen)) for label in part]
    return seen, numbers


def _checked(found: np.ndarray, names: tuple[str, ...] | None) -> tuple[Labels, tuple[str, ...]]:
    most = MOST_CLASSES if names is None else len(names)
    if found.min() < 0 or found.max() >= most:
        wrong = int(np.flatnonzero((found < 0) | (found >= most))[0])
        raise ValueError(f"labels must be class numbers of 0 to {most - 1}, got {found[wrong]} for sample {wrong}")
    return found, names or numbered_classes(int(found.max()))


def _weights(found: np.ndarray, names: tuple[str, ...] | None) -> tuple[Labels, tuple[str, ...]]:
    if names is not None and len(names) != found.shape[1]:
        raise ValueError(f"labels must have a column for each of the {len(names)} classes, got {found.shape[1]}")
    if not np.isfinite(found).all():
        raise ValueError("labels must be finite weights, got NaN or infinity")
    return found, names or numbered_classes(found.shape[1] - 1)
