"""The loaders of a recipe."""

from __future__ import annotations

from typing import Any

import torch
from recipe import Recipe

from mixstage.loaders import ImageLoader, Sizes
from mixstage.mixops import CenterCrop, PaddedRandomCrop, RandomResizedCrop
from mixstage.mixops.augment.registry import parse_augment


def train_loader(recipe: Recipe, device: torch.device) -> ImageLoader:
    """The loader of all epochs; its ``mixup_enabled`` is switched off for the last ones."""
    mixer = recipe.mixing if recipe.mixes_in_loader() else None
    law = RandomResizedCrop((recipe.min_scale, 1.0), interpolation=recipe.interpolation)
    return ImageLoader(
        recipe.train, mixer=mixer, size=training_size(recipe), crop=law if recipe.crop == "resized" else PaddedRandomCrop(4),
        augment=parse_augment(recipe.augment, interpolation=recipe.interpolation), repeats=recipe.repeats,
        views=recipe.views,
        **common_options(recipe, device),
    )  # fmt: skip


def val_loader(recipe: Recipe, device: torch.device) -> ImageLoader:
    """The whole validation set: shorter side to val_resize, centre crop."""
    crop = CenterCrop(recipe.val_resize or None, interpolation=recipe.val_interpolation)
    return ImageLoader(recipe.val, size=recipe.val_size, split="val", crop=crop, **common_options(recipe, device))


def training_size(recipe: Recipe) -> int | Sizes:
    """One side, or what it is in the course of the epochs."""
    return Sizes(recipe.sizes, ramp=recipe.size_ramp) if "@" in recipe.sizes else int(recipe.sizes)


def common_options(recipe: Recipe, device: torch.device) -> dict[str, Any]:
    """What both loaders are told. Images that are mixed later stay float32 until then."""
    half = recipe.amp and (recipe.mixes_in_loader() or recipe.mixer == "none")
    return {
        "backend": recipe.backend, "batch_size": recipe.batch_size, "device": device, "seed": recipe.seed,
        "num_threads": recipe.threads or None, "on_error": recipe.on_error, "memory_format": torch.channels_last,
        "dtype": torch.bfloat16 if half else torch.float32,
    }  # fmt: skip
