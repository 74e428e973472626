"""WebDataset tar shards as a data set: samples are read out of the middle of the tars, in any order.

A sample is ``key.jpg`` beside ``key.cls``, its class number as text, or ``key.json``, which has its label somewhere
(https://github.com/webdataset/webdataset); names that begin with a dot are passed over, as there. In a tar of an image
folder the folder of an image is its class. The tars are walked once (``packed.py``), and afterwards opened only for reading
images.
"""

from __future__ import annotations

import logging
import os
import tarfile
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO

import numpy as np

from pipelines.bad_file import BadFile

from ..printable import printable
from .base import MOST_CLASSES
from .folder import EXTENSIONS
from .headers import Size
from .packed import Contents, Packed, class_folder, json_label, size_or_none
from .progress import TIMEOUT, Turn
from .storage import open_regular

_log = logging.getLogger("mixstage")
_LONGEST_LABEL = 32  # bytes
_AFTER = 1 << 20  # bytes that are looked at behind the end mark


class TarShards(Packed):
    """The images of tar shards; ``files`` are "shard.tar/key.jpg".

    ``pattern`` names the shards: "train-{0000..1023}.tar", "train-*.tar", one tar, or addresses such as
    "s3://bucket/train-{0000..1023}.tar". ``label`` says where the label is: by default in ``.cls``, else under "label" in
    ``.json``, else it is the image's folder; text is another key of ``.json``, and a function is given what is in ``.json``
    and returns a class number, a class name or weights (the tars are then walked at every start). ``classes`` are names, by
    default "0", "1", ... up to the largest label. ``cache`` is the folder for the index, as for image folders. Raises
    ``ValueError`` for shards that are missing, are no plain tars, were cut off, or hold an image without a class, and
    ``TimeoutError`` naming a shard that does not answer for ``timeout`` seconds.
    """

    def __init__(
        self,
        pattern: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        *,
        label: str | Callable[[Any], Any] | None = None,
        classes: Sequence[str] | None = None,
        cache: str | os.PathLike[str] | None = None,
        timeout: float = TIMEOUT,
    ) -> None:
        super().__init__(
            pattern, lambda path, name, turn: _scan(path, name, turn, label), what="plain tar files",
            broken_shard=(tarfile.TarError,), options=None if callable(label) else f"tar {label}",
            classes=classes, cache=cache, timeout=timeout,
        )  # fmt: skip


def _scan(path: str, name: str, turn: Turn, label: str | Callable[[Any], Any] | None = None) -> Contents:
    images: dict[str, tuple[bytes, tuple[int, int], Size]] = {}
    labels: dict[str, Any] = {}
    texts: dict[str, Any] = {}  # from JSON, where there is no class number
    with open(path, "rb", buffering=0, opener=open_regular) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        while (member := tar.next()) is not None:
            turn(path)
            tar.members = []  # type: ignore[attr-defined]  # else a tar of a million members is kept in memory
            folder, _, base = member.name.rpartition("/")
            stem, _, ending = base.partition(".")
            key, ending, place = f"{folder}/{stem}", "." + ending.lower(), (member.offset_data, member.size)
            if member.size < 0 or member.issparse():
                raise BadFile(f"its member {printable(member.name)} is none that can be read")
            if base.startswith("."):  # as macOS puts beside every file
                continue
            if not member.isreg():
                if ending.endswith(EXTENSIONS):
                    _log.warning("%s: %s is a link and passed over", printable(path), printable(member.name))
                continue
            if ending == ".cls" and label is None:
                text = os.pread(file.fileno(), min(member.size, _LONGEST_LABEL), member.offset_data)
                labels[key] = _label(path, member.name, text)
            elif ending == ".json":
                texts[key] = place
            elif ending.endswith(EXTENSIONS):
                if key in images:
                    raise ValueError(f"root must have one image a key, got two of {stem!r} in {path}")
                images[key] = os.fsencode(f"{name}/{member.name}"), place, _size(tar, member)
        _check_end(file, tar.offset)  # type: ignore[attr-defined]
        if not labels:
            labels = _other_labels(file, images, texts, label)
    if missing := images.keys() - labels.keys():
        raise ValueError(f"root must have a .cls file for every image, got none for {min(missing)!r} in {path}")
    rows = images.values()
    return Contents(
        files=np.array([row[0] for row in rows], "S"),
        labels=np.array([labels[key] for key in images]) if images else np.zeros(0, np.int64),
        sizes=np.array([row[2] for row in rows], np.int64).reshape(-1, 2),
        places=np.array([row[1] for row in rows], np.int64).reshape(-1, 2),
    )


def _other_labels(
    file: BinaryIO, images: dict[str, Any], texts: dict[str, Any], label: str | Callable[[Any], Any] | None
) -> dict[str, Any]:
    """Labels by key of a shard that has no class numbers: out of JSON, or the folders of the images."""
    if texts.keys() & images.keys() or label is not None:
        found = {}
        for key in images.keys() & texts.keys():
            offset, length = texts[key]
            try:
                found[key] = json_label(os.pread(file.fileno(), length, offset), label or "label")
            except BadFile as reason:
                raise BadFile(f"{printable(key)}.json {reason}") from reason
        return found
    folders = {key: class_folder(key) for key in images}
    return {key: folder for key, folder in folders.items() if folder is not None}


def _check_end(file: BinaryIO, offset: int) -> None:
    """Raises ``BadFile`` unless zeros are what follows ``offset``: tarfile takes whatever is no header for the end."""
    rest = os.pread(file.fileno(), _AFTER, offset)
    if len(rest) < tarfile.BLOCKSIZE:
        raise BadFile(f"it was cut off: there is no end mark at byte {offset}")
    if any(rest[: tarfile.BLOCKSIZE]):
        raise BadFile(f"the header of the member at byte {offset} is damaged")
    if rest.strip(b"\0"):
        raise BadFile(f"there are data behind its end mark at byte {offset}; are these several tars in one?")


def _label(path: str, name: str, text: bytes) -> int:
    if text.strip().isdigit() and len(text) < _LONGEST_LABEL and int(text) < MOST_CLASSES:
        return int(text)
    raise ValueError(
        f"root must have class numbers below {MOST_CLASSES} as text in .cls files, "
        f"got {text[:20]!r} in {printable(name)} of {path}"
    )


def _size(tar: tarfile.TarFile, member: tarfile.TarInfo) -> Size:
    """(height, width), 0 where there is none."""
    return size_or_none(tar.extractfile(member))  # type: ignore[arg-type]  # it is a regular member, and read in parts
