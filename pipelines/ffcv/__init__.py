"""Augmenting and mixing inside FFCV's own loader, its crop decoder, and the .beton file, reader and writer.

FFCV itself is imported on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .crop import PlannedCrop as PlannedCrop
    from .loader import MixLoader as MixLoader
    from .stages import AugmentImage as AugmentImage
    from .stages import MixImage as MixImage
    from .stages import MixLabel as MixLabel

__all__ = ["AugmentImage", "MixImage", "MixLabel", "MixLoader", "PlannedCrop"]
_PLACES = {
    "AugmentImage": "stages", "MixImage": "stages", "MixLabel": "stages", "MixLoader": "loader", "PlannedCrop": "crop",
}  # fmt: skip


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module(".dictionaries", __name__).keep_dictionaries()
    try:
        return getattr(importlib.import_module(f".{_PLACES[name]}", __name__), name)
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] != "ffcv":
            raise
        raise ImportError("pipelines.ffcv needs FFCV: pip install 'mixstage[ffcv]'") from error
