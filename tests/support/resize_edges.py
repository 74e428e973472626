"""Resizes images that lie between pages that trap, and compares with Pillow; run by ``tests/pipelines/test_resize.py``.

A process of its own, since a read beyond an image ends it, and since the processor that numba compiles for is chosen by
``NUMBA_CPU_NAME`` when numba is imported. Prints "equal".
"""

from __future__ import annotations

import ctypes
import mmap
from typing import Any

import numpy as np
from PIL import Image

from pipelines.resize import pillow_order
from pipelines.resize_kernel import FILTERS, resized_crop

PAGE = mmap.PAGESIZE
_held: list[Any] = []


def between_traps(shape: tuple[int, ...], *, at_end: bool) -> np.ndarray:
    """Memory for bytes that begins behind a page that may not be touched, or ends before one."""
    size = int(np.prod(shape))
    pages = -(-size // PAGE) + 2
    memory = mmap.mmap(-1, pages * PAGE)
    _held.append(memory)
    block = np.frombuffer(memory, np.uint8)
    protect = ctypes.CDLL(None, use_errno=True).mprotect
    protect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for page in (0, pages - 1):
        if protect(block.ctypes.data + page * PAGE, PAGE, 0):
            raise OSError(ctypes.get_errno(), "mprotect")
    first = (pages - 1) * PAGE - size if at_end else PAGE
    return block[first : first + size].reshape(shape)


def main() -> None:
    """Every filter, small and large, narrow and flat, in both orders of the passes."""
    rng = np.random.default_rng(0)
    shapes = [(1, 1), (7, 5), (32, 32), (33, 31), (31, 33), (150, 97), (97, 150), (200, 32), (32, 200)]
    for shape in shapes:
        for size in [(1, 1), (5, 7), (32, 33), (64, 40), (120, 35)]:
            for at_end in (False, True):
                image, out = between_traps((*shape, 3), at_end=at_end), between_traps((*size, 3), at_end=at_end)
                image[:] = rng.integers(0, 2, image.shape) * 255
                for number in FILTERS.values():
                    window = np.array([0, 0, *shape], np.float64)
                    resized_crop(image, window, False, False, False, number, pillow_order(), out)
                    expected = Image.fromarray(image).resize(size[::-1], Image.Resampling(number))
                    np.testing.assert_array_equal(out, np.asarray(expected))


if __name__ == "__main__":
    main()
    print("equal")
