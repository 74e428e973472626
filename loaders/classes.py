"""The classes of two data sets: labels are positions in a list of names, so that lists which differ shift the labels."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 5  # names of a message


def check_same_classes(train: Sequence[str], val: Sequence[str]) -> None:
    """Raises ``ValueError`` naming what ``val`` lacks or has besides, unless its classes are those of ``train`` in order."""
    if list(train) == list(val):
        return
    parts = []
    for what, names in (("lacks", set(train) - set(val)), ("has besides", set(val) - set(train))):
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            parts.append(f"{what} {', '.join(map(repr, sorted(names)[:_SHOWN]))}{more}")
    raise ValueError(f"val must have the classes of train, but it {' and '.join(parts) or 'has them in another order'}")
