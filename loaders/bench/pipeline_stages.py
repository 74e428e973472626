"""Where the processor time of an image goes: each stage of this package's loader, and whole loaders, with one thread.

    draw and plan  ->  read and check  ->  decode of the crop  ->  resize  ->  mix, normalise     (augment, if asked for)

The stages are the loader's own functions, called one after the other on whole batches, with a clock of the processor between
them: what waits costs nothing, what other threads do counts. The limit is DALI's decoder on just the crops, which no loader
that decodes with it can be below.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from mixops import HMix, Key, TrivialAugmentWide, mix_images, mix_targets
from mixops.augment.apply import augment_images
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD, as_augmentation
from mixops.augment.crop_plan import CropPlan
from pipelines import pillow
from pipelines.crop_rows import already_cut, crop_rows

from ..backends.base import is_installed
from ..cli.convert import convert
from ..image_loader import ImageLoader
from ..sources.folder import Folder
from ..sources.read_many import Buffers, read_many
from ..sources.registry import open_source
from . import peers
from .epoch_timing import Open, count_batches
from .measure import Report, quartiles, take_turns
from .peers import Setting
from .pipeline_table import MIXED, table

LIMIT, OTHERS = "decode of the crop (DALI): the limit", "decode of other formats (Pillow)"
STAGES = ("draw and plan", "read and check", LIMIT, OTHERS, "resize", "mix, normalise (HMix)")
AUGMENT = "augment, if asked for (TrivialAugmentWide)"
ALL = "all stages, without augment"
_MOST = 1024  # images of a round
_SETTLE = 0.25  # seconds for what a contestant still makes ahead after its epoch
_clock = time.process_time


def measure_stages(setting: Setting, rounds: int) -> Report:
    """Milliseconds of processor an image, by stage and of whole loaders, on the CPU.

    Of a larger folder 1,024 images are taken. Raises ``ImportError`` without DALI.
    """
    if not is_installed("nvidia.dali"):
        raise ImportError("part 'stages' needs DALI: pip install 'mixstage[dali]'")
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with tempfile.TemporaryDirectory() as scratch, ExitStack() as stack:
            folder = some_images(setting.folder, Path(scratch, "images"))
            setting = replace(setting, folder=folder, beton=Path(scratch, "images.beton"), cores=1, device="cpu")
            if is_installed("ffcv"):
                convert(folder, setting.beton)
            walk = Walk(setting)
            loaders = {name: stack.enter_context(case()) for name, case in _loaders(setting).items()}
            count = count_batches(setting) * setting.batch_size
            cases = {name: partial(_warm, partial(_spent_by_epoch, epoch, count)) for name, epoch in loaders.items()}
            spent = take_turns({ALL: partial(_warm, walk), **cases}, rounds=rounds, describe="stages")
    finally:
        torch.set_num_threads(threads)
    stages = {name: np.array([laps[name] for laps in walk.rounds[-rounds:]]) for name in (*STAGES, AUGMENT)}
    if not stages[OTHERS].any():
        del stages[OTHERS]
    spent = {**stages, **spent}
    rows = [[name, quartiles(1e3 * each), quartiles(each / spent[LIMIT])] for name, each in spent.items()]
    notes = [
        "Processor time of all threads of the process. What a loader takes beyond all stages is threads, queues and the "
        "handing over of batches. Loaders but those of this package mix nothing; torchvision's dataset makes no batches.",
        f"{walk.others} of {walk.images} images are no plain JPEG, which DALI is not given.",
    ]
    return table("Stages", setting, ["stage", "CPU ms/image", "x the limit"], rows, notes)


def some_images(folder: Path, links: Path) -> Path:
    """``folder``, or where it has many images ``links`` with links to some of them, spread evenly."""
    source = open_source(folder)
    if len(source) <= _MOST:
        return folder
    for i in np.linspace(0, len(source) - 1, _MOST).astype(int).tolist():
        link = links / source.classes[int(source.labels[i])] / f"{i:08d}{Path(source.name(i)).suffix}"
        link.parent.mkdir(parents=True, exist_ok=True)
        os.symlink(source.name(i), link)
    return links


class Walk:
    """An epoch of the DALI loader's own steps in this thread, an epoch a call; ``rounds`` has seconds an image by stage."""

    def __init__(self, setting: Setting) -> None:
        self._loader = ImageLoader(
            setting.folder, backend="dali", batch_size=setting.batch_size, size=setting.size, mixer=HMix(), device="cpu",
            num_threads=1,
        )  # fmt: skip
        assert isinstance(self._loader.dataset, Folder)
        self._dataset, self._buffers = self._loader.dataset, Buffers()
        self._decoder = CropDecoder(setting.batch_size)
        self._augmentation = as_augmentation(TrivialAugmentWide())
        self._labels = torch.from_numpy(self._loader.dataset.labels)
        self.rounds: list[dict[str, float]] = []
        self.images = self.others = 0

    def __call__(self) -> float:
        """Seconds an image of all stages but augmentation."""
        self._laps = dict.fromkeys((*STAGES, AUGMENT), 0.0)
        self.images = self.others = 0
        for step in range(len(self._loader)):
            self._step(len(self.rounds), step)
        laps = {name: seconds / self.images for name, seconds in self._laps.items()}
        self.rounds.append(laps)
        return sum(laps[name] for name in STAGES)

    def read(self, samples: np.ndarray) -> list[UInt8[np.ndarray, " bytes"] | None]:
        """Plain JPEG files, None for others."""
        sizes = self._dataset.sizes[samples]
        return read_many(self._dataset.places(samples), sizes, self._buffers, np.zeros(1, np.int64))

    def _step(self, epoch: int, step: int) -> None:
        self._at = _clock()
        plan = self._loader.draw(epoch, step)
        self._lap("draw and plan")
        data = self.read(plan.ids)
        self._lap("read and check")
        plain = [each is not None for each in data]
        crops = self._decoder.decode([each for each in data if each is not None], plan.crops, np.array(plain))
        self._lap(LIMIT)
        rows, ids = iter(crops), plan.ids.tolist()
        images = [next(rows) if good else _other(self._dataset.read(ids[i]), plan.crops, i) for i, good in enumerate(plain)]
        self._lap(OTHERS)
        batch = torch.from_numpy(crop_rows(images, already_cut(plan.crops)))
        self._lap("resize")
        assert plan.mix is not None
        labels = self._labels[torch.from_numpy(plan.ids)]
        mix_images(batch.permute(0, 3, 1, 2), plan.mix, mean=IMAGENET_MEAN, std=IMAGENET_STD)
        mix_targets(labels, plan.mix, num_classes=self._loader.num_classes)
        self._lap("mix, normalise (HMix)")
        assert self._augmentation is not None
        drawn = self._augmentation.draw(Key(0, epoch, step), plan.rows, plan.crops.size, IMAGENET_MEAN, IMAGENET_STD)
        augment_images(batch, drawn, out=batch)
        self._lap(AUGMENT)
        self.images += len(data)
        self.others += len(data) - sum(plain)

    def _lap(self, stage: str) -> None:
        now = _clock()
        self._laps[stage] += now - self._at
        self._at = now


