"""A training run: everything that a checkpoint holds, and the steps that change it.

A resumed run continues with the identical next batch: the loader's state is a position, and everything else that is random,
here and in the loader, is drawn anew from the seed and the step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
from data import train_loader, val_loader
from network import Network
from optimizer import make_optimizer
from recipe import Recipe
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from schedule import learning_rate
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.tensorboard import SummaryWriter
from torchmetrics import MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from mixstage.loaders.classes import check_same_classes
from mixstage.mixops import EmaTeacher, Key


class Run:
    """Model, optimiser, averaged weights and loaders of one rank."""

    def __init__(self, recipe: Recipe, rank: int, world_size: int, device: torch.device) -> None:
        self.recipe, self.rank, self.world_size, self.device = recipe, rank, world_size, device
        self.validation = val_loader(recipe, device)
        self.loader = train_loader(recipe, device)
        check_same_classes(self.loader.classes, self.validation.classes)
        torch.manual_seed(recipe.seed)  # the same weights everywhere
        self.network = Network(recipe, self.loader.num_classes).to(device, memory_format=torch.channels_last)
        self.optimizer = make_optimizer(recipe, self.network.model)
        self.teacher = EmaTeacher(self.network.model, recipe.ema) if recipe.ema else None
        self.step = 0  # of the whole run
        if recipe.resume and (recipe.out / "last.pt").exists():
            self.load(recipe.out / "last.pt")
        if recipe.compile:  # what is mixed in the step is drawn on the CPU, where no compiler can look
            (self.network if self.network.mixer is None else self.network.model).compile()
        self.forward: nn.Module = self.network
        if world_size > 1:
            self.forward = DistributedDataParallel(self.network, [device] if device.type == "cuda" else None)
        self.writer = SummaryWriter(recipe.out) if rank == 0 else None

    def train(self) -> None:
        """The epochs that are left."""
        steps = len(self.loader)
        columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        with Progress(*columns, disable=self.rank != 0) as progress:
            bar = progress.add_task("", total=self.recipe.epochs * steps, completed=self.step)
            for epoch in range(self.step // steps, self.recipe.epochs):
                for size in self.train_epoch(epoch):
                    progress.update(bar, advance=1, description=f"epoch {epoch}, size {size}")
                self.validate(epoch)
                self.save()

    def train_epoch(self, epoch: int) -> Iterator[int]:
        """The steps of an epoch from where the run is; gives the image size of each."""
        recipe, steps = self.recipe, len(self.loader)
        self.loader.mixup_enabled = recipe.mixes(epoch)
        if self.step % steps == 0:
            self.loader.set_epoch(epoch)
        self.network.train()
        losses, began, since = torch.zeros((), device=self.device), time.perf_counter(), self.step
        for images, targets in self.loader:
            lr = learning_rate(recipe, self.step / steps)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            key = Key(recipe.seed, epoch, self.step % steps, self.rank)
            at = self.step * self.world_size + self.rank
            torch.manual_seed((recipe.seed << 40) + at)  # drop path is a function of the step
            with self.autocast():
                loss = self.forward(images, targets, key, self.teacher.module if recipe.distill else None)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            if recipe.clip_grad:
                nn.utils.clip_grad_norm_(self.network.parameters(), recipe.clip_grad)
            self.optimizer.step()
            self.average(key)
            self.step += 1
            losses += loss.detach()
            if self.step % recipe.log_every == 0:
                count, seconds = self.step - since, time.perf_counter() - began
                self.log({
                    "loss": losses.item() / count, "lr": lr, "share of time waiting": self.loader.stats().waited,
                    "images per second": count * recipe.batch_size * self.world_size / seconds,
                })  # fmt: skip
                losses.zero_()
                began, since = time.perf_counter(), self.step
            if recipe.checkpoint_every and self.step % recipe.checkpoint_every == 0:
                self.save()
            yield (images[0] if isinstance(images, tuple) else images).shape[-1]

    def average(self, key: Key) -> None:
        """Moves the averaged weights, or makes them a copy, which is an average of decay 0."""
        if self.teacher is not None and key.step % self.recipe.ema_every == 0:
            self.teacher.decay = self.recipe.ema if key.epoch >= self.recipe.ema_after else 0.0
            self.teacher.update(self.network.model)

    @torch.inference_mode()
    def validate(self, epoch: int) -> None:
        """Top-1 and top-5 of the weights and of their average, over all ranks."""
        averaged = {"": self.network.model} | ({} if self.teacher is None else {" averaged": self.teacher.module})
        classes = self.loader.num_classes
        for name, model in averaged.items():
            tops = {f"top-{k}{name}": MulticlassAccuracy(classes, top_k=min(k, classes), average="micro") for k in (1, 5)}
            metrics = MetricCollection(tops, compute_groups=False).to(self.device)
            model.eval()
            for images, labels in self.validation:
                with self.autocast():
                    logits = model(images)
                    if self.recipe.flip_tta:
                        logits = logits + model(images.flip(3))
                metrics.update(logits.float(), labels)
            figures = {name: value.item() for name, value in metrics.compute().items()}
            self.log(figures)
            if self.rank == 0:
                print(f"epoch {epoch}: " + ", ".join(f"{name} {value:.2%}" for name, value in figures.items()))

    def autocast(self) -> AbstractContextManager[None]:
        """bfloat16 where it is wanted."""
        return torch.autocast(self.device.type, torch.bfloat16) if self.recipe.amp else nullcontext()

    def log(self, figures: dict[str, float]) -> None:
        """To TensorBoard."""
        if self.writer is not None:
            for name, value in figures.items():
                self.writer.add_scalar(name, value, self.step)

    def save(self) -> None:
        """Writes OUT/last.pt, whole or not at all. A loader's position is the same on all ranks."""
        if self.rank == 0:
            state = {
                "model": self.network.model.state_dict(), "optimizer": self.optimizer.state_dict(),
                "loader": self.loader.state_dict(), "step": self.step,
                "teacher": None if self.teacher is None else self.teacher.state_dict(),
            }  # fmt: skip
            torch.save(state, self.recipe.out / "last.pt.part")
            os.replace(self.recipe.out / "last.pt.part", self.recipe.out / "last.pt")

    def load(self, file: Path) -> None:
        """Goes back to where ``save`` was called."""
        state = torch.load(file, map_location=self.device, weights_only=True)
        self.network.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.teacher is not None:
            self.teacher.load_state_dict(state["teacher"])
        self.step = state["step"]
        self.loader.load_state_dict(state["loader"])  # raises if the data or the total batch are others

    def close(self) -> None:
        """Ends the loaders and the log."""
        self.loader.close()
        self.validation.close()
        if self.writer is not None:
            self.writer.close()
