"""The FFCV backend: reads .beton files and has them decoded by libffcv and resized with Pillow's arithmetic.

It runs the file format and the decoder of FFCV but not its ``Loader``: rows are read by position, checked, decoded and
resized by threads of this process. FFCV's loader compiles its pipeline anew in every process, delivers memory that it
overwrites later, cannot start in the middle of an epoch, and maps the file, so that a file that shrinks ends the process.
``pipelines.ffcv`` is for people who keep FFCV's loader.
"""

from __future__ import annotations

from collections.abc import Generator
from os import PathLike
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from pipelines.ffcv.beton import IMAGE, INT, Beton
from pipelines.ffcv.decode import RecordDecoder

from ..read_ahead import read_steps
from ..sources.folder import Index
from ..step import StepPlan
from .base import BackendConfig, Decoded


class Ffcv:
    """Decodes and crops the records of a .beton file on the CPU."""

    eager = False

    def __init__(self, config: BackendConfig) -> None:
        self._config = config
        self._beton = Beton(config.index.root)
        self._decode = RecordDecoder(self._beton)

    @staticmethod
    def read_index(root: str | PathLike[str]) -> Index:
        """The samples of a .beton file, with the names and classes that ``mixstage convert`` keeps in it, else numbers."""
        if not Path(root).is_file():
            raise ValueError(f"root must be a .beton file for backend='ffcv', got {str(root)!r}, which is none")
        beton = Beton(root)
        try:
            return index_beton(beton)
        finally:
            beton.close()

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        import torch

        for loaded in read_steps(self._config, epoch, step, self._load):
            self._beton.check_length()
            yield Decoded(torch.from_numpy(np.stack(loaded.items)), loaded.plan)

    def close(self) -> None:
        """Closes the file."""
        self._beton.close()

    def _load(self, plan: StepPlan, row: int) -> UInt8[np.ndarray, "h w 3"]:
        return self._decode(int(plan.ids[row]), plan.crops, plan.augment, row)


def index_beton(beton: Beton) -> Index:
    """The index of an open .beton file: its first image field and its first integer field, which holds the labels."""
    images = beton.images(beton.first(IMAGE))
    labels = beton.column(beton.first(INT)).astype(np.int64)
    if not len(labels):
        raise ValueError(f"{beton.path} has no samples")
    if labels.min() < 0:
        raise ValueError(f"{beton.path} must have labels of at least 0, got {labels.min()}")
    classes = beton.annotations.classes or tuple(str(i) for i in range(int(labels.max()) + 1))
    if labels.max() >= len(classes):
        raise ValueError(f"{beton.path} must have labels below its {len(classes)} classes, got {labels.max()}")
    names = beton.annotations.names or tuple(f"sample {i}" for i in range(len(labels)))
    sizes = np.stack([images.height, images.width], 1)
    empty = np.flatnonzero((images.size == 0) | (sizes.min(1) == 0)).tolist()
    broken = dict.fromkeys(empty, "its metadata point to no record of the file")
    files = np.array([name.encode("utf-8", "surrogateescape") for name in names])
    return Index(str(beton.path.absolute()), files, labels, sizes, classes, broken)
