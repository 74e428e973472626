"""A run of MosaicML Composer with an ImageLoader that prints each step's loss, bit for bit; a process that can be killed."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import torch
from composer import Callback, ComposerModel, Trainer
from torch import nn
from torch.nn.functional import cross_entropy

from loaders import ImageLoader
from mixops import HMix


class Classifier(ComposerModel):
    """A small net with dropout, which asks for torch's generators as they were."""

    def __init__(self, classes: int, dropout: float) -> None:
        super().__init__()
        self.model = nn.Sequential(
            nn.Conv2d(3, 16, 8, 8), nn.ReLU(), nn.Dropout(dropout), nn.Flatten(), nn.Linear(16 * 16, classes)
        )

    def forward(self, batch):
        return self.model(batch[0])

    def loss(self, outputs, batch):
        return cross_entropy(outputs, batch[1])


class Losses(Callback):
    """Prints each step's loss, and ends the process behind step ``killed`` as nothing that it could catch does."""

    def __init__(self, killed: int) -> None:
        self.killed = killed

    def batch_end(self, state, logger):
        step = state.timestamp.batch.value
        print("step", step, float(state.loss).hex(), flush=True)
        if step == self.killed:
            os.kill(os.getpid(), signal.SIGKILL)


def make(images: Path, out: Path, steps: int, spin: bool, killed: int = 0) -> tuple[ImageLoader, Trainer]:
    """A loader and the Trainer that shows it, at the last checkpoint in ``out`` if there is one."""
    torch.manual_seed(0)
    loader = ImageLoader(images, batch_size=16, size=32, mixer=HMix(), backend="torchvision", device="cpu")
    model, last = Classifier(loader.num_classes, 0.5 if spin else 0.0), out / "latest-rank0.pt"
    trainer = Trainer(
        model=model,
        optimizers=torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9),
        train_dataloader=loader,
        max_duration=f"{steps}ba",
        save_folder=str(out),
        save_interval="5ba",
        save_overwrite=True,
        load_path=str(last) if last.exists() else None,
        callbacks=[Losses(killed)],
        progress_bar=False,
        device="cpu",
        seed=0,
        spin_dataloaders=spin,
    )
    return loader, trainer


if __name__ == "__main__":
    images, out, steps, spin, killed = sys.argv[1:]
    loader, trainer = make(Path(images), Path(out), int(steps), spin == "spin", int(killed))
    if spin != "spin":
        now = trainer.state.timestamp
        loader.set_epoch(now.epoch.value, now.batch_in_epoch.value)
    trainer.fit()
    loader.close()
