"""``mixstage bench kernels``: the fused pass over the pixels against a plain copy and against other libraries' mixing.

Everybody gets the same batch of uint8 images in channels-last memory and makes normalised, mixed images of it. The unit is
``copy_`` of the same batch as float32 into memory that exists. Bytes are counted once: each source image read, each output
written, so GB/s beside those of the copy say how far from the memory's limit a path is. Each call takes the next of several
sets of buffers, together larger than the caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from itertools import count, cycle
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor

from mixops import CutMix, GMix, HMix, Key, MixUp, mix_images, mix_targets
from mixops.mixers.base import Mixer

from ..image_loader import IMAGENET_MEAN, IMAGENET_STD
from .measure import Report, alternate, conditions, quartiles, rate, relative

CLASSES = 1000
SETS = 3
COLUMNS = ("path", "mixer", "K", "result", "ms", "images/s", "GB/s", "times copy", "share of the copy's GB/s")
PEERS = ("torchvision", "timm", "kornia")
FORMATS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


@dataclass(frozen=True)
class Way:
    """One contestant: ``call`` makes ``k`` outputs of ``dtype`` of each image of a batch of ``source``."""

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


def batches(batch: int, size: int, device: torch.device) -> list[Tensor]:
    """Sets of uint8 images, channels-last."""
    shape = (batch, 3, size, size)
    return [
        torch.randint(0, 256, shape, dtype=torch.uint8).to(device).contiguous(memory_format=torch.channels_last)
        for _ in range(SETS)
    ]


def copy_path(batch: int, size: int) -> Way:
    """The unit."""
    shape = (batch, 3, size, size)
    sets = cycle([(torch.zeros(shape), torch.rand(shape)) for _ in range(SETS)])

    def call() -> Tensor:
        to, source = next(sets)
        return to.copy_(source)

    return Way("copy_", "none", 1, "float32", torch.float32, torch.float32, call)


def kernel_path(mixer: Mixer, images: list[Tensor], layout: str, dtype: torch.dtype) -> Way:
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
    return Way("kernel (numba)", type(mixer).__name__, k, result, dtype, torch.uint8, call)


def whole_call(mixer: Mixer, images: list[Tensor], labels: Tensor, backend: Any) -> Callable[[], object]:
    """What a training loop calls: plan, images and targets, into new memory."""
    b, _, h, w = images[0].shape
    sets, steps = cycle(images), count()

    def call() -> object:
        plan = mixer.plan(Key(0, step=next(steps)), batch_size=b, height=h, width=w)
        mixed = mix_images(next(sets), plan, mean=IMAGENET_MEAN, std=IMAGENET_STD, backend=backend)
        return mixed, mix_targets(labels, plan, num_classes=CLASSES)

    return call


def whole_path(mixer: Mixer, images: list[Tensor], labels: Tensor, backend: Any) -> Way:
    """The same as a contestant."""
    name = "eager torch, with plan and targets" if backend == "eager" else "mixstage, with plan and targets"
    call = whole_call(mixer, images, labels, backend)
    return Way(name, type(mixer).__name__, mixer.interpolations, "float32 NHWC", torch.float32, torch.uint8, call)


def torchvision_call(mixer: str, images: list[Tensor], labels: Tensor) -> Callable[[], object]:
    """``ToDtype``, ``Normalize`` and ``MixUp`` or ``CutMix`` of torchvision's v2 transforms."""
    from torchvision.transforms import v2

    mix = (v2.MixUp if mixer == "MixUp" else v2.CutMix)(num_classes=CLASSES)
    prepare = v2.Compose([v2.ToDtype(torch.float32, scale=True), v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)])
    sets = cycle(images)
    return lambda: mix(prepare(next(sets)), labels)


def timm_call(mixer: str, images: list[Tensor], labels: Tensor) -> Callable[[], object]:
    """timm's ``Mixup`` after the normalisation of its prefetcher."""
    from timm.data import Mixup

    alphas = {"mixup_alpha": 1.0, "cutmix_alpha": 0.0} if mixer == "MixUp" else {"mixup_alpha": 0.0, "cutmix_alpha": 1.0}
    mix = Mixup(**alphas, label_smoothing=0.0, num_classes=CLASSES)
    mean, std = (
        torch.tensor([255 * value for value in values], device=labels.device).view(1, 3, 1, 1)
        for values in (IMAGENET_MEAN, IMAGENET_STD)
    )
    sets = cycle(images)
    return lambda: mix(next(sets).float().sub_(mean).div_(std), labels)


def kornia_call(mixer: str, images: list[Tensor], labels: Tensor) -> Callable[[], object]:
    """kornia's ``RandomMixUpV2`` or ``RandomCutMixV2`` after its ``Normalize``."""
    from kornia import augmentation

    kind = augmentation.RandomMixUpV2 if mixer == "MixUp" else augmentation.RandomCutMixV2
    mix = kind(p=1.0, data_keys=["input", "class"])
    prepare = augmentation.Normalize(torch.tensor(IMAGENET_MEAN), torch.tensor(IMAGENET_STD)).to(labels.device)
    sets = cycle(images)
    return lambda: mix(prepare(next(sets) / 255), labels)


CALLS = {"torchvision": torchvision_call, "timm": timm_call, "kornia": kornia_call}


def paths(batch: int, size: int) -> Iterator[Way]:
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
    for mixer in (MixUp(), CutMix()):
        yield whole_path(mixer, images, labels, None)
        yield whole_path(mixer, images, labels, "eager")
        name = type(mixer).__name__
        for peer, make in CALLS.items():
            call = make(name, images, labels) if find_spec(peer) else None
            yield Way(peer, name, 1, "float32 NHWC", torch.float32, torch.uint8, call)


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


def _notes(contestants: list[Way], seconds: dict[str, Any]) -> list[str]:
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
    notes.append(f"mixstage lost to {', '.join(lost)}." if lost else "mixstage lost to none of these.")
    return notes


def kernels(
    batch: Annotated[int, typer.Option(min=0, help="Images in a batch; 0: 64 on a CPU, 256 on a GPU.")] = 0,
    size: Annotated[int, typer.Option(min=1, help="Side of an image in pixels.")] = 224,
    rounds: Annotated[int, typer.Option(min=1, help="Alternated rounds.")] = 9,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU by default.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch on the CPU.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    chart: Annotated[Path | None, typer.Option(help="Write a bar chart to this PNG file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for kernels-DEVICE.md, .json and .png.")] = None,
) -> None:
    """Time the fused kernel against a copy, torchvision, timm, kornia and eager torch."""
    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    if device == "cuda":
        from . import kernels_cuda

        report = kernels_cuda.run(batch or 256, size, rounds)
        column = "share of a copy of the same bytes"
    else:
        report = run(batch or 64, size, rounds, threads)
        column = "times copy"
    report.show()
    if json_file is not None:
        json_file.write_text(report.json() + "\n")
    charts = [] if chart is None else [chart]
    if save is not None:
        report.save(save, f"kernels-{device}")
        charts.append(save / f"kernels-{device}.png")
    for path in charts:
        report.chart(path, column, marker=1.0)


if __name__ == "__main__":
    typer.run(kernels)
