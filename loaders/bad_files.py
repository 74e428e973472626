"""What is known of bad files, and what happens when a batch that needed one is delivered.

Sources read ahead of the training loop, so they only note what they find. The policy acts when the step is delivered: the
first error, the warnings and the budget then come at the same step whatever the prefetch depth or the number of threads.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from typing import Literal

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

    def deliver(self, rejected: Iterable[int]) -> None:
        """Act on the bad samples of the step that is being delivered.

        Raises ``RuntimeError`` naming the file with ``on_error="raise"``, and with ``"skip"`` once more than ``max_bad``
        files have turned out bad; else logs a warning for each file that was not reported before.
        """
        for sample in rejected:
            name, reason = self._name(sample), self.known[sample]
            if self._on_error == "raise":
                raise RuntimeError(
                    f"{name}: {reason} (on_error='skip' goes on without such files; `mixstage check` lists them all)"
                )
            if sample in self.reported:
                continue
            self.reported[sample] = reason
            _log.warning("bad file %s: %s; another sample takes its place", name, reason)
            if len(self.reported) > self._max_bad:
                first = ", ".join(self._name(i) for i in list(self.reported)[:5])
                raise RuntimeError(
                    f"{len(self.reported)} files are bad, more than max_bad={self._max_bad}; the first are {first} "
                    "(`mixstage check` lists them all)"
                )
