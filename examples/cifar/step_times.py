"""The time of a training step of each method over the baseline's: ``python -m examples.cifar.step_times --out results``.

All methods take turns, so that what else the machine does meets all of them alike. Pixels are random; the loader's part of
a step, which runs ahead on another thread where there is one, is in it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer

from mixstage.loaders.bench.measure import alternate, conditions, relative
from mixstage.mixops import EmaTeacher, Key

from .data import Images
from .methods import METHODS, Method
from .networks import network
from .table import BASELINE
from .train import DECAY, Settings, autocast, training_loader

_IMAGES = 2560  # of ten classes; an epoch of four steps where five batches are one


def stepper(method: Method, settings: Settings, images: Images, stack: ExitStack) -> Callable[[], None]:
    """A call that trains one step."""
    device = torch.device(settings.device)
    net = network(settings.network, len(images.classes)).to(device, memory_format=torch.channels_last)
    teacher = EmaTeacher(net, DECAY)
    step_loss = method.loss(net, teacher)
    optimizer = torch.optim.SGD(net.parameters(), 1e-3, 0.9)
    loader = stack.enter_context(training_loader(method, 0, settings, images))

    def forever():
        while True:
            yield from loader

    batches = forever()

    def step() -> None:
        images, targets = next(batches)
        with autocast(device):
            loss = step_loss(images, targets, Key())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if method.teacher:
            teacher.update(net)

    return step


def main(
    out: Path = Path("cifar"),
    network: Annotated[str, typer.Option(help="small or preact18.")] = Settings.network,
    device: str = Settings.device,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    steps: Annotated[int, typer.Option(min=1, help="Of one measurement.")] = 4,
) -> None:
    """Times all methods and writes step-times.json."""
    torch.set_num_threads(1)
    settings = Settings(network, device=device)
    pixels = np.random.default_rng(0).integers(0, 256, (_IMAGES, 32, 32, 3), np.uint8)
    images = Images(pixels, np.arange(_IMAGES) % 10, tuple("0123456789"))
    with ExitStack() as stack:
        calls = {method.name: stepper(method, settings, images, stack) for method in METHODS if not method.shuffled}

        def several(call: Callable[[], None]) -> None:
            for _ in range(steps):
                call()

        wait = torch.cuda.synchronize if device.startswith("cuda") else None
        cases = {name: partial(several, call) for name, call in calls.items()}
        seconds = alternate(cases, rounds=rounds, synchronize=wait, describe="steps")
    # a step of a larger batch has as many sources as several steps
    size = {method.name: method.batches for method in METHODS}
    ratio = {name: relative(seconds, name, BASELINE).median / size[name] for name in calls}
    out.mkdir(parents=True, exist_ok=True)
    record = {"ratio": ratio, "rounds": rounds, "conditions": conditions(("numba",))}
    (out / "step-times.json").write_text(json.dumps(record, indent=1) + "\n")


if __name__ == "__main__":
    typer.run(main)
