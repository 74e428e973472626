"""A folder that holds the splits of a data set, such as imagenet with train/ and val/, where one of them was meant.

Taken as it is, it would be a data set of two or three classes named train, val and test, and training on it goes well.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

TRAINING, HELD_OUT = "train", ("val", "test", "valid", "validation")


def refuse_splits(root: Path, classes: Sequence[str]) -> None:
    """Raises ``ValueError`` if all sub-folders of ``root`` are named like splits and one has folders of its own."""
    if not {name.lower() for name in classes} <= {TRAINING, *HELD_OUT}:
        return
    split = next((name for name in sorted(classes, key=_training_first) if _has_folders(root / name)), None)
    if split is not None:
        raise ValueError(
            f"root must be the folder of one split, got {str(root)!r}, whose sub-folders are splits and no classes "
            f"({', '.join(classes)}); pass {str(root / split)!r}. `mixstage train` takes {str(root)!r} itself"
        )


def find_splits(root: Path) -> tuple[Path, Path]:
    """The folder of the training images and that of the held-out ones. Raises ``ValueError`` where one is missing."""
    held_out = next((root / name for name in HELD_OUT if (root / name).is_dir()), None)
    if not (root / TRAINING).is_dir() or held_out is None:
        raise ValueError(f"root must hold {TRAINING}/ and one of {', '.join(f'{name}/' for name in HELD_OUT)}, got {root}")
    return root / TRAINING, held_out


def _training_first(name: str) -> bool:
    return name.lower() != TRAINING


def _has_folders(folder: Path) -> bool:
    with os.scandir(folder) as entries:
        return any(entry.is_dir() for entry in entries)
