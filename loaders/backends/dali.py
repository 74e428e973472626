"""The DALI backend: reads and checks bytes in threads of ours, decodes them in a pipeline of DALI's.

A DALI pipeline ends with its first decode error, so it is disposable: (epoch, step) is all there is to know, a new one
continues where the old one failed, after one-image pipelines have told which file it was. Bytes whose header cannot be
parsed never get that far, because DALI's CPU decoder can end the process on them: it is given plain JPEG only, and what
Pillow makes of everything else. A file is bad or not whoever looks at it, so Pillow also has the last word on files that
DALI does not decode.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Generator
from functools import cache
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int64, UInt8

from pipelines.dali.decode import DecodeError, DecodeOptions, DecodePipeline, EncodedBatch, undecodable

from ..read_ahead import Loaded, read_steps
from ..sources.plain import read_pixels, read_plain
from ..sources.read_many import Buffers, HasPlaces, read_many
from ..step import StepPlan
from ..worker_thread import close_all
from .base import BackendConfig, Decoded
from .decoded import cropped_steps
from .rows import Pixels, crop_batch, map_of, with_augmentation

_Item: TypeAlias = tuple["bytes | UInt8[np.ndarray, ' bytes']", "Pixels | None"]  # an encoded image and its label map


class Dali:
    """Decodes and crops in a DALI pipeline on the config's device; resizes and flips there, too, unless that is the CPU.

    Crops with margins, several crops of an image, and pixels that need no decoder, are made on the CPU whatever the device
    is.
    """

    eager = False
    scales = False

    def __init__(self, config: BackendConfig) -> None:
        _end_threads_before_dali()
        self._config = config
        planner = config.planner
        plain = planner.crop.padding_mode is None and (planner.augmentation is None or config.augments_on_device)
        on_gpu = config.device.type == "cuda" and plain and not planner.named
        self._options = DecodeOptions(
            batch_size=planner.most_rows,
            spill=planner.crop.spill or bool(planner.named),
            num_threads=config.num_threads,
            prefetch=config.prefetch,
            device_id=config.device.index if on_gpu else None,
        )
        self._places = config.source.places if isinstance(config.source, HasPlaces) else None  # not of label maps
        self._buffers = Buffers()
        self._not_for_dali: set[int] = set()  # samples that it failed on
        self._idle: deque[DecodePipeline] = deque()  # kept between epochs: building one allocates the decoder's buffers

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        config = self._config
        if config.source.decoded:
            yield from cropped_steps(config, epoch, step)
            return
        steps = len(config.planner.schedule_of(epoch))
        while step < steps:
            reader = read_steps(config, epoch, step, self._load, None if self._places is None else self._load_many)
            pipeline = self._idle.pop() if self._idle else DecodePipeline(self._options)
            pipeline.start(self._encoded(loaded) for loaded in reader)
            try:
                while step < steps:
                    batches, loaded = pipeline.run(config.stream)
                    yield self._with_maps(batches, loaded)
                    step += 1
                pipeline.finish()
                self._idle.append(pipeline)
            except DecodeError as error:
                self._note_culprits(error.batch.origin, error.reason)
            finally:
                reader.close()

    def close(self) -> None:
        """Drop the pipelines."""
        self._idle.clear()

    def _encoded(self, loaded: Loaded[_Item]) -> EncodedBatch:
        left = self._config.augments_on_device
        images = [one for one in loaded.plan.shown if one.of == "image"]
        (crops, augment), *more = [(one.crops, None if left else one.augment) for one in images]
        return EncodedBatch([data for data, _ in loaded.items], crops, augment, loaded, more)

    def _load_many(self, plan: StepPlan, rows: list[int], at: Int64[np.ndarray, " one"]) -> list[_Item | None]:
        assert self._places is not None
        ids = plan.ids[rows]
        if (places := self._places(ids)) is None:
            return [None] * len(rows)
        images = read_many(places, self._config.source.sizes[ids], self._buffers, at)
        return [
            None if data is None or sample in self._not_for_dali else (data, None)
            for sample, data in zip(ids.tolist(), images, strict=True)
        ]

    def _load(self, plan: StepPlan, row: int) -> _Item:
        sample = int(plan.ids[row])
        read = read_pixels if sample in self._not_for_dali else read_plain
        data = read(self._config.source, sample)
        return data if isinstance(data, bytes) else _as_pnm(data), map_of(self._config.source, sample)

    def _with_maps(self, images: list[torch.Tensor], loaded: Loaded[_Item]) -> Decoded:
        """The batches that DALI decoded, and those of label maps, where there are any."""
        augmented, maps = not self._config.augments_on_device, [label_map for _, label_map in loaded.items]
        shown = [one for one in loaded.plan.shown if one.of == "map"]
        batches = images + [crop_batch([], maps, one, augmented=augmented) for one in shown]
        return with_augmentation(loaded.plan, batches, augmented=augmented)

    def _note_culprits(self, loaded: Loaded[_Item], reason: RuntimeError) -> None:
        """Find what DALI does not decode among the images of the step that failed."""
        rows = undecodable([data for data, _ in loaded.items], self._options.device_id)
        culprits = set(loaded.plan.ids[rows].tolist())
        if not culprits - self._not_for_dali:
            raise reason  # something else is wrong: do not hide it
        self._not_for_dali |= culprits


@cache
def _end_threads_before_dali() -> None:
    """At exit DALI insists that no pipeline is left, and our threads hold some. Exit hooks run in reverse order."""
    import nvidia.dali.pipeline  # noqa: F401

    atexit.register(close_all)


def _as_pnm(pixels: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """Pixels in the plainest format DALI knows."""
    height, width, _ = pixels.shape
    return b"P6 %d %d 255\n" % (width, height) + pixels.tobytes()
