"""Trains with timm's own parts (model, optimiser, schedule, averaged weights), mixing inside the loader.

    python timm_train.py imagenet/train imagenet/val --model vit_small_patch16_224

The lines that end in "# changed" are all that differs from ``create_dataset``, ``create_loader`` and ``Mixup`` of timm:
docs/moving-from-timm.md shows the same change to timm's training script.
"""

from pathlib import Path
from typing import Annotated

import timm
import torch
import typer
from timm.loss import SoftTargetCrossEntropy
from timm.optim import create_optimizer_v2
from timm.scheduler import create_scheduler_v2
from timm.utils import ModelEmaV3, accuracy

from mixstage.loaders import ImageLoader  # changed
from mixstage.loaders.classes import check_same_classes
from mixstage.mixops.mixers.registry import parse_mixer  # changed


def main(
    train: Path,
    val: Path,
    model: str = "vit_small_patch16_224",
    mixer: Annotated[str, typer.Option(help="Takes --mixup, --cutmix, --mixup-switch-prob and --mixup-mode in.")] = (
        "Switch([MixUp(0.8), CutMix(1.0)])"
    ),
    smoothing: float = 0.1,
    backend: str = "dali",
    epochs: int = 300,
    batch_size: int = 256,
    size: int = 224,
    lr: float = 1e-3,
) -> None:
    """Trains a model of timm on images that the loader mixes."""
    torch.manual_seed(0)
    options = {"backend": backend, "batch_size": batch_size, "size": size}  # changed
    loader = ImageLoader(train, mixer=parse_mixer(mixer), smoothing=smoothing, **options)  # changed
    loader_eval = ImageLoader(val, split="val", **options)  # changed
    check_same_classes(loader.classes, loader_eval.classes)
    device = loader.device  # changed
    network = timm.create_model(model, num_classes=loader.num_classes).to(device)
    averaged = ModelEmaV3(network, decay=0.9998)
    optimizer = create_optimizer_v2(network, opt="adamw", lr=lr, weight_decay=0.05)
    scheduler, epochs = create_scheduler_v2(optimizer, "cosine", num_epochs=epochs, warmup_epochs=5, warmup_lr=1e-6)
    loss_of = SoftTargetCrossEntropy()
    for epoch in range(epochs):
        network.train()
        for images, targets in loader:  # changed: images come mixed, targets smoothed, both on the device
            with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
                loss = loss_of(network(images), targets)
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            averaged.update(network)
        scheduler.step(epoch + 1)
        right = seen = 0.0
        averaged.eval()
        with torch.inference_mode():
            for images, labels in loader_eval:
                right += accuracy(averaged.module(images), labels)[0].item() * len(labels)
                seen += len(labels)
        print(f"epoch {epoch}: loss {loss.item():.3f}, top-1 of the averaged weights {right / seen:.2f} %")
    loader.close()
    loader_eval.close()


if __name__ == "__main__":
    typer.run(main)
