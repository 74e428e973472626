"""``mixstage bench kernels`` on a GPU: the fused kernels against a copy, and whole calls against other libraries.

Kernels are replayed as a CUDA graph over sets of buffers larger than the L2 cache; the unit of each is a copy of as many
bytes, by the driver or by a kernel, whichever is faster. Of whole calls the profiler adds up what the GPU did, and a clock
tells what they cost the host, which matters where nothing else keeps the GPU busy.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from itertools import cycle, product
from typing import Any

import numpy as np
import torch

from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, Switch
from mixops.apply.normalisation import scale_and_bias
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixops.kernels.blend.launch import Tile, choose, launch, upload
from mixops.mixers.base import Mixer

from .device import busy_seconds, copy_seconds, graph_seconds
from .kernel_calls import CALLS, CLASSES, FORMATS, PEERS, SETS, batches, who_won, whole_call
from .measure import Report, clock, conditions, quartiles, take_turns

COLUMNS = ("path", "mixer", "K", "result", "GPU µs", "host µs", "images/s", "TB/s", "share of a copy of the same bytes")
MIXERS: tuple[Callable[..., Mixer], ...] = (MixUp, CutMix, HMix, GMix, FMix, partial(Switch, [MixUp(0.8), CutMix(), GMix()]))
_HOST_CALLS = 50
DEVICE = torch.device("cuda")


def kernel_call(
    mixer: Mixer, images: list[torch.Tensor], layout: str, dtype: torch.dtype, tile: Tile | None = None
) -> Callable[[], None]:
    """A launch of the fused kernel, the plan on the device, the result in memory that exists; sets of buffers take turns."""
    b, c, h, w = images[0].shape
    k = mixer.interpolations
    scale, bias = map(torch.from_numpy, scale_and_bias(IMAGENET_MEAN, IMAGENET_STD, 255, c))
    plan = upload(mixer.plan(Key(), batch_size=b, height=h, width=w), scale, bias, images[0].device)
    outs = [
        torch.zeros(b * k, c, h, w, dtype=dtype, device=images[0].device).contiguous(memory_format=FORMATS[layout])
        for _ in images
    ]
    works = cycle([(choose(x, out), out) for x, out in zip(images, outs, strict=True)])

    def call() -> None:
        work, out = next(works)
        launch(work, plan, out, tile)

    return call


def host_seconds(call: Callable[[], object]) -> float:
    """Seconds of the host for one call of many, what the GPU has not done by their end included."""
    return clock(call, _HOST_CALLS, torch.cuda.synchronize)


def _captured(mixer: Mixer, images: list[torch.Tensor], layout: str, dtype: torch.dtype) -> Callable[[], float]:
    return graph_seconds(kernel_call(mixer, images, layout, dtype))


def _ready(clock: Callable[[Callable[[], object]], float], call: Callable[[], object]) -> Callable[[], float]:
    return partial(clock, call)


def run(batch: int, size: int, rounds: int) -> Report:
    """Measures every path and reports."""
    told = conditions((*PEERS, "triton"))
    images = batches(batch, size, DEVICE)
    labels = torch.randint(0, CLASSES, (batch,), device=DEVICE)
    pixels = batch * 3 * size * size
    rows: dict[str, list[Any]] = {}
    cases: dict[str, Callable[[], Callable[[], float]]] = {}

    def add(path: str, mixer: str, k: int, dtype: torch.dtype, layout: str, made: Callable[[], Callable[[], float]]) -> str:
        name = f"{path} {mixer} {k} {dtype} {layout}"
        rows[name] = [path, mixer, k, f"{str(dtype).removeprefix('torch.')} {layout}", batch * k, dtype.itemsize * k + 1]
        cases[name] = made
        return name

    for k in (1, 5):
        for dtype, layout in (*product((torch.float16, torch.float32), FORMATS), (torch.bfloat16, "NHWC")):
            for make in MIXERS:
                if dtype == torch.bfloat16 and make is not HMix:
                    continue
                mixer = make(interpolations=k)
                add("kernel", type(mixer).__name__, k, dtype, layout, partial(_captured, mixer, images, layout, dtype))
    for moved in sorted({row[-1] for row in rows.values()}):
        cases[f"copy {moved}"] = partial(copy_seconds, pixels * moved)
    whole = []
    for mixer in (MixUp(), CutMix()):
        name = type(mixer).__name__
        contestants = {
            "mixstage": whole_call(mixer, images, labels, None),
            "eager torch": whole_call(mixer, images, labels, "eager"),
        }
        contestants |= {peer: make(name, images, labels) for peer, make in CALLS.items() if find_spec(peer)}
        for path, call in contestants.items():
            added = add(f"{path}, with targets", name, 1, torch.float32, "NHWC", partial(_ready, busy_seconds, call))
            cases[f"host {added}"] = partial(_ready, host_seconds, call)
            whole.append(added)
    seconds = take_turns(cases, rounds=rounds, describe="measuring kernels")
    table = []
    for name, (path, mixer, k, result, images_out, moved) in rows.items():
        taken = seconds[name]
        share = None if name in whole else quartiles(seconds[f"copy {moved}"] / taken)
        host = quartiles(1e6 * seconds[f"host {name}"]) if name in whole else None
        figures = [
            quartiles(1e6 * taken),
            host,
            quartiles(images_out / taken),
            quartiles(pixels * moved / taken / 1e12),
            share,
        ]
        table.append([path, mixer, k, result, *figures])
    return Report(
        f"Mixing, normalising and casting {batch} images of {size} x {size} on CUDA", COLUMNS, table, told,
        _notes(rows, whole, seconds, pixels),
    )  # fmt: skip


def _notes(rows: dict[str, list[Any]], whole: list[str], seconds: dict[str, Any], pixels: int) -> list[str]:
    copies = {pixels * int(name[5:]): taken for name, taken in seconds.items() if name.startswith("copy ")}
    told = [f"{quartiles(count / taken / 1e12)} TB/s for {count / 1e6:.0f} MB" for count, taken in copies.items()]
    notes = [
        "Medians of alternated rounds (quartiles in brackets). Images/s counts outputs, TB/s each source image and each "
        f"output once, not the masks of FMix. {SETS} sets of buffers take turns.",
        f"A copy reached {', '.join(told)}.",
    ]
    shares = {name: np.median(seconds[f"copy {row[-1]}"] / seconds[name]) for name, row in rows.items() if name not in whole}
    worst = min(shares, key=lambda name: float(shares[name]))
    notes.append(f"The least share of a copy's bandwidth is {shares[worst]:.3f} ({' '.join(map(str, rows[worst][1:4]))}).")
    ours = {rows[name][1]: name for name in whole if rows[name][0].startswith("mixstage")}
    lost = []
    for name in whole:
        unit = ours[rows[name][1]]
        if name == unit:
            continue
        device, host = (quartiles(seconds[f"{kind}{name}"] / seconds[f"{kind}{unit}"]) for kind in ("", "host "))
        notes.append(f"{rows[name][0]}, {rows[name][1]}: {device} times the GPU time of mixstage, {host} times the host's.")
        lost += [
            f"{rows[name][0]}, {rows[name][1]} ({what})" for what, r in (("GPU", device), ("host", host)) if r.median < 1
        ]
    notes.append(who_won(lost, [rows[name][0] for name in whole]))
    return notes
