"""How FFCV uses numba, put right in two places.

FFCV compiles every stage anew in every process (13 s for decode, crop and flip on two cores); numba can keep most of that
code on disk, but FFCV does not ask it to.

FFCV makes a type of read-only arrays by writing ``mutable = False`` into the type object of byte arrays, of which numba has
one for the whole process. Its hash changes, and every function that was compiled for byte arrays, FFCV's or not, raises
``KeyError`` when numba next looks through its versions: when another version is compiled, or when it is freed. Importing
this module replaces the two methods concerned and makes that type what it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numba
import numpy as np
from ffcv.memory_managers.os_cache import OSCacheManager
from ffcv.pipeline.compiler import Compiler
from numba.core.dispatcher import Dispatcher

from mixops.runtime.jit import njit

_BYTES = numba.types.Array(numba.uint8, 1, "C", readonly=True)
_TABLE = numba.uint64[::1]
_STATE = numba.types.Tuple([_BYTES, _TABLE, _TABLE])


def _read(address: int, state: tuple[np.ndarray, np.ndarray, np.ndarray]) -> np.ndarray:
    """The record that begins at an address: ``state`` is the file's bytes, and pointers and sizes of its records."""
    size = state[2][np.searchsorted(state[1], address)]
    return state[0][address : address + size]


def _compile_reader(manager: OSCacheManager) -> Any:
    return Compiler.compile(_read, _BYTES(numba.uint64, _STATE))


OSCacheManager.state_type = property(lambda manager: _STATE)
OSCacheManager.compile_reader = _compile_reader
numba.uint8[::1].mutable = True  # in case a loader was made before


@contextmanager
def compiled_code_kept() -> Iterator[None]:
    """While this lasts, what FFCV compiles of its own stages is kept on disk for the next process."""
    plain = Compiler.__dict__["compile"]

    def compile_and_keep(cls: type[Compiler], code: Callable[..., Any], signature: Any = None) -> Any:
        if not cls.is_enabled or not _can_be_kept(code):
            return plain.__get__(None, cls)(code, signature)
        parallel = getattr(code, "is_parallel", False) and cls.num_threads > 1
        return njit(signature_or_function=signature, fastmath=True, parallel=parallel)(code)

    Compiler.compile = classmethod(compile_and_keep)
    try:
        yield
    finally:
        Compiler.compile = plain


def _can_be_kept(code: Callable[..., Any]) -> bool:
    """Only FFCV's own code and ours: numba looks at one file's date and would miss changes in what a user's stage calls.

    Code with C pointers cannot be kept, and code that closes over other compiled code would be kept once a process.
    """
    if code is not _read and (not code.__module__.startswith("ffcv.") or code.__module__ == "ffcv.libffcv"):
        return False
    return not any(isinstance(cell.cell_contents, Dispatcher) for cell in code.__closure__ or ())
