"""The decoder of the FFCV backend: libffcv's pixels, and nothing kept for threads that have ended."""

from __future__ import annotations

import ctypes
import gc
import threading
from types import SimpleNamespace

import numpy as np
import pytest
from support.images import encoded, picture

pytest.importorskip("ffcv", reason="ffcv is not installed")

from pipelines.ffcv.decode import Decompressor, RecordDecoder, turbojpeg


def test_it_decodes_as_libffcv_does() -> None:
    record, library = encoded(picture(3, 90, 61)), turbojpeg()
    ours, theirs = np.empty((61, 90, 3), np.uint8), np.empty((61, 90, 3), np.uint8)
    size, flag = ctypes.c_uint32, ctypes.c_bool
    library.imdecode.argtypes = [
        ctypes.c_char_p, ctypes.c_uint64, size, size, ctypes.c_void_p, *[size] * 6, flag, flag,
    ]  # fmt: skip
    whole = (61, 90, 0, 0, 1, 1, False, False)
    assert library.imdecode(record, len(record), 61, 90, theirs.ctypes.data, *whole) == 0
    assert Decompressor(library)(record, 61, 90, ours) == 0
    np.testing.assert_array_equal(ours, theirs)
    assert Decompressor(library)(record[: len(record) // 3], 61, 90, ours) != 0


def test_a_thread_that_ends_gives_its_decompressor_back(monkeypatch: pytest.MonkeyPatch) -> None:
    made, ended = [], []

    def make() -> int:
        made.append(len(made) + 1)
        return made[-1]

    fake = SimpleNamespace(tjInitDecompress=make, tjDestroy=ended.append, tjDecompress2=lambda *_: 0)
    decoder = RecordDecoder(np.array([[4, 4]]))
    monkeypatch.setattr(decoder, "_library", fake)
    for _ in range(5):
        thread = threading.Thread(target=decoder._decompressor)
        thread.start()
        thread.join()
    gc.collect()
    assert made == [1, 2, 3, 4, 5] and sorted(ended) == made
