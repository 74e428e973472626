"""An iterator that runs in a thread of its own, a bounded number of items ahead.

Whoever takes items waits in one place only, with a timeout. The thread never outlives its ``Background``: ``close``,
garbage collection and the end of the interpreter stop it.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections import deque
from collections.abc import Generator
from typing import Generic, TypeVar

T = TypeVar("T")


class Background(Generic[T]):
    """Runs ``items`` in a thread and keeps up to ``depth`` of them ready."""

    def __init__(self, items: Generator[T, None, None], depth: int, timeout: float) -> None:
        self._shared: _Shared[T] = _Shared()
        self._timeout = timeout
        thread = threading.Thread(target=_run, args=(items, self._shared, depth), name="mixstage-loader", daemon=True)
        self._stop = weakref.finalize(self, _stop, self._shared, thread, timeout)  # runs at exit, too
        thread.start()

    def next(self, what: str) -> T:
        """The next item. Raises ``StopIteration`` at the end, what the iterator raised in its place among the items, and
        ``TimeoutError`` saying that it waited for ``what``.
        """
        shared = self._shared
        deadline = time.monotonic() + self._timeout
        with shared.changed:
            while not shared.ready:
                if shared.ended:
                    if shared.error is not None:
                        raise shared.error
                    raise StopIteration
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError(f"waited {self._timeout:g} s for {what}")
                shared.changed.wait(left)
            item = shared.ready.popleft()
            shared.changed.notify_all()
            return item

    @property
    def ready(self) -> int:
        """The number of items that can be taken without waiting."""
        return len(self._shared.ready)

    def close(self) -> None:
        """Stop the thread, which closes the iterator."""
        self._stop()


class _Shared(Generic[T]):
    """What both sides know; the thread has no reference to the ``Background``, so that it can be collected."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.ready: deque[T] = deque()
        self.stopped = False
        self.ended = False
        self.error: BaseException | None = None


def _run(items: Generator[T, None, None], shared: _Shared[T], depth: int) -> None:
    error: BaseException | None = None
    try:
        for item in items:
            with shared.changed:
                if shared.stopped:
                    break
                shared.ready.append(item)
                shared.changed.notify_all()
                del item
                while len(shared.ready) >= depth and not shared.stopped:
                    shared.changed.wait()
                if shared.stopped:
                    break
    except BaseException as raised:  # handed to the other side
        error = raised
    finally:
        items.close()
        with shared.changed:
            shared.error, shared.ended = error, True
            shared.changed.notify_all()


def _stop(shared: _Shared[T], thread: threading.Thread, timeout: float) -> None:
    with shared.changed:
        shared.stopped = True
        shared.ready.clear()
        shared.changed.notify_all()
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join(timeout)
