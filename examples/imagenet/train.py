"""Trains a timm model on ImageNet by a recipe, with mixing and augmentation inside the loader.

    python train.py --config torchvision_resnet50 --train imagenet/train --val imagenet/val     one GPU, or the CPU
    torchrun --nproc-per-node 8 train.py --config torchvision_resnet50 ...                      eight GPUs
    sbatch train.slurm --config torchvision_resnet50 ...                                        many nodes
    torchrun ... train.py --config torchvision_resnet50 ... --resume                            goes on where it was

``recipe.py`` has the options; each can stand in the recipe's file or on the command line, which wins.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

import torch
import typer
from recipe import Recipe
from run import Run
from torch import distributed


@contextmanager
def errors_in_a_line() -> Iterator[None]:
    """Ends the program without a traceback where an option is wrong, a file is missing or a package."""
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        sys.exit(f"train.py: {error}")


def main(**options: Any) -> None:
    """Trains a model of timm on images that the loader mixes."""
    with errors_in_a_line():
        recipe = Recipe(**options)
    device = torch.device(recipe.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    rank, world_size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
    if device.type == "cuda":
        device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", 0)))
        torch.cuda.set_device(device)
        torch.backends.cudnn.benchmark = True
        torch.set_float32_matmul_precision("high")
    if world_size > 1:
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    recipe.out.mkdir(parents=True, exist_ok=True)
    with errors_in_a_line():
        run = Run(recipe, rank, world_size, device)
    try:
        run.train()
    finally:
        run.close()
        if world_size > 1:
            distributed.destroy_process_group()


main.__signature__ = signature(Recipe, eval_str=True)  # one option a field
if __name__ == "__main__":
    typer.run(main)
