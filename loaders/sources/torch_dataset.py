"""Map-style data sets of torch's ecosystem: torchvision's, timm's, ``Subset``, and anybody's ``Dataset`` of (image, label).

What they hold is taken, not what they make of it: the arrays of CIFAR10, the paths of an ``ImageFolder``, the files of a
timm reader. So nothing is decoded twice, and bad files keep their names. Of any other data set the items are read once at
the start, for their labels and sizes. A transform inside is refused: crops and augmentation are drawn by the loader, and
pixels that have been normalised cannot be mixed exactly.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from pipelines.bad_file import BadFile

from .arrays import Arrays
from .base import Listing, Opened, Sample
from .composed import Joined, Selected
from .files import Files
from .labels import as_labels
from .opened import size_of
from .progress import Turn, run_with_progress

_THREADS = 8
_CHUNK = 64
_READERS = ("default_loader", "pil_loader", "accimage_loader")  # torchvision's, which read what we read


def is_torch_dataset(value: Any) -> bool:
    """Whether ``value`` is a data set of torch's."""
    from torch.utils.data import Dataset

    return isinstance(value, Dataset)


def from_torch(dataset: Any, *, cache: Any, timeout: float) -> Opened:
    """The source in a map-style data set. Raises ``TypeError`` for one without ``len``, ``ValueError`` for a transform."""
    from torch.utils.data import ConcatDataset, Subset

    if not hasattr(dataset, "__len__") or not hasattr(dataset, "__getitem__"):
        raise TypeError(f"root must be a map-style Dataset, whose samples have numbers, got {type(dataset).__name__}")
    if isinstance(dataset, Subset):
        return Selected(from_torch(dataset.dataset, cache=cache, timeout=timeout), dataset.indices)
    if isinstance(dataset, ConcatDataset):
        return Joined([from_torch(part, cache=cache, timeout=timeout) for part in dataset.datasets])
    refuse_transform(dataset)
    kind = type(dataset).__module__
    if kind.startswith("torchvision.datasets."):
        return _from_torchvision(dataset, cache, timeout)
    if kind == "timm.data.dataset":
        return _from_timm(dataset, cache, timeout)
    return Items(dataset, timeout=timeout)


def refuse_transform(dataset: Any) -> None:
    """Raises ``ValueError`` for a data set that changes its images."""
    inside = getattr(dataset, "transform", None)
    if inside is not None:
        raise ValueError(
            f"{type(dataset).__name__} must be made with transform=None, since the loader crops, augments and normalises "
            f"(size=, crop=, augment=, mean=, std=), got {' '.join(repr(inside).split()):.200}"
        )


def _from_torchvision(dataset: Any, cache: Any, timeout: float) -> Opened:
    classes = getattr(dataset, "classes", None)
    turn = getattr(dataset, "target_transform", None)
    data = getattr(dataset, "data", None)
    pairs = getattr(dataset, "samples", None)
    if isinstance(pairs, list) and getattr(getattr(dataset, "loader", None), "__name__", "") in _READERS:
        labels = [label if turn is None else turn(label) for _, label in pairs]
        names = classes if turn is None else None
        return Files([path for path, _ in pairs], labels, names, root=dataset.root, cache=cache, timeout=timeout)
    if data is not None and getattr(data, "ndim", 0) in (3, 4) and str(data.dtype) in ("uint8", "torch.uint8"):
        numbers = np.asarray(next(getattr(dataset, name) for name in ("targets", "labels") if hasattr(dataset, name)))
        if numbers.ndim == 1:
            pixels = np.asarray(data)
            if pixels.ndim == 4 and pixels.shape[3] != 3:  # SVHN, STL10: channels first
                pixels = np.ascontiguousarray(np.moveaxis(pixels, 1, 3))
            made = numbers if turn is None else [turn(label) for label in numbers.tolist()]
            return Arrays(pixels, made, classes if turn is None and _fit(classes, numbers) else None)
    return Items(dataset, timeout=timeout, threadsafe=True)


def _fit(classes: Any, labels: np.ndarray) -> bool:
    return classes is not None and len(classes) > labels.max(initial=0)


def _from_timm(dataset: Any, cache: Any, timeout: float) -> Opened:
    reader = dataset.reader
    pairs = getattr(reader, "samples", None)
    if dataset.target_transform is None and isinstance(pairs, list) and all(isinstance(pair[0], str) for pair in pairs[:1]):
        numbers = getattr(reader, "class_to_idx", {})
        names = sorted(numbers, key=numbers.__getitem__) if numbers else None
        paths, labels = zip(*pairs, strict=True)
        if os.path.isfile(paths[0]):  # and not a member of a tar
            return Files(paths, labels, names, root=reader.root, cache=cache, timeout=timeout)
    return Items(_Reader(dataset), timeout=timeout)