class CropDecoder:
    """DALI's decoder on just the crops of a batch: one thread, nothing made ahead."""

    def __init__(self, batch_size: int) -> None:
        from nvidia import dali
        from nvidia.dali import fn, types

        @dali.pipeline_def(
            batch_size=batch_size, num_threads=1, device_id=None, prefetch_queue_depth=1, exec_pipelined=False,
            exec_async=False,
        )  # fmt: skip
        def graph() -> Any:
            data, start, shape = (fn.external_source(name=name) for name in ("data", "start", "shape"))
            return fn.decoders.image_slice(
                data, start=start, shape=shape, axis_names="HW", adjust_orientation=False, output_type=types.RGB
            )

        self._pipe = graph()
        self._pipe.build()

    def decode(
        self, data: list[UInt8[np.ndarray, " bytes"]], crops: CropPlan, rows: np.ndarray
    ) -> list[UInt8[np.ndarray, "h w 3"]]:
        """The windows of those ``rows`` of ``crops``, whose files are ``data``; DALI's memory, until the next call."""
        if not data:
            return []
        windows = crops.windows[rows].astype(np.int32)
        self._pipe.feed_input("data", data)
        self._pipe.feed_input("start", np.ascontiguousarray(windows[:, :2]))
        self._pipe.feed_input("shape", np.ascontiguousarray(windows[:, 2:]))
        (images,) = self._pipe.run()
        return [images.at(i) for i in range(len(data))]


def _other(data: bytes, crops: CropPlan, row: int) -> UInt8[np.ndarray, "h w 3"]:
    """The window of a file that Pillow decodes."""
    top, left, height, width = crops.windows[row].astype(int).tolist()
    return np.asarray(pillow.decode(data))[top : top + height, left : left + width]


def _loaders(setting: Setting) -> dict[str, Open]:
    """Whole loaders of one thread each, those that are installed."""
    cases: dict[str, Open] = {
        MIXED: lambda: peers.mixstage(setting, "dali", HMix()),
        "DALI, its own pipeline": lambda: peers.plain_dali(setting, decode_only=False),
    }
    if is_installed("torchvision"):
        cases["torchvision's dataset"] = lambda: peers.torchvision_dataset(setting)
    if setting.beton.exists():
        cases["FFCV, its own loader"] = lambda: peers.plain_ffcv(setting, mixing=False)
        cases["mixstage ffcv, HMix"] = lambda: peers.mixstage(setting, "ffcv", HMix())
    return cases


def _spent_by_epoch(epoch: Callable[[], Iterable[Any]], images: int) -> float:
    """Seconds of processor an image."""
    began = _clock()
    for _ in epoch():
        pass
    return (_clock() - began) / images


def _warm(measure: Callable[[], float]) -> Callable[[], float]:
    """``measure``, called once before, for what is compiled and read first."""

    def settled() -> float:
        time.sleep(_SETTLE)
        return measure()

    measure()
    return settled
