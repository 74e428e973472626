"""Encoded images in, uint8 crops out: the graph that decodes for the loader.

    external_source  ->  decoders.image_slice  ->  resize  ->  flip  ->  uint8 HWC
     (bytes, plan)      (on the CPU, or "mixed")   (by DALI on CUDA; on the CPU by ``crop_rows``)

On CUDA resize and flip are DALI's, whose pixels differ from Pillow's by its rounding; margins and augmentation are not to be
had there.

DALI works ahead: it asks for batches long before they come out, in order. A pipeline ends with its first decode error, so it
is disposable, and ``undecodable`` finds with pipelines of single images which of a batch it was.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from jaxtyping import Int32, UInt8

from mixops.augment.crop_plan import CropPlan
from mixops.augment.plan import AugmentPlan

from ..crop_rows import already_cut, crop_rows
from .fork import forget_after_fork

_ALL = 7  # inputs of a graph that resizes and flips, too


@dataclass(frozen=True, eq=False)
class EncodedBatch:
    """Images as DALI is given them, what becomes of them, and ``origin``, by which the caller knows them again.

    ``more`` are further crops of the same images, on the CPU and by pipelines of ``spill``; of each plan there may be a
    multiple of the images' rows, the first crop of every image, then the second.
    """

    images: Sequence[bytes | UInt8[np.ndarray, " bytes"]]
    crops: CropPlan
    augment: AugmentPlan | None
    origin: Any
    more: Sequence[tuple[CropPlan, AugmentPlan | None]] = ()


class DecodeError(Exception):
    """A pipeline failed on a batch and cannot be used any more."""

    def __init__(self, batch: EncodedBatch, reason: RuntimeError) -> None:
        self.batch, self.reason = batch, reason


@dataclass(frozen=True)
class DecodeOptions:
    """What a pipeline is built for: up to ``batch_size`` images, decoded on the CPU or, with ``device_id``, on a GPU.

    ``spill`` is that of all crops; with it images are decoded whole. ``prefetch`` batches are worked on ahead. ``decoder``
    are more arguments of DALI's decoder, such as ``hw_decoder_load``.
    """

    batch_size: int
    spill: bool
    num_threads: int
    prefetch: int
    device_id: int | None = None
    decoder: Mapping[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> str:
        """Where DALI's decoder runs."""
        return "cpu" if self.device_id is None else "mixed"


