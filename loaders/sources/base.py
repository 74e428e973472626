"""What a source of samples is, and what is known of an opened one before a sample is read.

    path | Source | Dataset  ->  open_source  ->  Opened: labels, classes, all sizes, bad samples, names
                                                  read(i) -> encoded bytes, or pixels

A source knows nothing of order, crops or bad-file policy. Samples are numbered from 0; a bad one keeps its number.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Protocol, TypeAlias

import numpy as np
from jaxtyping import Float32, Int64, UInt8

MOST_CLASSES = 1 << 20  # a larger class number is a flipped bit or no class number; mixed targets have a column a class
Sample: TypeAlias = bytes | UInt8[np.ndarray, "h w 3"]
Labels: TypeAlias = Int64[np.ndarray, " n"] | Float32[np.ndarray, "n classes"]


class Source(Protocol):
    """A data set of n images with labels, read one at a time from any number of threads.

    Whatever has these members can be given to an ``ImageLoader``; nothing has to be inherited.
    """

    @property
    def labels(self) -> Labels:
        """The class number of each sample, integers (n,), or weights of all classes, floats (n, classes)."""
        ...

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their numbers."""
        ...

    @property
    def sizes(self) -> Int64[np.ndarray, "n 2"]:
        """(height, width) of each image as stored; where they are 0, the loader reads the headers once and keeps them."""
        ...

    @property
    def digest(self) -> str:
        """Short hash of names and labels: equal for equal data sets wherever they lie, whatever became of single files."""
        ...

    def __len__(self) -> int: ...

    def name(self, sample: int) -> str:
        """What to call a sample in a message: a path where there is one."""
        ...

    def read(self, sample: int) -> Sample:
        """The encoded image, or its RGB pixels.

        Raises ``BadFile`` where the sample cannot be used, ``OSError`` where storage cannot be read.
        """
        ...


class Opened(Source, Protocol):
    """A source whose samples have been looked at: sizes are 0 for broken samples only."""

    @property
    def broken(self) -> Mapping[int, str]:
        """Samples that are known to be bad before they are read, with reasons."""
        ...

    @property
    def decoded(self) -> bool:
        """Whether ``read`` gives pixels, so that nothing has to be decoded."""
        ...


@dataclass(eq=False)
class Listing:
    """What is known of n samples that have names: all of an ``Opened`` source but ``read``.

    ``files`` are names relative to ``root``, as bytes (``S`` dtype: a hundredth of a gigabyte per million where Python's
    strings need a tenth).
    """

    decoded: ClassVar[bool] = False
    root: str
    files: np.ndarray  # (n,) of dtype S
    labels: Labels
    sizes: Int64[np.ndarray, "n 2"]
    classes: tuple[str, ...]
    broken: dict[int, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, sample: int) -> str:
        """The path of a sample."""
        return os.path.join(self.root, os.fsdecode(self.files[sample]))

    @cached_property
    def digest(self) -> str:
        """Hash of names and labels."""
        text = hashlib.sha256("\0".join(self.classes).encode("utf-8", "surrogateescape"))
        text.update(f"\0{self.files.dtype.itemsize}\0".encode())
        text.update(np.ascontiguousarray(self.files).view(np.uint8).data)
        text.update(np.ascontiguousarray(self.labels).data)
        return text.hexdigest()[:16]


def numbered_classes(largest: int) -> tuple[str, ...]:
    """Names for classes that have numbers only: "0", "1", ... up to ``largest``."""
    return tuple(map(str, range(largest + 1)))
