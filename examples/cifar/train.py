"""Trains one method with one seed on CIFAR; what decides the result is in ``Settings``, and nothing else.

    python -m examples.cifar.train cifar10 --method CutMix --seed 0 --out results

The images go through ``ImageLoader``: a window of the image padded by 4, a flip, the method's augmentation and mixing. SGD
with Nesterov's momentum, weight decay 5e-4 and one cycle of the learning rate, or the papers' steps at a half and at three
quarters of the epochs. After each epoch a checkpoint is written, from which the run goes on bit for bit.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console

from mixstage.loaders import ImageLoader
from mixstage.loaders.sources import Arrays
from mixstage.mixops import EmaTeacher, Key, PaddedRandomCrop
from mixstage.mixops.augment.crops import CenterCrop

from .data import MEAN, STD, Images, first_of_each_class, load, shuffled
from .methods import Method, find
from .networks import PreActResNet, network

WATCHED = 5  # every fifth test image is looked at after each epoch, for the curves
DECAY = 0.95  # of the teacher, whose run is short


@dataclass(frozen=True)
class Settings:
    """What all methods of a table share. ``per_class`` training images; None for all of them."""

    network: str = "small"
    epochs: int = 20
    batch_size: int = 128
    lr: float = 0.1
    weight_decay: float = 5e-4
    schedule: str = "cycle"
    per_class: int | None = 1000
    device: str = "cpu"


@dataclass(frozen=True, eq=False)
class Run:
    """A trained net and, an epoch each, its training loss and its accuracy in percent on the images that are watched."""

    net: PreActResNet
    losses: list[float]
    accuracies: list[float]


def train(method: Method, seed: int, settings: Settings, images: Images, test: Images, checkpoint: Path | None) -> Run:
    """Trains a net on some of the training ``images``; goes on from ``checkpoint`` where that is there."""
    known = first_of_each_class(images, settings.per_class)
    if method.shuffled:
        known = shuffled(known, seed)
    device = torch.device(settings.device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = network(settings.network, len(images.classes)).to(device, memory_format=torch.channels_last)
    teacher = EmaTeacher(net, DECAY)
    step_loss = method.loss(net, teacher)
    optimizer = torch.optim.SGD(net.parameters(), settings.lr, 0.9, weight_decay=settings.weight_decay, nesterov=True)
    watched = Images(test.pixels[::WATCHED], test.labels[::WATCHED], test.classes)
    losses: list[float] = []
    accuracies: list[float] = []
    with training_loader(method, seed, settings, known) as loader:
        schedule = learning_rate(optimizer, settings, settings.epochs * len(loader))
        parts: dict[str, Any] = {
            "net": net, "teacher": teacher, "optimizer": optimizer, "schedule": schedule, "loader": loader,
        }  # fmt: skip
        if checkpoint is not None and checkpoint.exists():
            saved = torch.load(checkpoint, map_location=device, weights_only=True)
            for name, part in parts.items():
                part.load_state_dict(saved[name])
            losses, accuracies = saved["losses"], saved["accuracies"]
        for epoch in range(len(losses), settings.epochs):
            net.train()
            total = torch.zeros((), device=device)
            for step, (batch, targets) in enumerate(loader):
                with autocast(device):
                    loss = step_loss(batch, targets, Key(seed, epoch, step))
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                schedule.step()
                if method.teacher:
                    teacher.update(net)
                total += loss.detach()
            losses.append(total.item() / len(loader))
            accuracies.append(accuracy(net, watched, device))
            if checkpoint is not None:
                state = {name: part.state_dict() for name, part in parts.items()}
                torch.save({**state, "losses": losses, "accuracies": accuracies}, partial := checkpoint.with_suffix(".part"))
                os.replace(partial, checkpoint)
    return Run(net.eval(), losses, accuracies)


def training_loader(method: Method, seed: int, settings: Settings, images: Images) -> ImageLoader:
    """The method's batches."""
    rows = settings.batch_size * method.batches * method.repeats
    return ImageLoader(
        Arrays(images.pixels, images.labels, images.classes), backend=backend(), batch_size=rows, size=32, seed=seed,
        device=settings.device, crop=PaddedRandomCrop(4), augment=method.augment, mixer=method.mixer, mean=MEAN, std=STD,
        repeats=method.repeats, repeat_mode="together" if method.repeats > 1 else "dealt", num_threads=1,
        memory_format=torch.channels_last,
    )  # fmt: skip


def backend() -> str:
    """Images that are decoded go through any of them; DALI's is the fastest."""
    return "dali" if importlib.util.find_spec("nvidia.dali") is not None else "torchvision"


def learning_rate(optimizer: torch.optim.Optimizer, settings: Settings, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    """One cycle, or a tenth from a half and a hundredth from three quarters of the steps. Raises ``ValueError``."""
    if settings.schedule == "cycle":
        return torch.optim.lr_scheduler.OneCycleLR(optimizer, settings.lr, total_steps=steps, cycle_momentum=False)
    if settings.schedule == "step":
        return torch.optim.lr_scheduler.MultiStepLR(optimizer, [steps // 2, steps * 3 // 4], 0.1)
    raise ValueError(f"schedule must be 'cycle' or 'step', got {settings.schedule!r}")


def autocast(device: torch.device) -> Any:
    """Half precision on a GPU."""
    return torch.autocast("cuda", torch.bfloat16) if device.type == "cuda" else nullcontext()


def batches(images: Images, device: torch.device, size: int = 500) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """All images as the net takes them, unchanged and in their order, and their labels."""
    with ImageLoader(
        Arrays(images.pixels, images.labels, images.classes), backend=backend(), batch_size=size, size=32, split="val",
        device=device, crop=CenterCrop(32), mean=MEAN, std=STD, num_threads=1, memory_format=torch.channels_last,
    ) as loader:  # fmt: skip
        yield from loader


@torch.no_grad()
def accuracy(net: PreActResNet, images: Images, device: torch.device) -> float:
    """The share of right answers, in percent."""
    net.eval()
    right = 0
    for batch, labels in batches(images, device):
        with autocast(device):
            right += int((net(batch).argmax(1) == labels).sum())
    return 100 * right / len(images.labels)


def main(
    data: Annotated[Path, typer.Argument(help="A folder with train/ and test/.", exists=True, file_okay=False)],
    method: str = "none",
    seed: int = 0,
    out: Path = Path("cifar"),
    epochs: int = Settings.epochs,
    net: Annotated[str, typer.Option("--network", help="small or preact18.")] = Settings.network,
    per_class: Annotated[int, typer.Option(help="Training images a class; 0 for all.")] = 1000,
    device: str = Settings.device,
) -> None:
    """Trains one method and prints its accuracy."""
    settings = Settings(net, epochs, per_class=per_class or None, device=device)
    train_images, test_images = load(data, "train", out), load(data, "test", out)
    run = train(find(method)[0], seed, settings, train_images, test_images, None)
    Console().print(f"{method}, seed {seed}: {accuracy(run.net, test_images, torch.device(device)):.2f} %")


if __name__ == "__main__":
    typer.run(main)
