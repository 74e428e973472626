"""Reads the samples of coming steps ahead of the backend, in order, with bad ones already replaced.

    draws of steps s, s+1, ...  ->  load(sample, window, flip) for every row, in threads  ->  Loaded(s), Loaded(s+1), ...

``load`` is the backend's: for DALI it reads and checks bytes, for torchvision it decodes and crops as well. Where it raises
``BadFile`` the step is drawn anew with that sample known to be bad, and only the rows that changed are loaded again, so a
step is the same whatever was known when it was first drawn.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Float64

from .backends.base import Job
from .bad_files import BadFile
from .step import Draw

T = TypeVar("T")
Load = Callable[[int, Float64[np.ndarray, " 4"], bool], T]


@dataclass(frozen=True, eq=False)
class Loaded(Generic[T]):
    """A step whose samples are there: ``items[i]`` is what ``load`` made of row i of the draw."""

    step: int
    draw: Draw
    items: list[T]


def read_steps(job: Job, epoch: int, step: int, load: Load[T], ahead: int) -> Generator[Loaded[T], None, None]:
    """The steps from ``step`` to the end of an epoch, ``ahead`` of them being read while one is used.

    A generator; closing it ends its threads. Raises ``TimeoutError`` naming the files that a read has been waiting for.
    """
    steps = iter(range(step, len(job.recipe.schedule)))
    pool = ThreadPoolExecutor(job.num_threads, thread_name_prefix="mixstage-read")
    stopped = threading.Event()
    queue: deque[_Step[T]] = deque()
    stuck = False
    try:
        while True:
            while len(queue) <= ahead and (coming := next(steps, None)) is not None:
                queue.append(_Step(job, pool, stopped, load, epoch, coming))
            if not queue:
                return
            yield queue.popleft().finish()
    except TimeoutError:
        stuck = True  # its thread cannot be ended, so do not wait for it
        raise
    finally:
        stopped.set()
        pool.shutdown(wait=not stuck, cancel_futures=True)


class _Step(Generic[T]):
    """One step on its way: its rows are loaded by tasks of a pool, in as many slices as there are threads."""

    def __init__(
        self, job: Job, pool: ThreadPoolExecutor, stopped: threading.Event, load: Load[T], epoch: int, step: int
    ) -> None:
        self._job, self._pool, self._stopped, self._load = job, pool, stopped, load
        self._epoch, self._step = epoch, step
        self._draw = job.recipe.draw(epoch, step, job.bad.known)
        self._items: list[T | None] = [None] * len(self._draw.ids)
        self._futures = self._submit(list(range(len(self._items))))

    def finish(self) -> Loaded[T]:
        """Wait for the rows and replace bad ones until there are none."""
        while True:
            done, waiting = wait(self._futures, self._job.timeout)
            if waiting:
                names = [self._job.index.name(int(self._draw.ids[self._futures[f]])) for f in waiting]
                raise TimeoutError(
                    f"waited {self._job.timeout:g} s for the files of epoch {self._epoch}, step {self._step}; "
                    f"slow is {', '.join(sorted(names)[:3])} or one after it"
                )
            for future in done:
                self._job.bad.known.update(future.result())
            old, self._draw = self._draw, self._job.recipe.draw(self._epoch, self._step, self._job.bad.known)
            changed = np.flatnonzero(old.ids != self._draw.ids).tolist()
            if not changed:
                return Loaded(self._step, self._draw, [item for item in self._items if item is not None])
            self._futures = self._submit(changed)

    def _submit(self, rows: list[int]) -> dict[Future[dict[int, str]], int]:
        """Tasks that load ``rows``, each with its first row."""
        size = -(-len(rows) // self._job.num_threads)
        slices = [rows[i : i + size] for i in range(0, len(rows), size)]
        return {self._pool.submit(self._load_rows, self._draw, part): part[0] for part in slices}

    def _load_rows(self, draw: Draw, rows: list[int]) -> dict[int, str]:
        """Load rows in place; returns the samples that turned out bad, with reasons."""
        bad: dict[int, str] = {}
        for i in rows:
            if self._stopped.is_set():
                break
            sample = int(draw.ids[i])
            try:
                self._items[i] = self._load(sample, draw.windows[i], bool(draw.flips[i]))
            except BadFile as reason:
                bad[sample] = str(reason)
        return bad
