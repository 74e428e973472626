"""Augmentation on a GPU: what each stage of a plan costs, beside a copy of as many bytes and beside other libraries.

A stage reads each uint8 image once and writes it once, and so does the copy. torchvision and kornia draw once for the whole
batch what is done to it, and here every image has a draw of its own; both are given the batch in the layout and dtype that
they work on, NCHW, uint8 and float32 in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from itertools import count, cycle
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mixops import Key, augment_images
from mixops.augment.composition import Augmentation
from mixops.augment.operations import Filter, Op
from mixops.augment.plan import AugmentPlan
from mixops.augment.registry import parse_augment
from mixops.kernels.augment.launch import run, send

from .device import Clocks, run_ahead
from .kernel_calls import SETS
from .measure import Report, conditions, quartiles, take_turns

COLUMNS = ("path", "stage", "GPU µs", "call µs", "host µs", "images/s", "share of a copy of the same bytes")
POLICIES = (
    "TrivialAugmentWide", "RandAugment", "AutoAugment", "AugMix", "rand-m9-mstd0.5-inc1", "ThreeAugment",
    "ColorJitter(0.4, 0.4, 0.4)", "GaussianBlur", "RandomErasing(1.0)", "RandomErasing(1.0, value='pixel')",
    "[TrivialAugmentWide(), RandomErasing(0.1)]",
)  # fmt: skip
OPERATIONS: dict[Op, float] = {
    Op.ROTATE: 17.0, Op.SHEAR_X: 0.2, Op.TRANSLATE_X: 20.0, Op.BRIGHTNESS: 1.3, Op.COLOR: 1.3, Op.CONTRAST: 1.3,
    Op.SHARPNESS: 1.7, Op.POSTERIZE: 4, Op.SOLARIZE: 128, Op.AUTOCONTRAST: 0, Op.EQUALIZE: 0, Op.HUE: 0.1,
}  # fmt: skip
_PLANS = 8  # of one batch each its own cost
_KINDS = {"GPU µs": "", "call µs": "call ", "host µs": "host "}


@dataclass(frozen=True)
class Case:
    """A stage as somebody does it; ``captured`` can be replayed as a graph, ``call`` is what a training loop calls."""

    path: str
    stage: str
    captured: Callable[[], object] | None
    call: Callable[[], object]


def reports(batch: int, size: int, rounds: int, device: torch.device) -> Iterator[Report]:
    """The table as far as it has come: policies, single operations, other libraries."""
    if device.type == "cuda":
        stages: list[str | Op] = [*POLICIES, *OPERATIONS]
        run_ahead([partial(_compile, stage, batch, size) for stage in stages], "compiling")
    clocks, told = Clocks(device, calls=10), conditions(("torchvision", "kornia", "triton"))
    images = _images(batch, size, device)
    rows: list[list[Any]] = []
    groups = (
        [_ours(stage, images) for stage in POLICIES], [_ours(stage, images) for stage in OPERATIONS], list(_theirs(images))
    )  # fmt: skip
    for cases in groups:
        if cases:
            rows += _measured(cases, images, rounds, clocks)
            yield _report(rows, batch, size, told)


def plans_of(stage: str | Op, batch: int, size: int) -> list[AugmentPlan]:
    """Some plans of a stage: those of a policy, or one operation on every image."""
    if isinstance(stage, Op):
        return [one_operation(stage, batch, size)]
    augmentation = parse_augment(stage)
    assert augmentation is not None
    return [augmentation.draw(Key(step=i), np.arange(batch), (size, size)) for i in range(_PLANS)]


def one_operation(op: Op, batch: int, size: int) -> AugmentPlan:
    """A plan that does ``op`` to every image."""
    plan = Augmentation([]).draw(Key(), np.arange(batch), (size, size))
    one = {
        "op": np.full((batch, 1), op, plan.op.dtype), "arg": np.full((batch, 1), OPERATIONS[op], np.float32),
        "filter": np.full((batch, 1), Filter.BILINEAR, plan.filter.dtype), "fill": np.zeros((1, 3), np.uint8),
    }  # fmt: skip
    return AugmentPlan(**{**vars(plan), **one})


def _images(batch: int, size: int, device: torch.device) -> list[Tensor]:
    """Sets of smooth pictures: of noise, an equalised or blurred image is no usual one."""
    coarse = torch.rand(SETS, batch, 3, max(size // 8, 2), max(size // 8, 2), generator=torch.Generator().manual_seed(0))
    return [
        torch.nn.functional.interpolate(x.to(device), size=(size, size), mode="bicubic").mul(255).clamp(0, 255).byte()
        .permute(0, 2, 3, 1).contiguous() for x in coarse
    ]  # fmt: skip


def _ours(stage: str | Op, images: list[Tensor]) -> Case:
    batch, size = images[0].shape[:2]
    plans = plans_of(stage, batch, size)
    sent = [send(plan, images[0].device) for plan in plans]
    outs = [torch.zeros_like(x) for x in images]
    prepared, drawn, sets, steps = cycle(sent), cycle(plans), cycle(list(zip(images, outs, strict=True))), count()

    def captured() -> None:
        x, out = next(sets)
        run(x, next(prepared), out)

    augmentation = None if isinstance(stage, Op) else parse_augment(stage)

    def call() -> object:
        if augmentation is None:
            plan = next(drawn)
        else:
            plan = augmentation.draw(Key(step=next(steps)), np.arange(batch), (size, size))
        return augment_images(next(sets)[0], plan, backend="triton")

    return Case("mixstage", stage.name.lower() if isinstance(stage, Op) else stage, captured, call)


def _compile(stage: str | Op, batch: int, size: int) -> None:
    """Leaves compiled kernels in Triton's cache on disk; run in a process of its own."""
    image = torch.zeros(batch, size, size, 3, dtype=torch.uint8, device="cuda")
    for plan in plans_of(stage, batch, size):
        run(image, send(plan, image.device), torch.zeros_like(image))


