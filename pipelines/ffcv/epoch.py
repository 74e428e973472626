"""One epoch of an FFCV loader: the thread that runs its stages, and the iterator that the training loop sees.

FFCV's thread dies of an exception without a word and leaves the training loop waiting for ever; it runs on after a
``break``; ``next()`` after the end waits for ever too. Here whatever a stage raises is raised in the training loop at the
step it belongs to, and the thread ends with the iterator. The thread also knows what no stage can: epoch and step.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Iterator, Sequence
from queue import Empty
from typing import Any, Protocol

import numpy as np
import torch
from ffcv.loader.epoch_iterator import IS_CUDA, EpochIterator
from jaxtyping import Int64

from mixops.key import Key
from mixops.mixers.base import Mixer

from .batch import Batch, running
from .crop import PlannedCrop

_POLL = 1.0  # seconds between looks at whether the thread still lives


class PlannedLoader(Protocol):
    """What an epoch asks of its loader beside what FFCV's own epochs do."""

    fname: str
    batch_size: int
    mixer: Mixer | None
    crops: dict[int, PlannedCrop]

    def key(self, epoch: int, step: int) -> Key: ...

    def check_records(self, ids: Int64[np.ndarray, " b"]) -> None: ...

    def name(self, sample: int) -> str: ...

    def deliver(self, batch: Batch, outputs: tuple[Any, ...]) -> tuple[Any, ...]: ...


class EpochThread(EpochIterator):
    """FFCV's thread of an epoch, beginning at a step of it."""

    def __init__(self, loader: PlannedLoader, order: Sequence[int], epoch: int, step: int) -> None:
        self.epoch, self.step = epoch, step  # of the batch at hand
        self.first = step
        self.failure: BaseException | None = None
        self.closed: bool
        super().__init__(loader, order)  # starts the thread

    def run(self) -> None:
        try:
            if IS_CUDA:  # a new thread begins on the first device, whatever its maker's is
                torch.cuda.set_device(self.current_stream.device)
            super().run()
        except BaseException as error:  # also what is no Exception: somebody is waiting
            self.failure = error
            self.output_queue.put(None)

    def run_pipeline(self, b_ix: int, batch_indices: Any, batch_slot: int, cuda_event: Any) -> tuple[Batch, Any]:
        self.step = self.first + b_ix
        ids = np.asarray(batch_indices).astype(np.int64)
        self.loader.check_records(ids)
        if IS_CUDA:  # copies from this slot's pinned memory must be over before it is written to
            self.cuda_streams[batch_slot].synchronize()
        key = self.loader.key(self.epoch, self.step)
        memory = self.memory_allocations["operation"]
        rows = key.rank * self.loader.batch_size + np.arange(len(ids))  # of the global batch
        try:
            with running(Batch(ids, rows, key, self.loader.mixer)) as batch:
                for node, decoder in self.loader.crops.items():
                    decoder.plan(memory[node], batch_slot, Key(key.seed, key.epoch, key.step), rows, ids)
                outputs = super().run_pipeline(b_ix, batch_indices, batch_slot, cuda_event)
                for node, decoder in self.loader.crops.items():
                    if failed := decoder.failures(memory[node], batch_slot, ids):
                        raise RuntimeError(f"libffcv cannot decode {', '.join(map(self.loader.name, failed))}")
                return batch, outputs
        except StopIteration as error:  # FFCV would take it for the end of the epoch
            raise RuntimeError("a stage raised StopIteration") from error

    def take(self) -> tuple[Batch, tuple[Any, ...]] | None:
        """The next batch, None after the last. Raises ``RuntimeError`` from what a stage raised."""
        while True:
            try:
                item = self.output_queue.get(timeout=_POLL)
                break
            except Empty:
                if not self.is_alive() and self.output_queue.empty():
                    raise RuntimeError(f"the thread that loads {self.loader.fname} is gone") from None
        if item is None:
            if self.failure is not None:
                message = f"epoch {self.epoch}, step {self.step} of {self.loader.fname}: {self.failure}"
                raise RuntimeError(message) from self.failure
            return None
        slot, (batch, outputs) = item
        if IS_CUDA:
            stream = torch.cuda.current_stream()
            stream.wait_stream(self.cuda_streams[slot])
            for output in outputs:
                if isinstance(output, torch.Tensor) and output.is_cuda:
                    output.record_stream(stream)
        return batch, outputs

    def end(self) -> None:
        """Ends the thread after the batch that it is working on, and gives back what it held."""
        if self.closed:
            return
        self.terminate_event.set()
        self.iter_ixes = iter(())
        if threading.current_thread() is not self:  # a garbage collection may run anywhere
            while self.is_alive():
                while not self.output_queue.empty():  # it may be waiting to put something in
                    self.output_queue.get()
                self.join(0.005)
        self.close()
        self.closed = True
        executor = getattr(self.memory_context, "executor", None)  # the threads that read pages where os_cache=False
        for reader in executor.threads if executor else ():
            reader.join()


class Batches(Iterator[tuple[Any, ...]]):
    """The batches of an epoch. The thread behind them ends with the last batch, on ``close``, or with this object."""

    def __init__(self, loader: PlannedLoader, thread: EpochThread) -> None:
        self._loader, self._thread = loader, thread
        self.close = weakref.finalize(self, thread.end)

    def __next__(self) -> tuple[Any, ...]:
        if not self.close.alive:
            raise StopIteration
        try:
            taken = self._thread.take()
        except BaseException:
            self.close()
            raise
        if taken is None:
            self.close()
            raise StopIteration
        return self._loader.deliver(*taken)
