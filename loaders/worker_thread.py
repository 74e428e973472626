"""An iterator that runs in a thread of its own, a bounded number of items ahead.

Whoever takes items waits in one place only, with a timeout. The thread never outlives its ``WorkerThread``: ``close``,
garbage collection and the end of the interpreter stop it. The two sides share C queues and no lock of Python's, which an
interrupt (Ctrl-C) in the middle of taking it could leave locked.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Generator
from queue import Empty, SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_log = logging.getLogger("mixstage")
_all: weakref.WeakSet[WorkerThread[Any]] = weakref.WeakSet()


class WorkerThread(Generic[T]):
    """Runs ``items`` in a thread and keeps up to ``depth`` of them ready."""

    def __init__(self, items: Generator[T, None, None], depth: int, timeout: float) -> None:
        self._shared: _Shared[T] = _Shared(depth)
        self._timeout = timeout
        thread = threading.Thread(target=_run, args=(items, self._shared), name="mixstage-loader", daemon=True)
        self._stop = weakref.finalize(self, _stop, self._shared, thread, timeout)  # runs at exit, too
        _all.add(self)
        thread.start()

    def next(self, what: str) -> T:
        """The next item. Raises ``StopIteration`` at the end, what the iterator raised in its place among the items, and
        ``TimeoutError`` saying that it waited for ``what``.
        """
        if self._shared.stopped:
            raise StopIteration
        try:
            got = self._shared.ready.get(timeout=self._timeout)
        except Empty:
            raise TimeoutError(f"waited {self._timeout:g} s for {what}") from None
        if isinstance(got, _End):
            self._shared.ready.put(got)  # it stays the end
            if got.error is not None:
                raise got.error
            raise StopIteration
        self._shared.slots.put(None)
        return got

    @property
    def ready(self) -> int:
        """About how many items can be taken without waiting."""
        return self._shared.ready.qsize()

    def close(self) -> None:
        """Stop the thread, which closes the iterator."""
        self._stop()


def close_all() -> None:
    """Stop every thread that runs."""
    for one in list(_all):
        one.close()


class _End:
    """Comes after the last item."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class _Shared(Generic[T]):
    """What both sides know; the thread has no reference to the ``WorkerThread``, so that it can be collected."""

    def __init__(self, depth: int) -> None:
        self.ready: SimpleQueue[T | _End] = SimpleQueue()
        self.slots: SimpleQueue[None] = SimpleQueue()  # the thread takes one after each item, to go on
        self.stopped = False
        for _ in range(depth - 1):
            self.slots.put(None)


def _run(items: Generator[T, None, None], shared: _Shared[T]) -> None:
    end = _End(None)
    try:
        for item in items:
            if shared.stopped:
                break
            shared.ready.put(item)
            del item
            shared.slots.get()
            if shared.stopped:
                break
        items.close()
    except BaseException as error:  # handed to the other side
        end = _End(error)
    shared.ready.put(end)


def _stop(shared: _Shared[T], thread: threading.Thread, timeout: float) -> None:
    shared.stopped = True
    shared.slots.put(None)
    while not shared.ready.empty():
        shared.ready.get()
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(timeout)
        if thread.is_alive():
            _log.warning("the loader's thread has not ended in %g s: a read or the decoder hangs", timeout)
