"""``mixstage bench kernels`` on a GPU: the fused kernels against a copy, and whole calls against other libraries.

Kernels are replayed as a CUDA graph over sets of buffers larger than the L2 cache; the unit of each is a copy of as many
bytes, by the driver or by a kernel, whichever is faster. Of whole calls the profiler adds up what the GPU did, and clocks
tell what a call takes, and what it costs the host, which matters where nothing else keeps the GPU busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache, partial
from importlib.util import find_spec
from itertools import cycle, product
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixops import CutMix, DirichletMixUp, FMix, GMix, HMix, Key, MixUp, Switch, ZetaMixUp
from mixops.apply.normalisation import scale_and_bias
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.kernels.blend import launch as launch_two
from mixops.kernels.blend import launch_several
from mixops.kernels.blend.launch import Tile, choose
from mixops.mixers.base import Mixer

from .device import Clocks, run_ahead
from .kernel_calls import CALLS, CLASSES, FORMATS, PEERS, SETS, batches, who_won, whole_call
from .measure import Report, conditions, last, quartiles, take_turns

COLUMNS = (
    "path", "mixer", "K", "result", "GPU µs", "call µs", "host µs", "images/s", "TB/s", "share of a copy of the same bytes",
    "times the GPU time of mixstage",
)  # fmt: skip
PAIRS: tuple[Mixer, ...] = (MixUp(), CutMix(), HMix(), GMix(), FMix(), Switch([MixUp(0.8), CutMix(), GMix()]))
SEVERAL: tuple[Mixer, ...] = (DirichletMixUp(), ZetaMixUp())
OUTPUTS = (1, 5)
RESULTS = tuple(product((torch.float16, torch.bfloat16, torch.float32), FORMATS))
DEVICE = torch.device("cuda")
_OURS = "mixstage, with targets"
_Calls = dict[tuple[str, str, int], Callable[[], object]]  # by path, mixer, outputs
_KINDS = {"GPU µs": "", "call µs": "call ", "host µs": "host "}  # of measurements, by column


def kernel_call(
    mixer: Mixer, images: list[Tensor], layout: str, dtype: torch.dtype, tile: Tile | None = None
) -> Callable[[], None]:
    """A launch of the fused kernel, the plan on the device, the result in memory that exists; sets of buffers take turns.

    Calls of one shape of results write to the same memory.
    """
    b, c, h, w = images[0].shape
    scale, bias = map(torch.from_numpy, scale_and_bias(IMAGENET_MEAN, IMAGENET_STD, 255, c))
    plan = mixer.plan(Key(), batch_size=b, height=h, width=w)
    sets = list(zip(images, _results((b * mixer.interpolations, c, h, w), dtype, layout, images[0].device), strict=True))
    if plan.more is not None:
        several = launch_several.upload(plan, scale, bias, images[0].device)
        turns = cycle(sets)

        def call_several() -> None:
            x, out = next(turns)
            launch_several.launch(x, several, out)

        return call_several
    two = launch_two.upload(plan, scale, bias, images[0].device)
    works = cycle([(choose(x, out), out) for x, out in sets])

    def call() -> None:
        work, out = next(works)
        launch_two.launch(work, two, out, tile)

    return call


@lru_cache(maxsize=4)
def _results(shape: tuple[int, ...], dtype: torch.dtype, layout: str, device: torch.device) -> list[Tensor]:
    return [
        torch.zeros(shape, dtype=dtype, device=device).contiguous(memory_format=FORMATS[layout]) for _ in range(SETS)
    ]  # fmt: skip


def compile_kernel(mixer: Mixer, layout: str, dtype: torch.dtype, batch: int, size: int) -> None:
    """Leaves a compiled kernel in Triton's cache on disk; run in a process of its own, beside others."""
    shape = (min(batch, 32), 3, size, size)  # the batch is no part of what is compiled
    image = torch.zeros(shape, dtype=torch.uint8, device=DEVICE).contiguous(memory_format=torch.channels_last)
    kernel_call(mixer, [image] * SETS, layout, dtype)()


def run(batch: int, size: int, rounds: int) -> Report:
    """Measures every path and reports."""
    return last(reports(batch, size, rounds))


