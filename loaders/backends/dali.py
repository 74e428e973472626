"""The DALI backend: reads and checks bytes in threads of ours, decodes them in a pipeline of DALI's.

A DALI pipeline ends with its first decode error, so it is disposable: (epoch, step) is all there is to know, a new one
continues where the old one failed, after one-image pipelines have told which file it was. Bytes whose header cannot be
parsed never get that far, because DALI's CPU decoder can end the process on them. Its parsers of BMP and TIFF do so on
headers that are merely unusual, too many cases to check for: Pillow decodes these.
"""

from __future__ import annotations

import atexit
from collections import deque
from collections.abc import Generator
from functools import cache

from pipelines import pillow
from pipelines.dali.decode import DecodeError, DecodeOptions, DecodePipeline, EncodedBatch, undecodable

from ..read_ahead import Loaded, read_steps
from ..sources.folder import read_index
from ..sources.headers import check_bytes
from ..step import StepPlan
from ..worker_thread import close_all
from .base import BackendConfig, Decoded

_UNSAFE = (b"BM", b"II*\0", b"MM\0*")


class Dali:
    """Decodes and crops in a DALI pipeline on the config's device; resizes and flips there, too, unless that is the CPU.

    Crops with margins, and whatever is augmented, are made on the CPU whatever the device is.
    """

    eager = False
    read_index = staticmethod(read_index)

    def __init__(self, config: BackendConfig) -> None:
        _end_threads_before_dali()
        self._config = config
        planner = config.planner
        plain = planner.crop.padding_mode is None and planner.augmentation is None  # DALI has neither
        on_gpu = config.device.type == "cuda" and plain
        self._options = DecodeOptions(
            batch_size=planner.most_rows,
            spill=planner.crop.spill,
            num_threads=config.num_threads,
            prefetch=config.prefetch,
            device_id=config.device.index if on_gpu else None,
        )
        self._idle: deque[DecodePipeline] = deque()  # kept between epochs: building one allocates the decoder's buffers

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps of an epoch from ``step`` on."""
        config = self._config
        steps = len(config.planner.schedule_of(epoch))
        while step < steps:
            reader = read_steps(config, epoch, step, self._load)
            pipeline = self._idle.pop() if self._idle else DecodePipeline(self._options)
            pipeline.start(EncodedBatch(loaded.items, loaded.plan.crops, loaded.plan.augment, loaded) for loaded in reader)
            try:
                while step < steps:
                    pixels, loaded = pipeline.run(config.stream)
                    yield Decoded(pixels, loaded.plan)
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

    def _load(self, plan: StepPlan, row: int) -> bytes:
        index, sample = self._config.index, int(plan.ids[row])
        data = index.read(sample)
        check_bytes(data, tuple(index.sizes[sample].tolist()))
        return _as_pnm(data) if data.startswith(_UNSAFE) else data

    def _note_culprits(self, loaded: Loaded[bytes], reason: RuntimeError) -> None:
        """Find what cannot be decoded among the images of the step that failed."""
        rows = undecodable(loaded.items, self._options.device_id)
        if not rows:
            raise reason  # something else is wrong: do not hide it
        for sample in loaded.plan.ids[rows].tolist():
            self._config.bad.known[sample] = "DALI cannot decode it"


@cache
def _end_threads_before_dali() -> None:
    """At exit DALI insists that no pipeline is left, and our threads hold some. Exit hooks run in reverse order."""
    import nvidia.dali.pipeline  # noqa: F401

    atexit.register(close_all)


def _as_pnm(data: bytes) -> bytes:
    """The image decoded, in the plainest format DALI knows."""
    image = pillow.decode(data)
    pnm: bytes = b"P6 %d %d 255\n" % image.size + image.tobytes()
    return pnm
