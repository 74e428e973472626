"""Data sets of the Hugging Face library ``datasets``: images are read as the bytes that they are stored as.

The library decodes an image with Pillow whenever a row is looked at, and looking at a row takes it longer than reading the
bytes; here they are taken out of its Arrow table, which it maps into memory.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .tables import LABELS, Table

_KINDS = (
    "arrow_dataset.Dataset", "dataset_dict.DatasetDict", "iterable_dataset.IterableDataset",
    "dataset_dict.IterableDatasetDict",
)  # fmt: skip


def is_hub_dataset(value: Any) -> bool:
    """Whether ``value`` is a data set of the library ``datasets``, or several splits of one."""
    kinds = {f"{kind.__module__}.{kind.__qualname__}" for kind in type(value).__mro__}
    return not kinds.isdisjoint(f"datasets.{name}" for name in _KINDS)


def from_hub(dataset: Any) -> Table:
    """The rows of a ``datasets.Dataset`` with an ``Image`` column and a label column.

    The label's column is the first ``ClassLabel``, else the first called "label" or alike; of a sequence of classes the
    labels are multi-label weights. Raises ``TypeError`` for splits, streams and data sets with a format or transform,
    ``ValueError`` where a column is missing.
    """
    kind = type(dataset).__name__
    if "Dict" in kind:
        raise TypeError(f"root must be one split, such as dataset[{next(iter(dataset), 'train')!r}], got a {kind}")
    if "Iterable" in kind:
        raise TypeError("root must be a Dataset, whose samples have numbers, got an IterableDataset (streaming=True)")
    if dataset.format["type"] is not None:
        raise TypeError(f"root must have no format or transform (with_format(None)), got {dataset.format['type']!r}")
    import datasets

    features = dataset.features
    image = next((name for name, feature in features.items() if isinstance(feature, datasets.Image)), None)
    if image is None:
        raise ValueError(f"root must have a column of the feature Image, got {', '.join(features)}")
    inner = {name: getattr(feature, "feature", feature) for name, feature in features.items()}
    named = [name for name in features if isinstance(inner[name], datasets.ClassLabel)]
    named += [name for name in LABELS if name in features]
    if not named:
        raise ValueError(f"root must have a ClassLabel column, or one called label, got {', '.join(features)}")
    table, order = dataset.data, dataset._indices  # of ``select`` and ``shuffle``: which rows there are
    rows = np.arange(len(table)) if order is None else order.column(0).to_numpy().astype(np.int64)
    what = f"the {dataset.split} split" if dataset.split else "a Dataset"
    return Table(table, (image, named[0]), getattr(inner[named[0]], "names", None), what, rows)