class DecodePipeline:
    """A DALI pipeline that takes its batches from an iterator and gives them back decoded, in order."""

    def __init__(self, options: DecodeOptions) -> None:
        self._on_cpu, self._spill = options.device == "cpu", options.spill
        inputs = (1 if self._spill else 3) if self._on_cpu else _ALL
        self._source = _Source(inputs, self._spill)
        self._pipe = _build(self._source, inputs, options)

    def start(self, batches: Iterator[EncodedBatch]) -> None:
        """Take batches from ``batches`` until it ends."""
        self._source.batches = batches

    def run(self, stream: torch.cuda.Stream | None = None) -> tuple[list[torch.Tensor], Any]:
        """The next batch as uint8 (b, h, w, 3) for each of its plans, ready on ``stream`` if on a GPU, and its origin.

        Raises ``DecodeError``, or what the iterator raised once all batches before it have come out.
        """
        import torch.utils.dlpack

        waiting = self._source.waiting
        try:
            (images,) = self._pipe.run(stream)
        except StopIteration:
            if self._source.error is None:
                raise RuntimeError("the DALI pipeline ended before the epoch did") from None
            raise self._source.error from None
        except RuntimeError as error:
            if not waiting:
                raise
            raise DecodeError(waiting[0], error) from error
        batch = waiting.popleft()
        if not self._on_cpu:
            return [torch.utils.dlpack.from_dlpack(images.as_tensor())], batch.origin
        decoded = [images.at(i) for i in range(len(images))]
        plans = [(batch.crops if self._spill else already_cut(batch.crops), batch.augment), *batch.more]
        cropped = [crop_rows(decoded * (len(crops.flips) // len(decoded)), crops, augment) for crops, augment in plans]
        return [torch.from_numpy(pixels) for pixels in cropped], batch.origin

    def finish(self) -> None:
        """Make ready for the next iterator, once all batches have come out."""
        try:
            self._pipe.run()
        except StopIteration:
            self._pipe.reset()
        self._source.batches = iter(())


class _Source:
    """What a pipeline takes its batches from. It has no reference to the pipeline, which ends when it is dropped."""

    def __init__(self, inputs: int, spill: bool) -> None:
        self.batches: Iterator[EncodedBatch] = iter(())
        self.waiting: deque[EncodedBatch] = deque()  # fed, not yet come out
        self.error: BaseException | None = None
        self._inputs, self._spill = inputs, spill

    def __call__(self) -> tuple[Any, ...]:
        """A batch for the pipeline, as often as it wants to work ahead. Errors wait for their turn."""
        try:
            batch = next(self.batches)
        except StopIteration:
            raise
        except BaseException as error:
            self.error = error
            raise StopIteration from None
        self.waiting.append(batch)
        windows = batch.crops.windows
        first, second = windows[:, :2], windows[:, 2:]
        if self._spill:
            first, second = first.astype(np.float32), (first + second).astype(np.float32)  # start, end
        else:
            first, second = first.astype(np.int32), second.astype(np.int32)  # start, shape
        data: list[UInt8[np.ndarray, " n"]] = [np.frombuffer(image, np.uint8) for image in batch.images]
        crops = batch.crops
        flips, vertical = crops.flips.astype(np.int32), crops.vertical_flips.astype(np.int32)
        sizes = np.tile(np.array(crops.size, np.float32), (len(data), 1))
        return (data, first, second, flips, vertical, sizes, _interpolation_numbers(crops))[: self._inputs]


def _interpolation_numbers(crops: CropPlan) -> Int32[np.ndarray, " b"]:
    """DALI's numbers of the filters."""
    from nvidia.dali.types import DALIInterpType as Kind

    names = {
        "nearest": Kind.INTERP_NN, "bilinear": Kind.INTERP_LINEAR, "bicubic": Kind.INTERP_CUBIC,
        "lanczos": Kind.INTERP_LANCZOS3,
    }  # fmt: skip
    return np.array([int(names[name]) for name in crops.interpolations], np.int32)


def _build(source: Any, inputs: int, options: DecodeOptions) -> Any:
    from nvidia import dali

    pipe = dali.Pipeline(
        batch_size=options.batch_size,
        num_threads=options.num_threads,
        device_id=options.device_id,
        prefetch_queue_depth=options.prefetch + 1,  # threads that are done with a batch early have another to go on with
    )
    with pipe:
        pipe.set_outputs(_graph(source, inputs, options))
    pipe.build()
    forget_after_fork(pipe)
    return pipe


def _graph(source: Any, inputs: int, options: DecodeOptions) -> Any:
    """Images from ``source``, which gives bytes, and windows, flips and sizes where they are needed, for a whole batch.

    A crop that is resized must not see pixels outside of it, as in torchvision; where crops spill the whole image is
    resized, and the filter reaches beyond the window.
    """
    from nvidia.dali import fn, types

    decode: dict[str, Any] = {"device": options.device, "adjust_orientation": False, "output_type": types.RGB}
    decode |= options.decoder
    data, *rest = fn.external_source(source, num_outputs=inputs, batch=True)
    if options.spill:
        images = fn.decoders.image(data, **decode)
    else:
        images = fn.decoders.image_slice(data, start=rest[0], shape=rest[1], axis_names="HW", **decode)
    return images if inputs < _ALL else _finished(images, rest, options.spill)


def _finished(images: Any, rest: Sequence[Any], spill: bool) -> Any:
    """Decoded images resized and flipped, each by its own filter."""
    from nvidia.dali import fn, types

    roi = {"roi_start": rest[0], "roi_end": rest[1]} if spill else {}
    kind = fn.reinterpret(rest[5], dtype=types.INTERP_TYPE)
    resized = fn.resize(images, size=rest[4], antialias=True, interp_type=kind, **roi)
    return fn.flip(resized, horizontal=rest[2], vertical=rest[3])


def undecodable(images: Sequence[bytes | UInt8[np.ndarray, " bytes"]], device_id: int | None) -> list[int]:
    """The positions of the images that DALI does not decode, tried one by one in a pipeline of their own."""
    from nvidia import dali
    from nvidia.dali import fn

    @dali.pipeline_def(
        batch_size=1, num_threads=1, device_id=device_id, prefetch_queue_depth=1, exec_pipelined=False, exec_async=False
    )
    def graph() -> Any:
        device = "cpu" if device_id is None else "mixed"
        return fn.decoders.image(fn.external_source(name="data"), device=device, adjust_orientation=False)

    bad = []
    pipe = None
    for i, data in enumerate(images):
        if pipe is None:
            pipe = graph()
            pipe.build()
            forget_after_fork(pipe)
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
