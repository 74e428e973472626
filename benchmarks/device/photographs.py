"""Photographs for a data set of any length: those that are there, again and again under new names.

The names are hard links, so that 25,000 images take the room of a few; the decoder cannot know that it saw one before. All
of them stay in the page cache, so a disk plays no part.
"""

from __future__ import annotations

import os
import shutil
import tarfile
from itertools import cycle, islice
from pathlib import Path

from loaders.bench.photos import write_photos
from loaders.sources.registry import open_source

_ENDINGS = (".jpg", ".jpeg", ".png")


def repeated(images: Path | None, count: int, scratch: Path, synthetic: int) -> Path:
    """A folder of class folders with ``count`` photographs in ``scratch``; ``images`` itself where it has as many.

    ``images`` is a folder of class folders or a tar file of one; without it ``synthetic`` pictures are drawn, which cost a
    decoder what photographs do. Raises ``ValueError`` where it holds no image.
    """
    if images is not None and images.is_dir() and len(open_source(images)) >= count:
        return images
    folder = scratch / f"{count}"
    if folder.exists():
        return folder
    originals = scratch / "originals"
    if not originals.exists():
        _gather(images, originals, synthetic)
    found = sorted(path for path in originals.glob("*/*") if path.suffix.lower() in _ENDINGS)
    if not found:
        raise ValueError(f"images must hold class folders of photographs, got none in {images}")
    part = folder.with_suffix(".part")
    for i, path in enumerate(islice(cycle(found), count)):
        link = part / path.parent.name / f"{i:06d}_{path.name}"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.link(path, link)
    return part.rename(folder)


def _gather(images: Path | None, to: Path, synthetic: int) -> None:
    """The photographs in class folders under ``to``, on the file system that the links will be on."""
    if images is None:
        write_photos(to, synthetic)
    elif images.is_dir():
        shutil.copytree(images, to, copy_function=_link)
    else:
        with tarfile.open(images) as tar:
            tar.extractall(to, filter="data")


def _link(path: str, to: str) -> None:
    try:
        os.link(path, to)
    except OSError:  # another file system
        shutil.copyfile(path, to)
