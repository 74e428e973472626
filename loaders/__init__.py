"""Data loaders in the place of torchvision's DataLoader: schedule, sources, resume, bad files.

Decides what is shown when and what becomes of errors; the pixels are worked on by ``pipelines`` and ``mixops``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .image_loader import ImageLoader as ImageLoader

__all__ = ["ImageLoader"]


def __getattr__(name: str) -> Any:
    if name == "ImageLoader":  # on first use, so that the command line starts quickly
        from .image_loader import ImageLoader

        return ImageLoader
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
