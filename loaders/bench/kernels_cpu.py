"""``mixstage bench kernels`` on the CPU: the fused pass over the pixels against a plain copy and against other libraries.

The unit is ``copy_`` of the same batch as float32 into memory that exists. Bytes are counted once: each source image read,
each output written, so GB/s beside those of the copy say how far from the memory's limit a path is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixops import CutMix, GMix, HMix, Key, MixUp, augment_images, mix_images
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.augment.registry import parse_augment
from mixops.mixers.base import Mixer

from .kernel_calls import CALLS, CLASSES, FORMATS, PEERS, SETS, batches, who_won, whole_call
from .measure import Report, alternate, conditions, quartiles, rate, relative

AUGMENTATIONS = ("TrivialAugmentWide", "RandAugment", "rand-m9-mstd0.5-inc1", "ThreeAugment")
COLUMNS = ("path", "mixer", "K", "result", "ms", "images/s", "GB/s", "times copy", "share of the copy's GB/s")


@dataclass(frozen=True)
class Contestant:
    """``call`` makes ``k`` outputs of ``dtype`` of each image of a batch of ``source``."""

    path: str
    mixer: str
    k: int
    result: str
    dtype: torch.dtype
    source: torch.dtype
    call: Callable[[], object] | None

    def bytes(self, pixels: int) -> int:
        """Bytes read and written for a batch of that many values."""
        return pixels * (self.source.itemsize + self.k * self.dtype.itemsize)


def copy_path(batch: int, size: int) -> Contestant:
    """The unit."""
    shape = (batch, 3, size, size)
    sets = cycle([(torch.zeros(shape), torch.rand(shape)) for _ in range(SETS)])

    def call() -> Tensor:
        to, source = next(sets)
        return to.copy_(source)

    return Contestant("copy_", "none", 1, "float32", torch.float32, torch.float32, call)


def kernel_path(mixer: Mixer, images: list[Tensor], layout: str, dtype: torch.dtype) -> Contestant:
    """The fused kernel alone, the plan drawn before, into memory that exists."""
    b, c, h, w = images[0].shape
    k = mixer.interpolations
    plan = mixer.plan(Key(0), batch_size=b, height=h, width=w)
    normal: dict[str, Any] = {} if dtype == torch.uint8 else {"mean": IMAGENET_MEAN, "std": IMAGENET_STD}
    outs = [torch.zeros(b * k, c, h, w, dtype=dtype) for _ in images]
    sets = cycle([(x, out.contiguous(memory_format=FORMATS[layout])) for x, out in zip(images, outs, strict=True)])

    def call() -> object:
        x, out = next(sets)
        return mix_images(x, plan, dtype=dtype, out=out, **normal)

    result = f"{str(dtype).removeprefix('torch.')} {layout}"
    return Contestant("kernel (numba)", type(mixer).__name__, k, result, dtype, torch.uint8, call)


def augment_path(name: str, images: list[Tensor]) -> Contestant:
    """An augmentation's kernels, its plans drawn before, from one memory into another."""
    b, _, h, w = images[0].shape
    augmentation = parse_augment(name)
    assert augmentation is not None
    plans = [augmentation.draw(Key(step=i), np.arange(b), (h, w)) for i in range(8)]  # of one batch each its own cost
    pixels = [x.permute(0, 2, 3, 1).contiguous() for x in images]
    sets = cycle([(pixels[i % len(pixels)], torch.empty_like(pixels[0]), plan) for i, plan in enumerate(plans)])

    def call() -> object:
        x, out, plan = next(sets)
        return augment_images(x, plan, out=out)

    return Contestant("augmentation (numba)", name, 1, "uint8 NHWC", torch.uint8, torch.uint8, call)


def whole_path(mixer: Mixer, images: list[Tensor], labels: Tensor, backend: Any) -> Contestant:
    """The same as a contestant."""
    name = "eager torch, with plan and targets" if backend == "eager" else "mixstage, with plan and targets"
    call = whole_call(mixer, images, labels, backend)
    return Contestant(name, type(mixer).__name__, mixer.interpolations, "float32 NHWC", torch.float32, torch.uint8, call)


def paths(batch: int, size: int) -> Iterator[Contestant]:
    """All contestants, the unit first; paths that cannot be measured have no call."""
    yield copy_path(batch, size)
    images = batches(batch, size, torch.device("cpu"))
    labels = torch.randint(0, CLASSES, (batch,))
    for k in (1, 4):
        for kind in (MixUp, CutMix, HMix, GMix):
            yield kernel_path(kind(interpolations=k), images, "NHWC", torch.float32)
    for k in (1, 4):
        yield kernel_path(HMix(interpolations=k), images, "NCHW", torch.float32)
        for dtype in (torch.float16, torch.bfloat16, torch.uint8):
            yield kernel_path(HMix(interpolations=k), images, "NHWC", dtype)
    for name in AUGMENTATIONS:
        yield augment_path(name, images)
    for mixer in (MixUp(), CutMix()):
        yield whole_path(mixer, images, labels, None)
        yield whole_path(mixer, images, labels, "eager")
        name = type(mixer).__name__
        for peer, make in CALLS.items():
            call = make(name, images, labels) if find_spec(peer) else None
            yield Contestant(peer, name, 1, "float32 NHWC", torch.float32, torch.uint8, call)


def run(batch: int = 64, size: int = 224, rounds: int = 9, threads: int | None = None) -> Report:
    """Measures every path on the CPU and reports; ``threads`` of torch."""
    if threads is not None:
        torch.set_num_threads(threads)
    told = conditions(PEERS)
    contestants = list(paths(batch, size))
    cases = {str(i): path.call for i, path in enumerate(contestants) if path.call is not None}
    seconds = alternate(cases, rounds=rounds, at_least=0.03, describe="measuring kernels")
    pixels = batch * 3 * size * size
    copied = contestants[0].bytes(pixels) / seconds["0"]
    rows: list[list[Any]] = []
    for i, path in enumerate(contestants):
        row: list[Any] = [path.path, path.mixer, path.k, path.result]
        if path.call is None:
            rows.append([*row, *[None] * 5])
            continue
        moved = path.bytes(pixels)
        speeds = [rate(seconds, str(i), amount) for amount in (batch * path.k, moved / 1e9)]
        shares = [relative(seconds, str(i), "0"), quartiles(moved / seconds[str(i)] / copied)]
        rows.append([*row, quartiles(1e3 * seconds[str(i)]), *speeds, *shares])
    return Report(
        f"Mixing, normalising and casting {batch} images of {size} x {size} on CPU", COLUMNS, rows, told,
        _notes(contestants, seconds),
    )  # fmt: skip


def _notes(contestants: list[Contestant], seconds: dict[str, Any]) -> list[str]:
    notes = ["Medians of alternated rounds (quartiles in brackets). Images/s counts outputs."]
    ours = {p.mixer: str(i) for i, p in enumerate(contestants) if p.path.startswith("mixstage")}
    lost = []
    for i, path in enumerate(contestants):
        if path.path not in (*PEERS, "eager torch, with plan and targets"):
            continue
        if path.call is None:
            notes.append(f"{path.path} is not installed; its {path.mixer} was not measured.")
            continue
        ratio = relative(seconds, str(i), ours[path.mixer])
        notes.append(f"{path.path}, {path.mixer}: {ratio} times the time of mixstage.")
        if ratio.median < 1:
            lost.append(f"{path.path}'s {path.mixer}")
    notes.append(who_won(lost, [path.path for path in contestants if path.call is not None]))
    return notes
