"""The DALI backend: encoded bytes in, uint8 crops out.

    read and check bytes  ->  external_source  ->  decoders.image_slice  ->  resize  ->  flip  ->  uint8 HWC
      (threads of ours)           (DALI: on the CPU, or "mixed")           (DALI on CUDA; on the CPU ``resize_rows``)

A DALI pipeline ends with its first decode error, so it is disposable: (epoch, step) is all there is to know, a new one
continues where the old one failed, after a one-image pipeline has told which file it was. Bytes whose header cannot be
parsed never get that far, because DALI's CPU decoder can end the process on them. Its parsers of BMP and TIFF do so on
headers that are merely unusual, too many cases to check for: Pillow decodes these.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Generator, Iterator
from functools import cache
from typing import Any

import numpy as np
from jaxtyping import Float64, UInt8

from mixops.augment.crops import CenterCrop

from ..read_ahead import Loaded, read_steps
from ..sources.folder import read_index
from ..sources.headers import check_bytes
from ..sources.pillow_decode import decode
from ..step import Draw
from ..worker_thread import close_all
from .base import Job, RawBatch
from .resize_rows import resize_rows

_UNSAFE = (b"BM", b"II*\0", b"MM\0*")


class Dali:
    """Decodes and crops in a DALI pipeline on the job's device; resizes and flips there, too, unless that is the CPU."""

    eager = False
    read_index = staticmethod(read_index)

    def __init__(self, job: Job) -> None:
        _end_threads_before_dali()
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


class _Source:
    """What a pipeline takes its batches from. It has no reference to the pipeline, which ends when it is dropped."""

    def __init__(self, inputs: int, whole: bool) -> None:
        self.reader: Iterator[Loaded[bytes]] = iter(())
        self.waiting: deque[Loaded[bytes]] = deque()  # fed, not yet come out
        self.error: BaseException | None = None
        self._inputs, self._whole = inputs, whole

    def __call__(self) -> tuple[Any, ...]:
        """A batch for the pipeline, as often as it wants to work ahead. Errors wait for their turn."""
        try:
            batch = next(self.reader)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise StopIteration from None
        self.waiting.append(batch)
        draw = batch.draw
        first, second = draw.windows[:, :2], draw.windows[:, 2:]
        if self._whole:
            first, second = first.astype(np.float32), (first + second).astype(np.float32)  # start, end
        else:
            first, second = first.astype(np.int32), second.astype(np.int32)  # start, shape
        data = [np.frombuffer(data, np.uint8) for data in batch.items]
        return (data, first, second, draw.flips.astype(np.int32))[: self._inputs]


class _Pipeline:
    """A DALI pipeline that takes its batches from a reader and gives them back decoded, in order."""

    def __init__(self, job: Job, device: str) -> None:
        self._whole = isinstance(job.recipe.crop, CenterCrop)
        self._stream, self._size, self._resizes = job.stream, (job.height, job.width), device == "mixed"
        inputs = 4 if self._resizes else 1 if self._whole else 3
        self._source = _Source(inputs, self._whole)
        self._pipe = _build(self._source, inputs, job, device, self._whole)

    def start(self, reader: Iterator[Loaded[bytes]]) -> None:
        """Take batches from ``reader`` until it ends."""
        self._source.reader = reader

    def run(self) -> RawBatch:
        """The next batch. Raises ``_DecodeError``, or what the reader raised once all batches before it have come out."""
        import torch.utils.dlpack

        waiting = self._source.waiting
        try:
            (images,) = self._pipe.run(self._stream)
        except StopIteration:
            if self._source.error is None:
                raise RuntimeError("the DALI pipeline ended before the epoch did") from None
            raise self._source.error from None
        except RuntimeError as error:
            if not waiting:
                raise
            raise _DecodeError(waiting[0], error) from error
        draw = waiting.popleft().draw
        if self._resizes:
            pixels = torch.utils.dlpack.from_dlpack(images.as_tensor())
        else:
            pixels = torch.from_numpy(self._resize([images.at(i) for i in range(len(images))], draw))
        return RawBatch(pixels, draw.ids, draw.rejected)

    def _resize(self, images: list[UInt8[np.ndarray, "h w 3"]], draw: Draw) -> UInt8[np.ndarray, "b oh ow 3"]:
        """Whole images, or crops already, to the size of the output."""
        windows = draw.windows
        if not self._whole:
            windows = np.concatenate([np.zeros_like(windows[:, :2]), windows[:, 2:]], 1)
        return resize_rows(images, windows, draw.flips, self._size, spill=self._whole)

    def finish(self) -> None:
        """Make ready for the next reader, once all batches have come out."""
        try:
            self._pipe.run()
        except StopIteration:
            self._pipe.reset()
        self._source.reader = iter(())


def _build(source: Any, inputs: int, job: Job, device: str, whole: bool) -> Any:
    from nvidia import dali

    pipe = dali.Pipeline(
        batch_size=len(job.recipe.schedule.rows(0)),
        num_threads=job.num_threads,
        device_id=_device_id(job),
        prefetch_queue_depth=job.prefetch + 1,  # threads that are done with a batch early have another to go on with
    )
    with pipe:
        pipe.set_outputs(_graph(source, inputs, (job.height, job.width), device, whole))
    pipe.build()
    return pipe


def _graph(source: Any, inputs: int, size: tuple[int, int], device: str, whole: bool) -> Any:
    """Images from ``source``, which gives bytes, and windows and flips where they are needed, for a whole batch.

    A crop that is resized must not see pixels outside of it, as in torchvision; in validation the ``whole`` image is
    resized, and the filter reaches beyond the window.
    """
    from nvidia.dali import fn, types

    decode: dict[str, Any] = {"device": device, "adjust_orientation": False, "output_type": types.RGB}
    resize: dict[str, Any] = {"size": list(size), "antialias": True}
    data, *rest = fn.external_source(source, num_outputs=inputs, batch=True)
    if whole:
        images = fn.decoders.image(data, **decode)
    else:
        images = fn.decoders.image_slice(data, start=rest[0], shape=rest[1], axis_names="HW", **decode)
    if device == "cpu":
        return images
    roi = {"roi_start": rest[0], "roi_end": rest[1]} if whole else {}
    return fn.flip(fn.resize(images, **roi, **resize), horizontal=rest[2])


@cache
def _end_threads_before_dali() -> None:
    """At exit DALI insists that no pipeline is left, and our threads hold some. Exit hooks run in reverse order."""
    import nvidia.dali.pipeline  # noqa: F401

    atexit.register(close_all)


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
