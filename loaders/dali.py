"""The DALI backend: encoded bytes in, uint8 crops out.

    read and check bytes  ->  external_source  ->  decoders.image_slice  ->  resize  ->  flip  ->  uint8 HWC
      (threads of ours)                              (CPU, or mixed with device="cuda": the same graph)

A DALI pipeline ends with its first decode error, so it is disposable: (epoch, step) is all there is to know, a new one
continues where the old one failed, after a one-image pipeline has told which file it was. Bytes whose header cannot be
parsed never get that far, because DALI's CPU decoder can end the process on them. Its parsers of BMP and TIFF do so on
headers that are merely unusual, too many cases to check for: Pillow decodes these.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Iterator
from typing import Any

import numpy as np
from jaxtyping import Float64

from .backend import Job, RawBatch
from .crops import CenterCrop
from .headers import check_bytes
from .index import read_index
from .pillow import decode
from .source import Loaded, read_steps

_UNSAFE = (b"BM", b"II*\0", b"MM\0*")


class Dali:
    """Decodes, crops, resizes and flips in a DALI pipeline on the job's device."""

    eager = False
    read_index = staticmethod(read_index)

    def __init__(self, job: Job) -> None:
        self._job = job
        self._device = "cpu" if job.device.type == "cpu" else "mixed"
        self._idle: deque[_Pipeline] = deque()  # kept between epochs: building one allocates the decoder's buffers

    def open(self, epoch: int, step: int) -> Generator[RawBatch, None, None]:
        """The steps of an epoch from ``step`` on."""
        steps = len(self._job.recipe.schedule)
        while step < steps:
            reader = read_steps(self._job, epoch, step, self._load, self._job.prefetch)
            pipeline = self._idle.pop() if self._idle else _Pipeline(self._job, self._device)
            pipeline.start(reader)
            try:
                while step < steps:
                    yield pipeline.run()
                    step += 1
                pipeline.finish()
                self._idle.append(pipeline)
            except _DecodeError as error:
                self._note_culprits(error)
            finally:
                reader.close()

    def close(self) -> None:
        """Drop the pipelines."""
        self._idle.clear()

    def _load(self, sample: int, window: Float64[np.ndarray, " 4"], flip: bool) -> bytes:
        index = self._job.index
        data = index.read(sample)
        check_bytes(data, tuple(index.sizes[sample].tolist()))
        return _as_pnm(data) if data.startswith(_UNSAFE) else data

    def _note_culprits(self, error: _DecodeError) -> None:
        """Find what cannot be decoded among the images of the step that failed."""
        rows = _undecodable(self._job, self._device, error.batch.items)
        if not rows:
            raise error.reason  # something else is wrong: do not hide it
        for sample in error.batch.draw.ids[rows].tolist():
            self._job.bad.known[sample] = "DALI cannot decode it"


class _DecodeError(Exception):
    """A pipeline failed on a batch and cannot be used any more."""

    def __init__(self, batch: Loaded[bytes], reason: RuntimeError) -> None:
        self.batch, self.reason = batch, reason


