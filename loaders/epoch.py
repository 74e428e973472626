"""One epoch of batches, made in a thread and handed to the training loop.

    plan  ->  backend (decode, crop)  ->  one fused kernel (mix, normalise, cast)  ->  targets  |  ->  training loop
    --------------------- thread "mixstage-loader", on the loader's own CUDA stream ----------  |  its current stream

A plan is drawn before its batch is waited for, while the backend's threads decode; a matching has to see the images first.

On CUDA no thread waits for the device: an event says when a batch is complete, the training loop's stream waits for it,
and ``record_stream`` keeps the memory until that stream is done with it.
"""

from __future__ import annotations

import contextlib
import time
import weakref
from collections import deque
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from .backends.base import Backend, Job, RawBatch
from .stats import LoaderStats, Meter, log_epoch
from .worker_thread import Background

Finish = Callable[[RawBatch], tuple[Tensor, Tensor]]
Prepare = Callable[[int, int], Finish]  # of (epoch, step): draws what can be drawn before the batch is there
_HELD = 4  # decoded batches that wait for a device that is far behind


@dataclass(frozen=True, eq=False)
class _Batch:
    images: Tensor
    targets: Tensor
    rejected: tuple[int, ...]
    complete: torch.cuda.Event | None


class Epoch:
    """Iterates over the steps ``step``, ``step + 1``, ... of an epoch.

    ``meter`` counts what was delivered. The thread ends with the epoch: at its end, on any error, on ``close``, and when
    nothing refers to it any more, as after a ``break``.
    """

    def __init__(self, job: Job, backend: Backend, prepare: Prepare, epoch: int, step: int) -> None:
        self.meter = Meter(epoch, step)
        self._job = job
        weakref.finalize(self, self.meter.end)
        batches = _produce(job, backend, prepare, epoch, step)
        self._batches = Background(batches, depth=job.prefetch, timeout=job.timeout)

    def __iter__(self) -> Epoch:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        began = time.perf_counter()
        try:
            with _range(self._job, "mixstage wait"):
                batch = self._batches.next(f"step {self.meter.step} of epoch {self.meter.epoch}")
            self._job.bad.deliver(batch.rejected)
        except StopIteration:
            self.meter.complete = True
            self.close()
            log_epoch(self.stats())
            raise
        except BaseException:  # Ctrl-C, too: the traceback must not keep the thread alive
            self.close()
            raise
        if batch.complete is not None:
            stream = torch.cuda.current_stream(self._job.device)
            stream.wait_event(batch.complete)
            batch.images.record_stream(stream)
            batch.targets.record_stream(stream)
        self.meter.took(len(batch.images), time.perf_counter() - began)
        return batch.images, batch.targets

    def close(self) -> None:
        """End the thread; there are no more batches."""
        self.meter.end()
        self._batches.close()

    def stats(self) -> LoaderStats:
        """Figures of this epoch."""
        return self.meter.stats(self._batches.ready, len(self._job.bad.reported))


def _produce(job: Job, backend: Backend, prepare: Prepare, epoch: int, step: int) -> Generator[_Batch, None, None]:
    """Runs in the thread."""
    held: deque[tuple[RawBatch, torch.cuda.Event]] = deque()  # the decoder's memory goes back only after it was read
    with contextlib.ExitStack() as stack:
        if job.stream is not None:
            stack.enter_context(torch.cuda.device(job.device))
            stack.enter_context(torch.cuda.stream(job.stream))
        raws = stack.enter_context(contextlib.closing(backend.open(epoch, step)))
        stack.callback(_release, held, 0)
        for coming in range(step, len(job.recipe.schedule)):
            finish = prepare(epoch, coming)
            raw = next(raws)
            with _range(job, "mixstage mix"):
                images, targets = finish(raw)
            complete = None
            if job.stream is not None:
                complete = torch.cuda.Event()
                complete.record(job.stream)
                held.append((raw, complete))
                _release(held, _HELD)
            yield _Batch(images, targets, raw.rejected, complete)
            del images, targets
        next(raws, None)  # after its last step a backend makes ready for the next epoch


def _release(held: deque[tuple[RawBatch, torch.cuda.Event]], most: int) -> None:
    """Drops the batches that were read, without waiting for more than is needed to keep ``most`` of them."""
    while held:
        read = held[0][1]
        if not read.query():
            if len(held) <= most:
                return
            read.synchronize()
        held.popleft()


def _range(job: Job, name: str) -> contextlib.AbstractContextManager[Any]:
    return contextlib.nullcontext() if job.stream is None else torch.cuda.nvtx.range(name)
