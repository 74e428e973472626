"""What DALI's decoder wants to be told: each setting tried beside the best so far, in the graph that the loader runs.

    encoded bytes in memory  ->  DecodePipeline (decode, crop, resize, flip)  ->  dropped

Nothing is read, mixed or taken to the host, so this is what a loader of no further cost would give. A setting becomes the
best if it is faster by more than what two equal measurements differ by; the next ones are tried beside it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from itertools import cycle, islice
from typing import Any

import numpy as np
import torch

from loaders import ImageLoader
from loaders.bench.measure import Report, conditions, quartiles
from loaders.bench.peers import Setting
from loaders.sources.plain import read_plain
from loaders.sources.registry import open_source
from pipelines.dali.decode import DecodeOptions, DecodePipeline, EncodedBatch

from .run import Reports, Run

_GAIN = 1.02  # what equal measurements differ by
_EXAMPLE = {  # DALI's own ImageNet example
    "device_memory_padding": 211025920, "host_memory_padding": 140544512, "preallocate_width_hint": 5980,
    "preallocate_height_hint": 6430,
}  # fmt: skip


@dataclass(frozen=True)
class Choice:
    """A way to decode. ``whole`` decodes whole images and cuts afterwards, else only the windows are decoded."""

    batch: int = 256
    threads: int = 16
    prefetch: int = 2
    whole: bool = False
    decoder: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return ", ".join(f"{name}={value}" for name, value in (asdict(self) | self.decoder).items() if name != "decoder")


def reports(run: Run) -> Reports:
    """A row a choice, in the order in which they were tried, after each."""
    setting = run.setting(*((4, 4) if run.tiny else (512, 40)))
    measure = _Measure(setting, 16 if run.tiny else 6144)
    best = Choice(batch=4, threads=1) if run.tiny else Choice(threads=setting.cores)
    told = conditions(("nvidia-dali-cuda130", "nvidia-nvimgcodec-cu13"))
    rows: list[list[Any]] = []
    for axis, changed in _axes(run.tiny, setting.cores).items():
        found: list[tuple[float, Choice]] = []
        for change in changed:
            choice = change(best)
            if choice == best or (run.left(0.95) < 0 and rows):
                continue
            rates, ratios = measure.beside(choice, best, 1 if run.tiny else 3)
            rows.append([axis, str(choice), quartiles(rates), quartiles(ratios)])
            found.append((float(np.median(ratios)), choice))
            yield "decode-tuning-cuda", _report(rows, best, setting, told)
        gain, choice = max(found, key=lambda one: one[0], default=(0.0, best))
        best = choice if gain > _GAIN else best
    yield "decode-tuning-cuda", _report(rows, best, setting, told)


def _axes(tiny: bool, cores: int) -> dict[str, list[Callable[[Choice], Choice]]]:
    """What is changed of the best so far, in the order of what it may give."""

    def decoder(**more: Any) -> Callable[[Choice], Choice]:
        return lambda best: replace(best, decoder=best.decoder | more)

    loads = (0.5,) if tiny else (0.0, 0.5, 0.7, 0.9, 1.0)
    small = {"preallocate_width_hint": 1024, "preallocate_height_hint": 1024}
    return {
        "whole images": [lambda best: replace(best, whole=True)],
        "hw_decoder_load": [decoder(hw_decoder_load=load) for load in loads],
        "whole images again": [lambda best: replace(best, whole=not best.whole)],
        "batch": [lambda best, n=n: replace(best, batch=n) for n in ((2,) if tiny else (128, 384, 512))],  # type: ignore[misc]
        "prefetch": [lambda best, n=n: replace(best, prefetch=n) for n in ((1,) if tiny else (1, 3, 5))],  # type: ignore[misc]
        "threads": [
            lambda best, n=n: replace(best, threads=n)  # type: ignore[misc]
            for n in sorted({max(1, cores * part // 4) for part in (1, 2, 3, 6)})
        ],
        "preallocation": [decoder(**small), decoder(**_EXAMPLE)],
    }


class _Measure:
    """Decodes ``images`` images of ``setting`` by one choice and another."""

    def __init__(self, setting: Setting, images: int) -> None:
        self._setting, self._images = setting, images
        self._best: tuple[Choice, DecodePipeline] | None = None
        self._source = open_source(setting.folder)
        self._bytes = lru_cache(maxsize=None)(lambda sample: read_plain(self._source, sample))
        self._batches = lru_cache(maxsize=None)(self._made)

    def beside(self, choice: Choice, best: Choice, rounds: int) -> tuple[np.ndarray, np.ndarray]:
        """Images/s of ``choice`` in each round, and as a multiple of those of ``best``."""
        if self._best is None or self._best[0] != best:
            self._best = None  # its memory first
            self._best = best, self._pipeline(best)
            self._rate(self._best[1], best)  # allocates
        contestants = ((self._pipeline(choice), choice), (self._best[1], best))
        self._rate(*contestants[0])
        rates = np.empty((rounds, 2))
        for turn in range(rounds):
            for i in (0, 1) if turn % 2 else (1, 0):
                rates[turn, i] = self._rate(*contestants[i])
        return rates[:, 0], rates[:, 0] / rates[:, 1]

    def _pipeline(self, choice: Choice) -> DecodePipeline:
        device = None if self._setting.device == "cpu" else torch.cuda.current_device()
        options = DecodeOptions(choice.batch, choice.whole, choice.threads, choice.prefetch, device, choice.decoder)
        return DecodePipeline(options)

    def _rate(self, pipe: DecodePipeline, choice: Choice) -> float:
        """Images/s of all batches but the first and the last few, which are made ahead."""
        steps = max(self._images // choice.batch, 4)
        pipe.start(islice(cycle(self._batches(choice.batch, choice.whole)), steps))
        margin, times = max(steps // 8, 1), []
        stream = None if self._setting.device == "cpu" else torch.cuda.current_stream()
        for step in range(steps):
            pipe.run(stream)
            if step + 1 in (margin, steps - margin):
                if stream is not None:
                    torch.cuda.synchronize()
                times.append(time.perf_counter())
        pipe.finish()
        return (steps - 2 * margin) * choice.batch / (times[1] - times[0])

    def _made(self, batch: int, whole: bool) -> list[EncodedBatch]:
        """An epoch's first batches, drawn as the loader draws them."""
        setting = self._setting
        found = []
        with ImageLoader(setting.folder, backend="dali", batch_size=batch, size=setting.size, device="cpu") as loader:
            for step in range(min(len(loader), max(self._images // batch, 1))):
                plan = loader.draw(0, step)
                images = [self._bytes(sample) for sample in plan.ids.tolist()]
                assert all(isinstance(image, bytes) for image in images)
                found.append(EncodedBatch(images, replace(plan.crops, spill=whole), None, step))
        return found


def _report(rows: list[list[Any]], best: Choice, setting: Setting, told: dict[str, str]) -> Report:
    notes = [
        f"Decoding, cropping, resizing and flipping to {setting.size} x {setting.size} by DALI, bytes in memory, nothing "
        "read or mixed. Each choice in alternated rounds with the best so far; medians and quartiles.",
        f"Best: {best}; a choice counts as better from {_GAIN} on.",
    ]
    columns = ("tried", "choice", "images/s", "x best before")
    return Report(f"What DALI's decoder is told, {setting.device}, {setting.cores} processors", columns, rows, told, notes)
