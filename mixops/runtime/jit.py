"""numba's ``njit`` for our kernels: no threads of its own, compiled code kept in the user's cache.

numba's threading layers abort on concurrent callers (workqueue) or after a fork (OpenMP), so kernels are serial, release
the GIL, and are sliced over Python threads (``threads.py``). The cache lies in the user's cache folder, unless
NUMBA_CACHE_DIR says otherwise: an installed package should not write beside itself. Where no folder can be written to, which
numba makes an error, kernels are compiled in every process. numba compiles anew what stands in a file that has changed, but
not what calls it from another file: so code is kept by a digest of all sources that are compiled.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from hashlib import blake2b
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


@contextmanager
def kept(name: str) -> Iterator[bool]:
    """Within it, what is told to be kept goes to the folder ``name`` of the kernels' own; yields whether there is one."""
    before, folder = numba.config.CACHE_DIR, kernel_folder()
    numba.config.CACHE_DIR = "" if folder is None else str(Path(folder) / name)  # read when a function is decorated only
    try:
        yield folder is not None
    finally:
        numba.config.CACHE_DIR = before


def njit(**options: Any) -> Callable[[F], F]:
    """``numba.njit`` with ``nogil``, NumPy's division and the cache above; ``options`` are numba's."""

    def decorate(function: F) -> F:
        of = _sources(Path(__file__).parents[1]) + _sources(_package(Path(function.__code__.co_filename)))
        with kept(of) as can:
            return numba.njit(nogil=True, cache=can, error_model="numpy", **options)(function)

    return decorate


def _package(path: Path) -> Path | None:
    """The folder of the outermost package that a module belongs to."""
    inside = [folder for folder in path.parents if (folder / "__init__.py").exists()]
    return inside[-1] if inside else None


@cache
def _sources(package: Path | None) -> str:
    """A digest of the modules of a package that numba compiles, or that write what it compiles."""
    digest = blake2b(digest_size=8)
    for path in [] if package is None else sorted(package.rglob("*.py")):
        source = path.read_bytes()
        if b"njit" in source or b"from numba" in source:
            digest.update(source)
    return digest.hexdigest()
