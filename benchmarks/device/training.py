"""End to end: ResNet-50, compiled, trained on a batch that is there, on the loader's, and on torchvision's."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice, repeat
from typing import Any

import torch
from torch import Tensor

from loaders import ImageLoader
from loaders.bench import peers
from loaders.bench.measure import Report, conditions, quartiles, turns
from mixops import HMix

from .run import Reports, Run

_WARM = 10  # steps before the clock starts
THERE, LOADED, PEER = (
    "a batch that is there",
    "mixstage dali, HMix",
    "torchvision DataLoader, v2.RandomChoice([MixUp, CutMix])",
)
Batches = Callable[[], Iterator[tuple[Tensor, Tensor]]]


def reports(run: Run) -> Reports:
    """Images/s of training and the share of the time that it waited for data, after each round."""
    batch, steps = (4, 4) if run.tiny else (256, 100)
    setting = run.setting(batch, steps + (2 if run.tiny else _WARM) + 1)
    options: dict[str, Any] = {"memory_format": torch.channels_last, "num_threads": setting.cores, "size": setting.size}
    options["dtype"] = torch.bfloat16
    waits: dict[str, list[float]] = {}
    with (
        ImageLoader(setting.folder, backend="dali", batch_size=batch, mixer=HMix(), device=setting.device, **options) as own,
        peers.torchvision_loader(setting, mixing=True) as peer,
    ):
        train_on, compiled = _training(run, own.num_classes)
        images, targets = next(iter(own))
        feeds: dict[str, Batches] = {
            THERE: lambda: repeat((images, targets)), LOADED: lambda: iter(own), PEER: lambda: iter(peer()),
        }  # fmt: skip

        def ready(name: str) -> Callable[[], float]:
            train_on(images, targets)  # compiles

            def once() -> float:
                rate, waited = _time(feeds[name], train_on, batch, steps, run)
                waits.setdefault(name, []).append(waited)
                return rate

            return once

        told = conditions(("torchvision", "nvidia-dali-cuda130", "triton"))
        rows: dict[str, list[Any]] = {}
        # the peer afterwards: its worker processes take as long to start as the others to be measured
        for name, rounds, share in ((LOADED, min(run.rounds, 5), 0.5), (PEER, 1 if run.tiny else 3, 0.75)):
            cases = {one: partial(ready, one) for one in (THERE, name)}
            for rates in turns(cases, rounds=rounds, describe="training", seconds=run.left(share)):  # type: ignore[arg-type]
                for one in cases if name == LOADED else (name,):
                    wait = [100 * share for share in waits[one]]
                    relative = quartiles(rates[one] / rates[THERE])
                    rows[one] = [one, quartiles(rates[one]), relative, sorted(wait)[len(wait) // 2]]
                yield "training-cuda", _report(list(rows.values()), batch, steps, compiled(), told)


def _training(run: Run, classes: int) -> tuple[Callable[[Tensor, Tensor], None], Callable[[], float]]:
    """A compiled step of SGD, and the seconds that its first call took."""
    from torchvision.models import resnet18, resnet50

    torch.backends.cudnn.benchmark = True
    network = (resnet18 if run.tiny else resnet50)(num_classes=max(classes, 2))
    network.to(run.device, memory_format=torch.channels_last)
    forward = torch.compile(network, backend="eager" if run.tiny else "inductor")
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)
    dtype, first = torch.bfloat16, []

    def train_on(images: Tensor, targets: Tensor) -> None:
        began = time.perf_counter()
        images = images.to(dtype, memory_format=torch.channels_last)  # what others deliver; another dtype is compiled anew
        with torch.autocast(run.device.type, torch.bfloat16):
            loss = torch.nn.functional.cross_entropy(forward(images), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if not first:
            first.append(time.perf_counter() - began)

    return train_on, lambda: first[0]


def _time(
    feed: Batches, train_on: Callable[[Tensor, Tensor], None], batch: int, steps: int, run: Run
) -> tuple[float, float]:  # fmt: skip
    """Images/s of ``steps`` steps after some, and the share of the time in which the next batch was waited for."""
    batches, waited = feed(), 0.0
    for images, targets in islice(batches, 2 if run.tiny else _WARM):
        train_on(images, targets)
    _synchronize(run)
    began = time.perf_counter()
    for _ in range(steps):
        asked = time.perf_counter()
        images, targets = next(batches)
        waited += time.perf_counter() - asked
        train_on(images, targets)
    _synchronize(run)
    seconds = time.perf_counter() - began
    for _ in batches if not isinstance(batches, repeat) else ():  # what is left of the epoch
        pass
    return batch * steps / seconds, waited / seconds


def _synchronize(run: Run) -> None:
    if run.device.type == "cuda":
        torch.cuda.synchronize()


def _report(rows: list[list[Any]], batch: int, steps: int, compiled: float, told: dict[str, str]) -> Report:
    notes = [
        f"ResNet-50, bfloat16 under autocast, channels-last, torch.compile ({compiled:.0f} s for the first step), SGD; "
        f"batches of {batch}, {steps} steps after {_WARM}. Waited: the share of the time in which the loop had asked for a "
        "batch and had none; the device may have been at work meanwhile.",
    ]
    columns = ("fed by", "images/s", f"x {THERE}", "waited %")
    return Report("Training ResNet-50", columns, rows, told, notes)
