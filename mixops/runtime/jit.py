"""numba's ``njit`` for our kernels: no threads of its own, compiled code kept in the user's cache.

numba's threading layers abort on concurrent callers (workqueue) or after a fork (OpenMP), so kernels are serial, release
the GIL, and are sliced over Python threads (``threads.py``). The cache lies in the user's cache folder, unless
NUMBA_CACHE_DIR says otherwise: an installed package should not write beside itself. Where no folder can be written to, which
numba makes an error, kernels are compiled in every process.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

from .cache_folder import cache_folder, can_write

F = TypeVar("F", bound=Callable[..., Any])
# for functions that compiled code alone calls: what Python would call them by need not be compiled
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def kernel_folder() -> str | None:
    """Where compiled kernels are kept, ``None`` where they cannot be."""
    given = os.environ.get("NUMBA_CACHE_DIR")
    if given and can_write(Path(given)):
        return given
    folder = cache_folder()
    return None if folder is None else str(folder / "numba")


def njit(**options: Any) -> Callable[[F], F]:
    """``numba.njit`` with ``nogil``, NumPy's division and the cache above; ``options`` are numba's."""

    def decorate(function: F) -> F:
        before, folder = numba.config.CACHE_DIR, kernel_folder()
        numba.config.CACHE_DIR = folder or ""  # read when a function is decorated, and only then
        try:
            return numba.njit(nogil=True, cache=folder is not None, error_model="numpy", **options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate
