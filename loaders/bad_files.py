"""What is known of bad files, and what happens when a batch that needed one is delivered.

Backends read ahead of the training loop, so they only note what they find. The policy acts in the turn of the step: the
first error, the warnings and the budget then come at the same step whatever the prefetch depth or the number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from typing import Literal

from .printable import printable

_log = logging.getLogger("mixstage")

OnError = Literal["raise", "skip"]


class BadFiles:
    """Bad samples by id, shared by the threads of a loader, and the policy for them.

    ``known`` maps ids to reasons and may be added to from any thread. ``name`` gives the file of an id.
    """

    def __init__(self, name: Callable[[int], str], on_error: OnError = "raise", max_bad: int = 100) -> None:
        if on_error not in ("raise", "skip"):
            raise ValueError(f"on_error must be 'raise' or 'skip', got {on_error!r}")
        if max_bad < 0:
            raise ValueError(f"max_bad must be at least 0, got {max_bad}")
        self.known: dict[int, str] = {}
        self.reported: dict[int, str] = {}
        self._name, self._on_error, self._max_bad = name, on_error, max_bad

    @property
    def replaces(self) -> bool:
        """Whether other samples take the place of bad ones."""
        return self._on_error == "skip"

    def refuse(self, samples: Iterable[int]) -> None:
        """Raises ``RuntimeError`` naming the first of the samples of a step that is bad, with ``on_error="raise"``."""
        first = None if self.replaces else next((sample for sample in samples if sample in self.known), None)
        if first is not None:
            raise RuntimeError(
                f"{self._described(first)} (on_error='skip' goes on without such files; `mixstage check` lists them all)"
            )

    def check_budget(self, rejected: Collection[int]) -> None:
        """Raises ``RuntimeError`` if one step alone has more bad samples than are allowed: others need not be tried."""
        if len(rejected) > self._max_bad:
            raise self._too_many(rejected)

    def deliver(self, rejected: Iterable[int]) -> None:
        """Act on the bad samples that were replaced in the step that is being delivered.

        Logs a warning for each file that was not reported before, and raises ``RuntimeError`` once more than ``max_bad``
        files have turned out bad.
        """
        for sample in rejected:
            if sample in self.reported:
                continue
            self.reported[sample] = self.known[sample]
            _log.warning("bad file %s; another sample takes its place", self._described(sample))
            if len(self.reported) > self._max_bad:
                raise self._too_many(self.reported)

    def summary(self) -> str:
        """How many samples are bad, and the first of them with its reason."""
        return f"{len(self.known)} files are bad, {self._described(min(self.known))}"

    def _too_many(self, samples: Collection[int]) -> RuntimeError:
        first = ", ".join(printable(self._name(sample)) for sample in list(samples)[:5])
        return RuntimeError(
            f"{len(samples)} files are bad, more than max_bad={self._max_bad}; the first are {first} "
            f"({self.known[next(iter(samples))]}; `mixstage check` lists them all)"
        )

    def _described(self, sample: int) -> str:
        return f"{printable(self._name(sample))}: {self.known[sample]}"