class _Pipeline:
    """A DALI pipeline that takes its batches from a reader and gives them back decoded, in order."""

    def __init__(self, job: Job, device: str) -> None:
        self._job = job
        self._reader: Iterator[Loaded[bytes]]
        self._waiting: deque[Loaded[bytes]] = deque()  # fed, not yet come out
        self._error: BaseException | None = None
        self._whole = isinstance(job.recipe.crop, CenterCrop)
        self._pipe = _build(self._feed, job, device, self._whole)

    def start(self, reader: Iterator[Loaded[bytes]]) -> None:
        """Take batches from ``reader`` until it ends."""
        self._reader = reader

    def run(self) -> RawBatch:
        """The next batch. Raises ``_DecodeError``, or what the reader raised once all batches before it have come out."""
        import torch.utils.dlpack

        try:
            (images,) = self._pipe.run(self._job.stream)
        except StopIteration:
            if self._error is None:
                raise RuntimeError("the DALI pipeline ended before the epoch did") from None
            raise self._error from None
        except RuntimeError as error:
            if not self._waiting:
                raise
            raise _DecodeError(self._waiting[0], error) from error
        draw = self._waiting.popleft().draw
        return RawBatch(torch.utils.dlpack.from_dlpack(images.as_tensor()), draw.ids, draw.rejected)

    def finish(self) -> None:
        """Make ready for the next reader, once all batches have come out."""
        try:
            self._pipe.run()
        except StopIteration:
            self._pipe.reset()

    def _feed(self) -> tuple[Any, ...]:
        """The source of the pipeline: called as often as it wants to work ahead. Errors wait for their turn."""
        try:
            batch = next(self._reader)
        except StopIteration:
            raise
        except BaseException as error:
            self._error = error
            raise StopIteration from None
        self._waiting.append(batch)
        draw = batch.draw
        first, second = draw.windows[:, :2], draw.windows[:, 2:]
        if self._whole:
            first, second = first.astype(np.float32), (first + second).astype(np.float32)  # start, end
        else:
            first, second = first.astype(np.int32), second.astype(np.int32)  # start, shape
        return [np.frombuffer(data, np.uint8) for data in batch.items], first, second, draw.flips.astype(np.int32)


def _build(source: Any, job: Job, device: str, whole: bool) -> Any:
    """The graph; ``source`` gives bytes, windows and flips for a whole batch.

    A crop that is resized must not see pixels outside of it, as in torchvision; in validation the ``whole`` image is
    resized, and the filter reaches beyond the window.
    """
    from nvidia import dali
    from nvidia.dali import fn, types

    @dali.pipeline_def(
        batch_size=len(job.recipe.schedule.rows(0)),
        num_threads=job.num_threads,
        device_id=_device_id(job),
        prefetch_queue_depth=job.prefetch,
    )
    def graph() -> Any:
        data, first, second, flip = fn.external_source(source, num_outputs=4, batch=True)
        decode: dict[str, Any] = {"device": device, "adjust_orientation": False, "output_type": types.RGB}
        resize: dict[str, Any] = {"size": [job.height, job.width], "antialias": True}
        if whole:
            images = fn.resize(fn.decoders.image(data, **decode), roi_start=first, roi_end=second, **resize)
        else:
            images = fn.decoders.image_slice(data, start=first, shape=second, axis_names="HW", **decode)
            images = fn.resize(images, **resize)
        return fn.flip(images, horizontal=flip)

    pipe = graph()
    pipe.build()
    return pipe


def _as_pnm(data: bytes) -> bytes:
    """The image decoded, in the plainest format DALI knows."""
    image = decode(data)
    return b"P6 %d %d 255\n" % image.size + image.tobytes()


def _undecodable(job: Job, device: str, items: list[bytes]) -> list[int]:
    """The positions of the images that DALI does not decode, tried one by one in a pipeline of their own."""
    from nvidia import dali
    from nvidia.dali import fn

    @dali.pipeline_def(
        batch_size=1, num_threads=1, device_id=_device_id(job), prefetch_queue_depth=1, exec_pipelined=False,
        exec_async=False,
    )  # fmt: skip
    def graph() -> Any:
        return fn.decoders.image(fn.external_source(name="data"), device=device, adjust_orientation=False)

    bad = []
    pipe = None
    for i, data in enumerate(items):
        if pipe is None:
            pipe = graph()
            pipe.build()
        pipe.feed_input("data", [np.frombuffer(data, np.uint8)])
        if not _runs(pipe):
            bad.append(i)
            pipe = None
    return bad


def _runs(pipe: Any) -> bool:
    try:
        pipe.run()
    except RuntimeError:
        return False
    return True


def _device_id(job: Job) -> int | None:
    return job.device.index if job.device.type == "cuda" else None
