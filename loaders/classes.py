"""Classes: labels are positions in a list of names, so that lists of two data sets which differ shift the labels."""

from __future__ import annotations

from collections.abc import Sequence

from .sources.base import Source

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


class NamedClasses:
    """What an ``ImageFolder`` says of its classes, for whatever has a ``dataset``."""

    dataset: Source

    @property
    def classes(self) -> list[str]:
        """Class names in the order of their labels, as ``ImageFolder``'s."""
        return list(self.dataset.classes)

    @property
    def class_to_idx(self) -> dict[str, int]:
        """Labels by class name, as ``ImageFolder``'s."""
        return {name: i for i, name in enumerate(self.dataset.classes)}

    @property
    def num_classes(self) -> int:
        """The width of mixed targets."""
        return len(self.dataset.classes)
