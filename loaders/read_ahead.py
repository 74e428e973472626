"""Reads the samples of coming steps ahead of the backend, in order, with bad ones already replaced.

    plans of steps s, s+1, ...  ->  load(plan, row) for every row, in threads  ->  Loaded(s), Loaded(s+1), ...

``load`` is the backend's: for DALI it reads and checks bytes, for torchvision it decodes and crops as well. A ``load_many``
has got rows before it, many at once and in compiled code; ``load`` gets the others. Where it raises ``BadFile``, and the
policy replaces bad files, the step is drawn anew with that sample known to be bad, and only the rows that changed are loaded
again, so a step is the same whatever was known when it was first drawn.
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Generator
from concurrent.futures import Future, wait
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
from jaxtyping import Int64

from pipelines.bad_file import BadFile

from .backends.base import BackendConfig
from .daemon_pool import DaemonPool
from .printable import printable
from .sources.read_many import AT_ONCE
from .step import StepPlan

T = TypeVar("T")
Load = Callable[[StepPlan, int], T]
LoadMany = Callable[[StepPlan, list[int], Int64[np.ndarray, " one"]], list[T | None]]
"""What there is of rows, None for those that ``load`` must get; the array is told the position of the one waited for."""


@dataclass(frozen=True, eq=False)
class Loaded(Generic[T]):
    """A step whose samples are there: ``items[i]`` is what ``load`` made of row i of the plan."""

    plan: StepPlan
    items: list[T]


def read_steps(
    config: BackendConfig, epoch: int, step: int, load: Load[T], load_many: LoadMany[T] | None = None
) -> Generator[Loaded[T], None, None]:
    """The steps from ``step`` to the end of an epoch, ``config.prefetch`` of them being read while one is used.

    A generator; closing it ends its threads. What a step cannot be had for is raised in its turn: ``RuntimeError`` naming a
    bad file that the policy does not allow, ``TimeoutError`` naming the files that a read has been waiting for, and whatever
    else ``load`` raised.
    """
    steps = iter(range(step, len(config.planner.schedule_of(epoch))))
    pool = DaemonPool(config.num_threads, "mixstage-read")
    stopped = threading.Event()
    queue: deque[_Step[T]] = deque()
    stuck = False
    try:
        while True:
            while len(queue) <= config.prefetch and (coming := next(steps, None)) is not None:
                queue.append(_Step(config, pool, stopped, load, load_many, epoch, coming))
            if not queue:
                return
            yield queue.popleft().finish()
    except TimeoutError:
        stuck = True  # its thread cannot be ended, so do not wait for it
        raise
    finally:
        stopped.set()
        pool.shutdown(wait=not stuck)


class _Step(Generic[T]):
    """One step on its way: its rows are loaded by tasks of a pool, in as many slices as there are threads."""

    def __init__(
        self,
        config: BackendConfig,
        pool: DaemonPool,
        stopped: threading.Event,
        load: Load[T],
        load_many: LoadMany[T] | None,
        epoch: int,
        step: int,
    ) -> None:
        self._config, self._pool, self._stopped = config, pool, stopped
        self._load, self._load_many = load, load_many
        known = config.bad.known
        self._plan = config.planner.draw(epoch, step)
        if config.bad.replaces:
            with contextlib.suppress(RuntimeError):  # which is raised in this step's turn
                self._plan = config.planner.redraw(self._plan, known)
        self._items: list[T | None] = [None] * len(self._plan.ids)
        # rows that each slice is at, by its first row, and the position of the one that is waited for
        self._at: dict[int, tuple[list[int], Int64[np.ndarray, " one"]]] = {}
        self._futures = self._submit([row for row, sample in enumerate(self._plan.ids.tolist()) if sample not in known])

    def finish(self) -> Loaded[T]:
        """Wait for the rows and replace bad ones until there are none."""
        bad = self._config.bad
        while True:
            for future in self._wait():
                bad.known.update(future.result())
            bad.refuse(self._plan.ids.tolist())
            old, self._plan = self._plan, self._redrawn()
            bad.check_budget(self._plan.rejected)
            changed = np.flatnonzero(old.ids != self._plan.ids).tolist()
            if not changed:
                return Loaded(self._plan, [item for item in self._items if item is not None])
            self._futures = self._submit(changed)

    def _redrawn(self) -> StepPlan:
        try:
            return self._config.planner.redraw(self._plan, self._config.bad.known)
        except RuntimeError as error:
            raise RuntimeError(f"{error}: {self._config.bad.summary()}") from error

    def _wait(self) -> set[Future[dict[int, str]]]:
        done, waiting = wait(self._futures, self._config.timeout)
        if waiting:
            rows = [self._waited_for(self._futures[future]) for future in waiting]
            names = [printable(self._config.source.name(int(self._plan.ids[row]))) for row in rows]
            raise TimeoutError(
                f"waited {self._config.timeout:g} s for the files of epoch {self._plan.epoch}, step {self._plan.step}; "
                f"slow is {', '.join(sorted(names)[:3])}"
            )
        return done

    def _submit(self, rows: list[int]) -> dict[Future[dict[int, str]], int]:
        """Tasks that load ``rows``, each with its first row."""
        size = -(-len(rows) // self._config.num_threads)
        slices = [rows[i : i + size] for i in range(0, len(rows), size or 1)]
        return {self._pool.submit(self._load_rows, self._plan, part): part[0] for part in slices}

    def _waited_for(self, first: int) -> int:
        """The row that the slice is at that begins with row ``first``."""
        rows, at = self._at.get(first, ([first], np.zeros(1, np.int64)))
        return rows[int(at[0])]

    def _load_rows(self, plan: StepPlan, rows: list[int]) -> dict[int, str]:
        """Load rows in place; returns the samples that turned out bad, with reasons."""
        bad: dict[int, str] = {}
        for start in range(0, len(rows), AT_ONCE):
            part, at = rows[start : start + AT_ONCE], np.zeros(1, np.int64)
            self._at[rows[0]] = part, at
            if self._stopped.is_set():
                break
            if self._load_many is not None:
                for row, item in zip(part, self._load_many(plan, part, at), strict=True):
                    self._items[row] = item
                part = [row for row in part if self._items[row] is None]
            for i, row in enumerate(part):
                if self._stopped.is_set():
                    break
                self._at[rows[0]] = part, np.array([i])
                try:
                    self._items[row] = self._load(plan, row)
                except BadFile as reason:
                    bad[int(plan.ids[row])] = str(reason)
        return bad
