"""A training step on a batch that is there already, the loader alone, and both together."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from torch import Tensor

from mixops import HMix

from ..backends.base import is_installed
from ..image_loader import ImageLoader
from . import peers
from .epoch_timing import Open, count_batches, measure_epochs
from .measure import Report, quartiles
from .peers import Setting
from .pipeline_table import TORCHVISION, speed, table

TrainOn = Callable[[Tensor, Tensor], None]


def measure_training(setting: Setting, rounds: int) -> Report:
    """ResNet-50 on a GPU, ResNet-18 on the CPU, fed by the DALI loader and by torchvision's.

    Without DALI this package's loader runs on its torchvision backend. Raises ``ImportError`` without torchvision, which has
    the networks.
    """
    if not is_installed("torchvision"):
        raise ImportError("part 'training' needs torchvision: pip install 'mixstage[torchvision]'")
    backend = peers.own_backend()
    ours = f"mixstage {backend}, HMix"
    loaders: dict[str, Open] = {
        ours: lambda: peers.mixstage(setting, backend, HMix()),
        TORCHVISION: lambda: peers.torchvision_loader(setting, mixing=True),
    }
    depth, train_on = _training_step(setting.device)
    waited: list[float] = []
    cases: dict[str, Open] = {
        "a batch that is there": partial(_on_one_batch, loaders[ours], train_on, count_batches(setting))
    }
    cases |= {f"{name}, alone": open_case for name, open_case in loaders.items()}
    cases |= {f"{name}, training": partial(_on_every_batch, loaders[name], train_on, waited) for name in loaders}
    rates = measure_epochs(setting, cases, rounds, "training")
    rows = [[name, quartiles(rates[name]), speed(rates, name, "a batch that is there")] for name in cases]
    gpu = setting.device != "cpu"
    notes = [
        f"ResNet-{depth}, {'bfloat16' if gpu else 'float32'}, channels-last, SGD. "
        f"Training waited {statistics.median(waited):.1%} of the time for this package's loader, median of the epochs."
    ]
    if not gpu:
        notes.append("Without a GPU decoding and training share the processors, so both together are slower than either.")
    return table("Training", setting, ["case", "images/s", "x a batch that is there"], rows, notes)


def _training_step(device: str) -> tuple[int, TrainOn]:
    """The depth of a ResNet that suits the device, and its training on a batch."""
    from torchvision.models import resnet18, resnet50

    gpu = device != "cpu"
    network = (resnet50 if gpu else resnet18)()
    network.to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)

    def train_on(images: Tensor, targets: Tensor) -> None:
        with torch.autocast(device, torch.bfloat16, enabled=gpu):
            logits = network(images)
        classes = torch.nn.functional.pad(targets, (0, logits.shape[1] - targets.shape[1]))
        torch.nn.functional.cross_entropy(logits, classes).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    return 50 if gpu else 18, train_on


@contextmanager
def _on_one_batch(open_loader: Open, train_on: TrainOn, batches: int) -> Generator[Callable[[], Iterable[Any]], None, None]:
    """As many steps as an epoch has, all on the loader's first batch."""
    with open_loader() as epoch:
        images, targets = next(iter(epoch()))

    def train() -> Generator[None, None, None]:
        for _ in range(batches):
            train_on(images, targets)
            yield

    yield train


@contextmanager
def _on_every_batch(
    open_loader: Open, train_on: TrainOn, waited: list[float]
) -> Generator[Callable[[], Iterable[Any]], None, None]:
    """A step on each batch of the loader; ``waited`` gets the share of each epoch that an ``ImageLoader`` was waited for."""
    with open_loader() as epoch:

        def train() -> Generator[None, None, None]:
            loader = epoch()
            for images, targets in loader:
                train_on(images, targets)
                yield
            if isinstance(loader, ImageLoader):
                waited.append(loader.stats().waited)

        yield train
