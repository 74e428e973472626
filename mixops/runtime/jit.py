"""numba's ``njit`` for our kernels: no threads of its own, compiled code kept in the user's cache.

numba's threading layers abort on concurrent callers (workqueue) or after a fork (OpenMP), so kernels are serial, release
the GIL, and are sliced over Python threads (``threads.py``). The cache lies in the user's cache directory, unless
NUMBA_CACHE_DIR says otherwise: an installed package should not write beside itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numba

F = TypeVar("F", bound=Callable[..., Any])
# for functions that compiled code alone calls: what Python would call them by need not be compiled
INNER = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}


def cache_dir() -> str:
    """Where compiled kernels are kept."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return os.environ.get("NUMBA_CACHE_DIR") or str(Path(base) / "mixstage" / "numba")


def njit(**options: Any) -> Callable[[F], F]:
    """``numba.njit`` with ``nogil``, NumPy's division and the cache above; ``options`` are numba's."""

    def decorate(function: F) -> F:
        before = numba.config.CACHE_DIR
        numba.config.CACHE_DIR = cache_dir()  # read when a function is decorated, and only then
        try:
            return numba.njit(nogil=True, cache=True, error_model="numpy", **options)(function)
        finally:
            numba.config.CACHE_DIR = before

    return decorate
