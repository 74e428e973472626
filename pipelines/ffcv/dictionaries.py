"""numba's typed dictionaries, compiled once for all processes: ``import ffcv`` makes one.

FFCV fills a ``numba.typed.Dict`` when it is imported, and numba compiles what a dictionary is made of in every process anew:
6 of the 7 seconds that the import takes. numba can keep these functions and is only not told to; where they are kept, the
import takes under a second. It has to be said before FFCV is imported.
"""

from __future__ import annotations

from functools import cache

from numba.core.dispatcher import Dispatcher
from numba.typed import typeddict

from mixops.runtime.jit import kept


@cache  # once: each name that is taken from the package asks for it
def keep_dictionaries() -> None:
    """Have numba keep the compiled functions of its typed dictionaries where our kernels are kept."""
    with kept("numba") as can:
        for function in vars(typeddict).values():
            if can and isinstance(function, Dispatcher):
                function.enable_caching()
