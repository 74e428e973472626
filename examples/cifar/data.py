"""CIFAR-10 or -100 as arrays: from a folder of images, or from torchvision's data set object.

Decoding 60,000 files takes as long as an epoch of training, so a folder's pixels are kept as .npy files beside the results.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from rich.progress import track

from mixstage.loaders.sources.folder import Folder
from mixstage.mixops import Key
from mixstage.mixops.key import Stream

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
"""Of CIFAR-10's training images, on the scale [0, 1]."""


@dataclass(frozen=True, eq=False)
class Images:
    """Pixels uint8 (n, 32, 32, 3), their class numbers (n,) and the names of the classes."""

    pixels: np.ndarray
    labels: np.ndarray
    classes: tuple[str, ...]

    def take(self, rows: np.ndarray) -> Images:
        """Some of them."""
        return Images(self.pixels[rows], self.labels[rows], self.classes)


def load(data: Any, part: Literal["train", "test"], cache: Path) -> Images:
    """The images of ``data/part``, a folder of class folders, or of torchvision's ``CIFAR10``, whatever its part.

    Raises ``ValueError`` where there is none.
    """
    if not isinstance(data, (str, Path)):
        return Images(np.asarray(data.data), np.asarray(data.targets), tuple(data.classes))
    folder = Path(data) / part
    if not folder.is_dir():
        raise ValueError(f"data must be a folder with train/ and test/, got {data}")
    kept = cache / f"{folder.absolute().parent.name}-{part}.npz"
    if not kept.exists():
        cache.mkdir(parents=True, exist_ok=True)
        listed = Folder(folder)
        pixels = np.stack([_decode(listed.read(i)) for i in track(range(len(listed)), f"decoding {part}", transient=True)])
        np.savez(kept, pixels=pixels, labels=listed.labels, classes=np.array(listed.classes))
    with np.load(kept) as arrays:
        return Images(arrays["pixels"], arrays["labels"], tuple(map(str, arrays["classes"])))


def _decode(data: bytes) -> np.ndarray:
    from io import BytesIO

    from PIL import Image

    with Image.open(BytesIO(data)) as image:
        return np.asarray(image.convert("RGB"))


def first_of_each_class(images: Images, count: int | None) -> Images:
    """The first ``count`` images of each class, or all of them."""
    if count is None:
        return images
    rank = np.zeros(len(images.labels), np.int64)
    for label in range(len(images.classes)):
        mine = images.labels == label
        rank[mine] = np.arange(mine.sum())
    return images.take(np.flatnonzero(rank < count))


def shuffled(images: Images, seed: int) -> Images:
    """The same images with each other's labels: nothing is there to be learned that helps on other images."""
    order = Key(seed).permutation(Stream.ORDER, len(images.labels))
    return Images(images.pixels, images.labels[order], images.classes)