def _theirs(images: list[Tensor]) -> Iterator[Case]:
    """What others have of it, on whole batches."""
    planes = [x.permute(0, 3, 1, 2).contiguous() for x in images]
    if find_spec("torchvision"):
        from torchvision.transforms import v2

        made = {
            "TrivialAugmentWide": v2.TrivialAugmentWide(), "RandAugment": v2.RandAugment(),
            "AutoAugment": v2.AutoAugment(), "ColorJitter(0.4, 0.4, 0.4)": v2.ColorJitter(0.4, 0.4, 0.4),
            "GaussianBlur": v2.GaussianBlur(23, (0.1, 2.0)), "RandomErasing(1.0)": v2.RandomErasing(1.0),
        }  # fmt: skip
        for stage, transform in made.items():
            yield Case("torchvision", stage, None, partial(_next_of, transform, cycle(planes)))
    if find_spec("kornia"):
        from kornia import augmentation
        from kornia.augmentation import auto

        floats = [x / 255 for x in planes]
        random = {
            "TrivialAugmentWide": augmentation.AugmentationSequential(auto.TrivialAugment()),
            "RandAugment": augmentation.AugmentationSequential(auto.RandAugment(n=2, m=9)),
            "ColorJitter(0.4, 0.4, 0.4)": augmentation.ColorJitter(0.4, 0.4, 0.4, p=1.0),
            "GaussianBlur": augmentation.RandomGaussianBlur((23, 23), (0.1, 2.0), p=1.0),
            "RandomErasing(1.0)": augmentation.RandomErasing(p=1.0),
        }  # fmt: skip
        for stage, transform in random.items():
            yield Case("kornia", stage, None, partial(_next_of, transform, cycle(floats)))


def _next_of(transform: Callable[[Tensor], object], images: Iterator[Tensor]) -> object:
    return transform(next(images))


def _measured(cases: list[Case], images: list[Tensor], rounds: int, clocks: Clocks) -> list[list[Any]]:
    moved = 2 * images[0].numel()
    ready: dict[str, Callable[[], Callable[[], float]]] = {"copy": partial(clocks.copy, moved)}
    for i, case in enumerate(cases):
        busy = partial(clocks.busy, case.call) if case.captured is None else partial(clocks.graph, case.captured)
        ready |= {f"{i}": busy, f"call {i}": partial(clocks.called, case.call), f"host {i}": partial(clocks.host, case.call)}
    seconds = take_turns(ready, rounds=rounds, describe="measuring augmentation")
    rows: list[list[Any]] = []
    for i, case in enumerate(cases):
        times = [quartiles(1e6 * seconds[f"{kind}{i}"]) for kind in _KINDS.values()]
        share = quartiles(seconds["copy"] / seconds[f"{i}"])
        rows.append([case.path, case.stage, *times, quartiles(len(images[0]) / seconds[f"{i}"]), share])
    return rows


def _report(rows: list[list[Any]], batch: int, size: int, told: dict[str, str]) -> Report:
    notes = [
        f"{batch} uint8 images of {size} x {size}. Medians of alternated rounds (quartiles in brackets). GPU: with the plan "
        "on the device, replayed as a CUDA graph; of other libraries the sum of what the device did. Call: from Python, the "
        "plan's draw and its way to the device included, whoever is slower. Host: until a call returns.",
        "torchvision and kornia do to the whole batch what they draw once (kornia with a strength for each image), on NCHW "
        "uint8 and float32; kornia's TrivialAugment and RandAugment have other operations than the papers'.",
    ]
    return Report("Augmentation on CUDA", COLUMNS, list(rows), told, notes)
