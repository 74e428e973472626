"""What becomes of DALI's pipelines in a process that was forked while they run: nothing.

Their threads are not in the child, and DALI's exit hook, which shuts all pipelines down, ends a child by SIGSEGV for that.
So the child forgets the pipelines it knows, and leaves their memory, most of which it shares with its parent, to its end.
"""

from __future__ import annotations

import ctypes
import os
import weakref
from functools import cache
from typing import Any

_pipelines: weakref.WeakSet[Any] = weakref.WeakSet()


def forget_after_fork(pipeline: Any) -> None:
    """Makes a built ``nvidia.dali.Pipeline`` harmless in children."""
    _register()
    _pipelines.add(pipeline)


@cache
def _register() -> None:
    os.register_at_fork(after_in_child=_forget)


def _forget() -> None:
    from nvidia.dali import Pipeline

    for pipeline in list(_pipelines):
        native = pipeline._pipe
        if native is not None:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(native))  # its destructor waits for threads that are not there
        pipeline._pipe = None
        Pipeline._pipes.discard(weakref.ref(pipeline))