def reports(
    batch: int, size: int, rounds: int, device: torch.device = DEVICE, mixers: Sequence[Mixer] = (*PAIRS, *SEVERAL)
) -> Iterator[Report]:
    """The table as far as it has come, after each kind of result and, of the mixers that others have, after whole calls."""
    if device.type == "cuda":
        some = [(m.replace(interpolations=k), *result) for m, k, result in product(mixers, OUTPUTS, RESULTS)]
        run_ahead([partial(compile_kernel, m, layout, t, batch, size) for m, t, layout in some], "compiling")
    table = _Table(batch, size, rounds, Clocks(device))
    images = batches(batch, size, device)
    for dtype, layout in RESULTS:
        kernels: _Calls = {}
        for mixer, k in product(mixers, OUTPUTS):
            call = kernel_call(mixer.replace(interpolations=k), images, layout, dtype)
            kernels["kernel", type(mixer).__name__, k] = call
        yield table.extended(kernels, dtype, layout)
    labels = torch.randint(0, CLASSES, (batch,), device=device)
    cases: _Calls = {}
    for mixer in (mixer for mixer in mixers if isinstance(mixer, (MixUp, CutMix))):
        name = type(mixer).__name__
        cases[_OURS, name, 1] = whole_call(mixer, images, labels, None)
        cases["eager torch, with targets", name, 1] = whole_call(mixer, images, labels, "eager")
        for peer, make in CALLS.items():
            if find_spec(peer):
                cases[f"{peer}, with targets", name, 1] = make(name, images, labels)
    if cases:
        yield table.extended(cases, torch.float32, "NHWC")


class _Table:
    """Rows as they come."""

    def __init__(self, batch: int, size: int, rounds: int, clocks: Clocks) -> None:
        self._batch, self._size, self._rounds, self._clocks = batch, size, rounds, clocks
        self._pixels = batch * 3 * size * size
        self._told = conditions((*PEERS, "triton"))
        self._rows: list[list[Any]] = []
        self._copies: dict[int, Any] = {}
        self._worst: tuple[float, str] = (np.inf, "")
        self._compared: list[str] = []

    def extended(self, calls: _Calls, dtype: torch.dtype, layout: str) -> Report:
        """The table with rows for ``calls``, measured now."""
        clocks, whole = self._clocks, not any(path == "kernel" for path, _, _ in calls)
        result = f"{str(dtype).removeprefix('torch.')} {layout}"
        moved = {case: dtype.itemsize * case[2] + 1 for case in calls}
        cases: dict[str, Callable[[], Callable[[], float]]] = {}
        for case, call in calls.items():
            cases[str(case)] = partial(clocks.busy if whole else clocks.graph, call)
            cases[f"call {case}"], cases[f"host {case}"] = partial(clocks.called, call), partial(clocks.host, call)
        for count in set() if whole else set(moved.values()):
            cases[f"copy {count}"] = partial(clocks.copy, self._pixels * count)
        seconds = take_turns(cases, rounds=self._rounds, describe=f"measuring, {result}")
        for case, count in moved.items():
            path, mixer, k = case
            taken = seconds[str(case)]
            share = None if whole else quartiles(seconds[f"copy {count}"] / taken)
            times = [quartiles(1e6 * seconds[f"{kind}{case}"]) for kind in _KINDS.values()]
            speeds = [quartiles(self._batch * k / taken), quartiles(self._pixels * count / taken / 1e12)]
            ratio = quartiles(taken / seconds[str((_OURS, mixer, k))]) if whole else None
            self._rows.append([path, mixer, k, result, *times, *speeds, share, ratio])
            if share is not None:
                self._worst = min(self._worst, (share.median, f"{mixer}, K={k}, {result}"))
        self._copies |= {count: seconds[f"copy {count}"] for count in moved.values() if not whole}
        if whole:
            self._compared = _compared(seconds, calls)
        return self._report()

    def _report(self) -> Report:
        copied = [
            f"{quartiles(self._pixels * count / taken / 1e12)} TB/s for {self._pixels * count / 1e6:.0f} MB"
            for count, taken in sorted(self._copies.items())
        ]
        notes = [
            "Medians of alternated rounds (quartiles in brackets). Images/s counts outputs, TB/s each source image and each "
            f"output once, not the masks of FMix. {SETS} sets of buffers take turns. GPU: kernels replayed as a CUDA graph, "
            "of whole calls the sum of what the device did. Call: called one after the other from Python, whoever is "
            "slower. Host: until a call returns.",
            f"A copy reached {', '.join(copied)}.",
            f"The least share of a copy's bandwidth is {self._worst[0]:.3f} ({self._worst[1]}).",
            *self._compared,
        ]
        title = f"Mixing, normalising and casting {self._batch} images of {self._size} x {self._size} on CUDA"
        return Report(title, COLUMNS, list(self._rows), self._told, notes)


def _compared(seconds: dict[str, Any], calls: _Calls) -> list[str]:
    """Sentences that hold every whole call against this package's."""
    notes, lost = [], []
    for path, mixer, k in calls:
        if path == _OURS:
            continue
        unit = (_OURS, mixer, k)
        ratios = {
            what: quartiles(seconds[f"{kind}{(path, mixer, k)}"] / seconds[f"{kind}{unit}"]) for what, kind in _KINDS.items()
        }
        told = ", ".join(f"{ratio} times the {what.removesuffix(' µs')} time" for what, ratio in ratios.items())
        notes.append(f"{path}, {mixer}: {told} of mixstage.")
        lost += [f"{path}, {mixer} ({what.removesuffix(' µs')})" for what, ratio in ratios.items() if ratio.median < 1]
    return [*notes, who_won(lost, [path.split(",")[0] for path, _, _ in calls])]