class _Reader:
    """The files of a timm reader as items; its own data set puts another sample in the place of one that it cannot read."""

    def __init__(self, dataset: Any) -> None:
        self._reader, self._turn = dataset.reader, dataset.target_transform
        numbers = getattr(self._reader, "class_to_idx", None) or getattr(self._reader, "class_name_to_idx", None)
        if numbers and self._turn is None:
            self.classes = sorted(numbers, key=numbers.__getitem__)

    def __len__(self) -> int:
        return len(self._reader)

    def __getitem__(self, sample: int) -> tuple[bytes, Any]:
        image, label, *_ = self._reader[sample]
        with image:  # else it stays open
            return image.read(), label if self._turn is None else self._turn(label)


class Items(Listing):
    """Any map-style data set whose items begin with an image and a label; all are read once, for labels and sizes.

    Images are Pillow's, uint8 arrays (h, w, 3) or (h, w), uint8 tensors (c, h, w), or encoded bytes. A data set that is not
    ``threadsafe`` gives one item at a time: torch's loader calls it in processes, so it may keep an open file. Raises
    ``TypeError`` naming the first item that is none of these.
    """

    def __init__(self, dataset: Any, *, timeout: float, threadsafe: bool = False) -> None:
        self._dataset = dataset
        self._lock: AbstractContextManager[Any] = nullcontext() if threadsafe else threading.Lock()
        count = len(dataset)
        if not count:
            raise ValueError(f"root must have samples, got an empty {type(dataset).__name__}")
        labels: list[Any] = [None] * count
        sizes = np.zeros((count, 2), np.int64)
        broken: dict[int, str] = {}

        def look(start: int, turn: Turn) -> int:
            for i in range(start, min(start + _CHUNK, count)):
                turn(self.name(i))
                try:
                    image, labels[i] = self._item(i)
                    sizes[i] = size_of(image)
                except BadFile as reason:
                    broken[i] = str(reason)
            return min(_CHUNK, count - start)

        super().__init__(type(dataset).__name__, np.arange(count).astype("S"), np.zeros(0, np.int64), sizes, (), broken)
        run_with_progress(look, range(0, count, _CHUNK), count, "reading the data set once", _THREADS, timeout=timeout)
        if len(broken) == count:
            raise ValueError(f"root must have samples that can be read, got {self.name(0)}: {broken[0]}")
        some = next(label for label in labels if label is not None)
        found = [some if label is None else label for label in labels]  # of a broken one, which is never shown
        self.labels, self.classes = as_labels(found, _classes(dataset, found))
        good = next(i for i in range(count) if i not in broken)
        self._decoded = not isinstance(self._item(good)[0], bytes)

    @property
    def decoded(self) -> bool:  # type: ignore[override]  # of each data set
        """Whether its images are pixels."""
        return self._decoded

    def name(self, sample: int) -> str:
        """The number of a sample, and the data set's class."""
        return f"sample {sample} of {self.root}"

    def read(self, sample: int) -> Sample:
        """The image of an item. Raises ``BadFile`` where the data set raises an error."""
        return self._item(sample)[0]

    def _item(self, sample: int) -> tuple[Sample, Any]:
        try:
            with self._lock:
                item = self._dataset[sample]
        except Exception as error:  # it may raise whatever it likes
            if isinstance(error, OSError) and error.errno is not None:
                raise
            raise BadFile(f"cannot be read: {type(error).__name__}: {error}") from error
        if not isinstance(item, (tuple, list)) or len(item) < 2:
            raise TypeError(f"items of {self.root} must be (image, label), got {type(item).__name__}")
        return as_sample(item[0], f"items of {self.root}"), np.asarray(item[1]).tolist()


def _classes(dataset: Any, labels: list[Any]) -> Sequence[str] | None:
    """The data set's class names, where they are as many as its labels need."""
    names = getattr(dataset, "classes", None)
    if not isinstance(names, (list, tuple)) or not all(isinstance(label, int) for label in labels):
        return None
    return names if len(names) > max(labels) else None


def as_sample(image: Any, what: str) -> Sample:
    """An image of whatever kind as encoded bytes or pixels. Raises ``TypeError``."""
    if isinstance(image, (bytes, bytearray, memoryview)):
        return bytes(image)
    if hasattr(image, "convert"):  # Pillow's
        return np.asarray(image.convert("RGB"))
    if (
        type(image).__module__.split(".")[0] in ("torch", "torchvision")
        and image.ndim == 3
        and not image.is_floating_point()
    ):
        image = image.permute(1, 2, 0)
    pixels = np.asarray(image)
    if pixels.dtype != np.uint8:
        raise TypeError(
            f"{what} must begin with an image as Pillow's, uint8 pixels or encoded bytes, got {pixels.dtype} of shape "
            f"{pixels.shape}: is there a transform inside? The loader crops, augments and normalises"
        )
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = np.repeat(pixels, 3, 2)
    if pixels.ndim != 3 or pixels.shape[2] != 3:
        raise TypeError(f"{what} must begin with an image of one or three channels, got shape {pixels.shape}")
    return np.ascontiguousarray(pixels)
