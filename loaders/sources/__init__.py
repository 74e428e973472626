"""Where samples come from: folders, tar shards, .beton files.

A source knows names, labels and sizes, and reads one sample at a time. Order, crops and policies belong elsewhere.
"""

from __future__ import annotations

from .base import Source
from .folder import Folder
from .registry import open_source

__all__ = ["Folder", "Source", "open_source"]
