"""Trains with Lightning: an ImageLoader is what ``train_dataloader`` returns, and nothing else changes.

    python lightning_train.py imagenet/train imagenet/val --model resnet50

Lightning checkpoints the loader's position with the model, because the loader has ``state_dict`` and ``load_state_dict``; a
run that goes on from a checkpoint in the middle of an epoch gets the identical next batch.
"""

from pathlib import Path
from typing import Annotated, Any

import lightning
import timm
import torch
import torch.nn.functional as F
import typer
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy

from mixstage.loaders import ImageLoader
from mixstage.loaders.classes import check_same_classes
from mixstage.mixops.mixers.registry import parse_mixer


class Classifier(lightning.LightningModule):
    """A timm model under SGD; targets are class numbers or, of mixed images, probabilities."""

    def __init__(self, model: str, classes: int, lr: float) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.model = timm.create_model(model, num_classes=classes)
        self.top1 = MulticlassAccuracy(classes, average="micro")

    def training_step(self, batch: tuple[Tensor, Tensor], step: int) -> Tensor:
        """The loss of a mixed batch."""
        images, targets = batch
        return F.cross_entropy(self.model(images), targets, label_smoothing=0.1)

    def validation_step(self, batch: tuple[Tensor, Tensor], step: int) -> None:
        """Top-1 on images that are not mixed."""
        images, labels = batch
        self.top1(self.model(images), labels)
        self.log("top-1", self.top1, prog_bar=True)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """SGD with momentum."""
        return torch.optim.SGD(self.parameters(), self.hparams["lr"], momentum=0.9, weight_decay=5e-5)


class Images(lightning.LightningDataModule):
    """The two loaders. They are made once there is a process group, so that every rank loads its own share."""

    def __init__(self, train: Path, val: Path, mixer: str, **options: Any) -> None:
        super().__init__()
        self.roots, self.mixer, self.options = (train, val), parse_mixer(mixer), options

    def train_dataloader(self) -> ImageLoader:
        """Mixed images."""
        return ImageLoader(self.roots[0], mixer=self.mixer, device=self.trainer.strategy.root_device, **self.options)

    def val_dataloader(self) -> ImageLoader:
        """Whole images."""
        return ImageLoader(self.roots[1], split="val", device=self.trainer.strategy.root_device, **self.options)


def main(
    train: Path,
    val: Path,
    model: str = "resnet50",
    mixer: Annotated[str, typer.Option(help='Such as "HMix(alpha=1, r=0.75)", or none.')] = "CutMix(1.0)",
    backend: str = "dali",
    epochs: int = 90,
    batch_size: int = 256,
    size: int = 224,
    lr: float = 0.1,
    out: Path = Path("lightning"),
    resume: Annotated[Path | None, typer.Option(help="A checkpoint to go on from.")] = None,
    checkpoint_every: Annotated[int, typer.Option(help="Steps between checkpoints.")] = 1000,
) -> None:
    """Trains a model of timm on images that the loader mixes."""
    lightning.seed_everything(0)
    classes, others = (sorted(entry.name for entry in root.iterdir() if entry.is_dir()) for root in (train, val))
    check_same_classes(classes, others)
    trainer = lightning.Trainer(
        max_epochs=epochs, precision="bf16-mixed" if torch.cuda.is_available() else "32-true", default_root_dir=out,
        callbacks=lightning.pytorch.callbacks.ModelCheckpoint(every_n_train_steps=checkpoint_every, save_top_k=-1),
        use_distributed_sampler=False,  # the loader deals the images to the ranks itself
    )  # fmt: skip
    images = Images(train, val, mixer, backend=backend, batch_size=batch_size, size=size)
    trainer.fit(Classifier(model, len(classes), lr), images, ckpt_path=resume)


if __name__ == "__main__":
    typer.run(main)
