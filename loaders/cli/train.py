"""``mixstage train``: a classifier from a folder with train/ and val/ or test/, a line an epoch, and resume.

The checkpoint has the loader's position and the state of torch's generators beside model and optimizer, so that a run that
was stopped after an epoch and resumed ends with the weights of one that was not.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import Progress
from torch import nn

from mixops.mixers.base import Mixer
from mixops.mixers.registry import parse_mixer

from ..arguments import default_threads
from ..classes import check_same_classes
from ..figures import Json, check_output, console_for, write_json
from ..image_loader import ImageLoader
from ..sources.splits import find_splits
from .training import Training, evaluate, small_net


@dataclass(frozen=True)
class EpochResult:
    """Mean training loss, accuracy in [0, 1] on the held-out images, and source and output images a second."""

    epoch: int
    loss: float
    accuracy: float
    images_per_second: float
    outputs_per_second: float


def train(
    root: Annotated[Path, typer.Argument(help="Folder with train/ and val/ or test/, each of class folders.")],
    mixer: Annotated[str, typer.Option(help='Such as "HMix(alpha=1, r=0.75)", or none.')] = "none",
    model: Annotated[str, typer.Option(help="small, or the name of a torchvision model.")] = "resnet18",
    epochs: Annotated[int, typer.Option(min=1)] = 10,
    batch_size: Annotated[int, typer.Option(min=1)] = 64,
    size: Annotated[int, typer.Option(min=1, help="Side of the output in pixels.")] = 224,
    lr: Annotated[float, typer.Option(min=0)] = 0.1,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    backend: Annotated[str, typer.Option(help="dali, ffcv or torchvision.")] = "dali",
    device: Annotated[str | None, typer.Option(help="cuda or cpu; by default what is there.")] = None,
    num_threads: Annotated[int, typer.Option(min=0, help="Threads that load; 0 takes all cores.")] = 0,
    checkpoint: Annotated[Path | None, typer.Option(help="Write this file after each epoch, to go on from.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Go on from this checkpoint.")] = None,
    out: Annotated[Path | None, typer.Option(help="Write the trained weights to this file.")] = None,
    json_file: Json = None,
) -> None:
    """Train a classifier on an image folder. examples/imagenet/train.py is the full recipe for several GPUs."""
    options: dict[str, Any] = {
        "backend": backend, "batch_size": batch_size, "size": size, "seed": seed, "device": device,
        "num_threads": num_threads or default_threads(),
    }  # fmt: skip
    results = train_folder(
        root, parse_mixer(mixer), model, epochs, lr, checkpoint=checkpoint, resume=resume, out=out,
        console=console_for(json_file), **options,
    )  # fmt: skip
    write_json(json_file, {**asdict(results[-1]), "epochs": [asdict(result) for result in results]})


def train_folder(
    root: Path, mixer: Mixer | None, model: str, epochs: int, lr: float, *, checkpoint: Path | None = None,
    resume: Path | None = None, out: Path | None = None, console: Console | None = None, **options: Any,
) -> list[EpochResult]:  # fmt: skip
    """Trains ``model``, "small" or a torchvision model, on ``root/train``, tests it on the held-out images; all epochs.

    ``options`` are those of ``ImageLoader``. Writes the weights to ``out``, and ``checkpoint`` after each epoch, where
    given. Raises ``ValueError`` naming what is missing, or what differs from the run of the checkpoint.
    """
    folders = find_splits(root)
    check_output("checkpoint", checkpoint)
    check_output("out", out)
    console = console or Console()
    torch.manual_seed(options["seed"])
    with ExitStack() as stack:
        loader = stack.enter_context(ImageLoader(folders[0], mixer=mixer, **options))
        test = stack.enter_context(ImageLoader(folders[1], split="val", **options))
        check_same_classes(loader.classes, test.classes)
        net = small_net(loader.num_classes) if model == "small" else _torchvision_model(model, loader.num_classes)
        training = Training(net, loader, epochs=epochs, lr=lr)
        settings = {"model": model, "epochs": epochs, "lr": lr}
        results: list[EpochResult] = []
        if resume is not None:
            results = _load(resume, training, settings)
        progress = stack.enter_context(Progress(console=console))
        task = progress.add_task("training", total=epochs * len(loader), completed=len(results) * len(loader))
        for _ in range(len(results), epochs):
            results.append(_epoch(training, test, lambda: progress.advance(task)))
            console.print(_line(results[-1], epochs), highlight=False)
            if checkpoint is not None:
                _save(checkpoint, training, settings, results)
    if out is not None:
        torch.save(net.state_dict(), out)
    return results


def _epoch(training: Training, test: ImageLoader, on_step: Callable[[], None]) -> EpochResult:
    loss = training.epoch(on_step)
    stats = training.loader.stats()
    accuracy = evaluate(training.model, test)
    return EpochResult(stats.epoch + 1, loss, accuracy, stats.images_per_second, stats.outputs_per_second)


def _line(result: EpochResult, epochs: int) -> str:
    outputs = f", {result.outputs_per_second:,.0f} outputs/s" if result.outputs_per_second > result.images_per_second else ""
    return (
        f"epoch {result.epoch} of {epochs}: loss {result.loss:.4f}, {result.accuracy:.2%} on held-out images, "
        f"{result.images_per_second:,.0f} images/s{outputs}"
    )


def _save(file: Path, training: Training, settings: dict[str, Any], results: list[EpochResult]) -> None:
    state = {"settings": settings, "results": [asdict(result) for result in results], **training.state_dict()}
    part = file.with_name(f".{file.name}.{os.getpid()}.part")
    try:
        torch.save(state, part)
        os.replace(part, file)  # a checkpoint is whole or the one before
    finally:
        part.unlink(missing_ok=True)


def _load(file: Path, training: Training, settings: dict[str, Any]) -> list[EpochResult]:
    if not file.is_file():
        raise ValueError(f"resume must be a checkpoint of mixstage train, got {str(file)!r}, which is no file")
    try:
        state = torch.load(file, map_location="cpu", weights_only=True)
        was, results = state.pop("settings"), [EpochResult(**result) for result in state.pop("results")]
    except Exception as error:  # whatever unpickling raises
        raise ValueError(
            f"resume must be a checkpoint of mixstage train, which --checkpoint writes and --out does not, got {str(file)!r}"
        ) from error
    changed = [f"{name} was {was[name]!r} and is {value!r}" for name, value in settings.items() if was[name] != value]
    if changed:
        raise ValueError(f"resume must go on with the same run, but {'; '.join(changed)}")
    training.load_state_dict(state)
    return results


def _torchvision_model(name: str, classes: int) -> nn.Module:
    try:
        from torchvision.models import get_model, list_models
    except ImportError as error:
        raise ImportError(f"model {name!r} needs torchvision: pip install 'mixstage[torchvision]'") from error
    if name not in list_models():
        raise ValueError(f"model must be 'small' or a torchvision model such as 'resnet18', got {name!r}")
    net: nn.Module = get_model(name, num_classes=classes)
    return net
