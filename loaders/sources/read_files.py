"""Opens, reads and checks files by the C library's functions, in compiled code.

    open  ->  length, by the end that seeking finds  ->  read by position  ->  close  ->  the markers of a JPEG

Errors are not told apart: whoever wants to know why a file was not read reads it again.
"""

from __future__ import annotations

import os

import numpy as np
from numba import types

from mixops.runtime.address import address
from mixops.runtime.jit import njit
from pipelines.jpeg_markers import find_plain

# nobody waits for the writer of a FIFO
_FLAGS = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NONBLOCK", 0)
_TO_THE_END = 2  # of lseek
_LARGEST = 1 << 31  # bytes of an image

# of the C library
_open = types.ExternalFunction("open", types.int32(types.intp, types.int32))
_seek = types.ExternalFunction("lseek", types.int64(types.int32, types.int64, types.int32))
_read = types.ExternalFunction("pread", types.int64(types.int32, types.intp, types.intp, types.int64))
_close = types.ExternalFunction("close", types.int32(types.int32))


@njit()
def read_files(prefix, names, files, offset, length, sizes, data, first, at):  # type: ignore[no-untyped-def]
    """Reads from the ``first`` on, one behind the other, until one does not fit into ``data``.

    Where each ends, whether it was read whole and is what it should be, and how many bytes the one wants that did not fit.
    """
    n, width = names.shape
    path = np.zeros(len(prefix) + width + 1, np.uint8)  # and the 0 at its end
    path[: len(prefix)] = prefix
    ends, found, end, wanted = np.zeros(n - first, np.int64), np.zeros(n - first, np.bool_), 0, 0
    done = 0
    for i in range(first, n):
        at[0] = i
        file = files[i]
        if file < 0:
            path[len(prefix) : len(prefix) + width] = names[i]
            file = _open(address(path), _FLAGS)
        if file >= 0:
            count, got, more = length[i] if length[i] >= 0 else _seek(file, 0, _TO_THE_END), 0, 1
            if 0 < count < _LARGEST:
                if end + count > len(data):
                    wanted = count
                while more > 0 and got < count and not wanted:
                    more = _read(file, address(data) + end + got, count - got, offset[i] + got)
                    got += more
            if files[i] < 0:
                _close(file)
            if wanted:
                break
            if got == count and got > 0:
                h, w = find_plain(data[end : end + count])
                found[i - first] = h > 0 and (sizes[i, 0] == 0 or (sizes[i, 0] == h and sizes[i, 1] == w))
                end += count
        ends[i - first] = end
        done += 1
    path[0] = 0  # kept until here
    return ends[:done], found[:done], wanted
