"""The optimiser of a recipe: timm's, with the parameters in two groups, those that decay and those that do not."""

from __future__ import annotations

import torch
from recipe import Recipe
from timm.optim import create_optimizer_v2
from torch import nn

NORMS = (nn.modules.batchnorm._NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm)


def make_optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    """SGD with momentum 0.9, AdamW or LAMB."""
    free = parameters_without_decay(recipe.no_decay, model)
    groups = [
        {"params": [p for name, p in model.named_parameters() if (name in free) == stays], "weight_decay": decay}
        for stays, decay in ((False, recipe.weight_decay), (True, 0.0))
    ]
    name = "momentum" if recipe.optimizer == "sgd" and not recipe.nesterov else recipe.optimizer  # timm's "sgd" is Nesterov
    return create_optimizer_v2([group for group in groups if group["params"]], name, recipe.lr)


def parameters_without_decay(no_decay: str, model: nn.Module) -> set[str]:
    """The names of the parameters that are not decayed.

    "vectors": all of one axis, and what the model names (timm, and with it DeiT and ConvNeXt); "norms": those of
    normalisation layers (torchvision, ffcv-imagenet); "none": none.
    """
    if no_decay == "none":
        return set()
    if no_decay == "norms":
        norms = {name: module for name, module in model.named_modules() if isinstance(module, NORMS)}
        return {f"{name}.{own}" for name, module in norms.items() for own, _ in module.named_parameters(recurse=False)}
    named = getattr(model, "no_weight_decay", set)()
    return {name for name, p in model.named_parameters() if p.ndim <= 1 or name.endswith(".bias") or name in named}
