"""Where samples come from: files and containers of files, arrays, and the data sets of other libraries.

A source knows names, labels and sizes, and reads one sample at a time. Order, crops and policies belong elsewhere.
"""

from __future__ import annotations

from .arrays import Arrays
from .arrow import arrow_files, parquet_files
from .base import Opened, Source
from .beton import BetonFile
from .files import Files
from .folder import Folder
from .label_maps import LabelMaps
from .lmdb_files import Lmdb
from .recordio import RecordFiles
from .registry import open_source
from .tar import TarShards
from .tfrecord import TfRecords
from .zips import ZipFiles

__all__ = [
    "Arrays",
    "BetonFile",
    "Files",
    "Folder",
    "LabelMaps",
    "Lmdb",
    "Opened",
    "RecordFiles",
    "Source",
    "TarShards",
    "TfRecords",
    "ZipFiles",
    "arrow_files",
    "open_source",
    "parquet_files",
]
