"""Data loaders in the place of torchvision's DataLoader: schedule, sources, resume, bad files.

Decides what is shown when and what becomes of errors; the pixels are worked on by ``pipelines`` and ``mixops``.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import mixstage  # noqa: F401  in a checkout it raises where a module of somebody else has the name of one of our packages

if TYPE_CHECKING:
    from .image_loader import ImageLoader as ImageLoader
    from .sizes import BatchSizes as BatchSizes
    from .sizes import Sizes as Sizes

__all__ = ["BatchSizes", "ImageLoader", "Sizes"]
_PLACES = {"BatchSizes": "sizes", "ImageLoader": "image_loader", "Sizes": "sizes"}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)  # on first use: a quick command line
