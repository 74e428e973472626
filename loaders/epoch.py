"""One epoch of batches, made in a thread and handed to the training loop.

    backend (plan, read, decode, crop)  ->  output (mix, normalise, cast, targets)  |  ->  training loop
    --------------- thread "mixstage-loader", on the loader's own CUDA stream -----  |  its current stream

On CUDA no thread waits for the device: an event says when a batch is complete, the training loop's stream waits for it,
and ``record_stream`` keeps the memory until that stream is done with it.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import torch

from .backends.base import Backend, BackendConfig, Decoded
from .output import Batch, Output
from .stats import LoaderStats, Meter, log_epoch
from .worker_thread import WorkerThread

_HELD = 4  # decoded batches that wait for a device that is far behind


@dataclass(frozen=True, eq=False)
class _Ready:
    batch: Batch
    rejected: tuple[int, ...]
    complete: torch.cuda.Event | None


class Epoch:
    """Iterates over the steps ``step``, ``step + 1``, ... of an epoch.

    ``meter`` counts what was delivered; ``ended`` says that nothing more will be. The thread ends with the epoch: at its
    end, on any error, on ``close``, and when nothing refers to it any more, as after a ``break``.
    """

    def __init__(self, config: BackendConfig, backend: Backend, output: Output, epoch: int, step: int) -> None:
        self.meter = Meter(epoch, step)
        self._config, self._output = config, output
        self.ended = False
        weakref.finalize(self, self.meter.end)
        batches = _produce(config, backend, output, epoch, step)
        self._batches = WorkerThread(batches, depth=config.prefetch, timeout=config.timeout)

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> Any:
        began = time.perf_counter()
        try:
            with _range(self._config, "mixstage wait"):
                ready = self._batches.next(f"step {self.meter.step} of epoch {self.meter.epoch}")
            self._config.bad.deliver(ready.rejected)
        except StopIteration:
            if not self.ended:
                self.meter.complete = True
                self.close()
                log_epoch(self.stats())
            raise
        except BaseException:  # Ctrl-C, too: the traceback must not keep the thread alive
            self.close()
            raise
        if ready.complete is not None:
            stream = torch.cuda.current_stream(self._config.device)
            stream.wait_event(ready.complete)
            for tensor in ready.batch.tensors():
                tensor.record_stream(stream)
        outputs = sum(map(len, ready.batch.images))
        self.meter.took(len(ready.batch.ids), outputs, time.perf_counter() - began)
        return self._output.shown(ready.batch)

    def close(self) -> None:
        """End the thread; there are no more batches."""
        self.ended = True
        self.meter.end()
        self._batches.close()

    def stats(self) -> LoaderStats:
        """Figures of this epoch."""
        return self.meter.stats(self._batches.ready, len(self._config.bad.reported))


def _produce(
    config: BackendConfig, backend: Backend, output: Output, epoch: int, step: int
) -> Generator[_Ready, None, None]:
    """Runs in the thread."""
    held: deque[tuple[Decoded, torch.cuda.Event]] = deque()  # the decoder's memory goes back only after it was read
    with contextlib.ExitStack() as stack:
        if config.stream is not None:
            stack.enter_context(torch.cuda.device(config.device))
            stack.enter_context(torch.cuda.stream(config.stream))
        batches = stack.enter_context(contextlib.closing(backend.open(epoch, step)))
        stack.callback(_release, held, 0)
        for decoded in batches:  # after its last step a backend makes ready for the next epoch
            with _range(config, "mixstage mix"):
                batch = output.finish(decoded, config.planner, eager=backend.eager)
            complete = None
            if config.stream is not None:
                complete = torch.cuda.Event()
                complete.record(config.stream)
                held.append((decoded, complete))
                _release(held, _HELD)
            yield _Ready(batch, decoded.plan.rejected, complete)
            del batch, decoded


def _release(held: deque[tuple[Decoded, torch.cuda.Event]], most: int) -> None:
    """Drops the batches that were read, without waiting for more than is needed to keep ``most`` of them."""
    while held:
        read = held[0][1]
        if not read.query():
            if len(held) <= most:
                return
            read.synchronize()
        held.popleft()


def _range(config: BackendConfig, name: str) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if config.stream is None else torch.cuda.nvtx.range(name)
