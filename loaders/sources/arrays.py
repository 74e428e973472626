"""Images that are decoded already, in one array: CIFAR and its kind in memory, larger sets as memory-mapped .npy files.

Nothing is decoded, so every backend goes straight to the crop.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from .base import Listing
from .labels import as_labels


class Arrays(Listing):
    """Images as one uint8 array (n, h, w, 3), or (n, h, w) and (n, h, w, 1) for grey ones, and their labels.

    ``images`` is an array, a tensor on the CPU, or the path of an .npy file, which is mapped into memory and read as it is
    needed; it must keep its length meanwhile. ``labels`` are class numbers, class names, weights (n, classes), or the path
    of an .npy file of them; ``classes`` their names. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    decoded = True

    def __init__(self, images: Any, labels: Any, classes: Sequence[str] | None = None) -> None:
        self._path = os.fspath(images) if isinstance(images, (str, os.PathLike)) else None
        self.images: UInt8[np.ndarray, "n h w c"] = _as_images(images)
        numbers, names = as_labels(labels, classes, count=len(self.images))
        count, height, width, _ = self.images.shape
        super().__init__(
            root="" if self._path is None else str(Path(self._path).absolute()),
            files=np.arange(count).astype("S"),
            labels=numbers,
            sizes=np.broadcast_to(np.array([height, width], np.int64), (count, 2)),
            classes=names,
        )

    def name(self, sample: int) -> str:
        """The number of a sample, and the file that it is in."""
        return f"image {sample}" + (f" of {self.root}" if self.root else "")

    def read(self, sample: int) -> UInt8[np.ndarray, "h w 3"]:
        """The pixels; a look at the array's own memory where it has three channels."""
        image = self.images[sample]
        return image if image.shape[2] == 3 else np.repeat(image, 3, 2)


def _as_images(images: Any) -> UInt8[np.ndarray, "n h w c"]:
    if isinstance(images, (str, os.PathLike)):
        try:
            found = np.load(images, mmap_mode="r", allow_pickle=False)
        except (EOFError, ValueError) as error:  # also of a file that was cut off
            raise ValueError(f"images must be a whole .npy file, got {os.fspath(images)!r}: {error}") from error
        if not isinstance(found, np.ndarray):
            raise ValueError(f"images must be an .npy file, which holds one array, got {os.fspath(images)!r}")
    else:
        found = np.asarray(images)
    if found.dtype != np.uint8:
        raise TypeError(f"images must be uint8, got {found.dtype}; what is normalised before it is mixed loses precision")
    found = found[..., None] if found.ndim == 3 else found
    if found.ndim != 4 or found.shape[3] not in (1, 3) or not found.size:
        raise ValueError(f"images must be of shape (n, h, w, 3) or (n, h, w), got {np.shape(images)}")
    return found
