"""Images with a label map each, a class number for every pixel: VOC, ADE20K, Cityscapes, and their kind.

A map goes the way of its image: cut out, resized, flipped and warped by the same plan, to the nearest pixel. So it is handed
on as an image whose three bytes a pixel are no colours,

    (class % 256, class // 256, 255 where there is a class and 0 where there is none)

and what is shown outside of an image, which is black, is without a class.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Int, UInt8

from mixops.runtime.checks import check_count
from pipelines import pillow
from pipelines.bad_file import BadFile

from .arrays import Arrays
from .base import Labels, Opened, Sample
from .files import Files
from .storage import read_file

MOST_CLASSES = 1 << 16
_BITS = 8


class LabelMaps:
    """Images and their label maps: with mixed or plain class numbers (b, h, w) as targets.

    ``images`` are paths or a uint8 array (n, h, w, 3); ``maps`` the paths of images of one channel (PNG, grey or with a
    palette) or an integer array (n, h, w), one each. ``classes`` are the names of the numbers 0, 1, ...; ``ignore_index`` is
    the number of pixels without a class, also of those outside of an image. Raises ``ValueError`` or ``TypeError`` naming
    the argument; a map that does not fit its image, or has a number that is no class, is a bad sample.
    """

    def __init__(self, images: Any, maps: Any, classes: Sequence[str], *, ignore_index: int = 255) -> None:
        self.classes = tuple(map(str, classes))
        if not 1 <= len(self.classes) <= MOST_CLASSES or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must be 1 to {MOST_CLASSES} different names, got {len(self.classes)}")
        self.ignore_index = check_count("ignore_index", ignore_index, -(2**31), 2**31 - 1)
        if 0 <= self.ignore_index < len(self.classes):
            raise ValueError(
                f"ignore_index must be the number of none of the {len(self.classes)} classes, got {ignore_index}"
            )
        listed = not hasattr(images, "dtype")
        count = len(images)
        nothing = np.zeros(count, np.int64)
        self._images: Opened = Files(images, nothing, self.classes) if listed else Arrays(images, nothing, self.classes)
        self._maps: Any = [os.fspath(path) for path in maps] if not hasattr(maps, "dtype") else np.asarray(maps)
        if len(self._maps) != count:
            raise ValueError(f"maps must be one an image, {count}, got {len(self._maps)}")
        if not isinstance(self._maps, list) and (self._maps.dtype.kind not in "iu" or self._maps.ndim != 3):
            raise TypeError(f"maps must be integers (n, h, w), got {self._maps.dtype} of shape {self._maps.shape}")

    def __len__(self) -> int:
        return len(self._images)

    @property
    def labels(self) -> Labels:
        """None to speak of: 0 for every image."""
        return self._images.labels

    @property
    def sizes(self) -> Int[np.ndarray, "n 2"]:
        """(height, width) of the images, and of their maps."""
        return self._images.sizes

    @property
    def broken(self) -> Mapping[int, str]:
        """Images that are known to be bad."""
        return self._images.broken

    @property
    def decoded(self) -> bool:
        """Whether the images are pixels."""
        return self._images.decoded

    @property
    def digest(self) -> str:
        """Of the images' names, the maps' and the classes."""
        names = [os.path.basename(path) for path in self._maps] if isinstance(self._maps, list) else []
        text = "\0".join([self._images.digest, str(self.ignore_index), *names])
        return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]

    def name(self, sample: int) -> str:
        """The image's."""
        return self._images.name(sample)

    def read(self, sample: int) -> Sample:
        """The image."""
        return self._images.read(sample)

    def read_map(self, sample: int) -> UInt8[np.ndarray, "h w 3"]:
        """The label map as an image. Raises ``BadFile`` where it is none, and ``OSError`` where storage cannot be read."""
        stored = self._maps[sample]
        numbers = pillow.decode_map(read_file(stored)) if isinstance(stored, str) else stored
        size = tuple(self.sizes[sample].tolist())
        if numbers.shape != size:
            raise BadFile(f"its label map has {numbers.shape} pixels, the image {size}")
        valid = numbers != self.ignore_index
        classes = np.where(valid, numbers, 0)
        if classes.min() < 0 or classes.max() >= len(self.classes):
            wrong = classes[(classes < 0) | (classes >= len(self.classes))][0]
            raise BadFile(f"its label map has the number {wrong}, which is none of the {len(self.classes)} classes")
        return np.stack([classes & 255, classes >> _BITS, valid * 255], -1).astype(np.uint8)
