"""The model of a recipe, and what its classifier sees.

Dense MultiMix trains the classifier at every position of the last feature map; what is validated is then the mean over
positions, which for a linear classifier is the classifier of the mean. Vision transformers therefore read out the average of
their patches: a class token would be validated and never trained.
"""

from __future__ import annotations

import timm
import torch
import torch.nn.functional as F
from recipe import Recipe
from torch import Tensor, nn


def create_model(recipe: Recipe, classes: int) -> nn.Module:
    """A timm model with the recipe's changes. Raises ``ValueError`` if it has no dense read-out and needs one."""
    options = {"drop_path_rate": recipe.drop_path} if recipe.drop_path else {}
    model = timm.create_model(recipe.model, num_classes=classes, **options)
    if recipe.dense and hasattr(model, "num_prefix_tokens"):  # the final norm stays one of tokens, not of their average
        model = timm.create_model(recipe.model, num_classes=classes, global_pool="avg", fc_norm=False, **options)
    if recipe.small_stem:
        use_small_stem(model)
    if recipe.blurpool:
        add_blurpool(model)
    if recipe.dense:
        check_dense(model, recipe.val_size)
    return model


def embed(model: nn.Module, images: Tensor, dense: bool) -> Tensor:
    """What the classifier of a timm model sees: (b, d), or dense, a feature map (b, d, h, w) or patch tokens (b, r, d)."""
    features = model.forward_features(images)
    if not dense:
        return model.forward_head(features, pre_logits=True)
    return features if features.ndim == 4 else features[:, model.num_prefix_tokens :]


@torch.no_grad()
def check_dense(model: nn.Module, size: int) -> None:
    """Raises ``ValueError`` unless the logits are the mean over positions of what the classifier makes of each."""
    model.eval()
    images = torch.linspace(-2, 2, 3 * size * size).view(1, 3, size, size)
    features, expected = embed(model, images, dense=True), model(images)
    tokens = features.flatten(2).mT if features.ndim == 4 else features
    if not torch.allclose(model.get_classifier()(tokens).mean(1), expected, atol=1e-4, rtol=1e-3):
        raise ValueError(f"dense must be given a model that classifies its last map's mean, got {type(model).__name__}")
    model.train()


def use_small_stem(model: nn.Module) -> None:
    """The stem that the papers train ResNets with on CIFAR's 32 pixels."""
    if not isinstance(getattr(model, "conv1", None), nn.Conv2d) or not hasattr(model, "maxpool"):
        raise ValueError(f"small_stem must be given a ResNet with one convolution in its stem, got {type(model).__name__}")
    model.conv1 = nn.Conv2d(3, model.conv1.out_channels, 3, padding=1, bias=False)
    model.maxpool = nn.Identity()


class BlurredConv2d(nn.Module):
    """A convolution behind a blur with the binomial filter (1 2 1)^T (1 2 1) / 16."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        self.conv = conv
        line = torch.tensor([1.0, 2.0, 1.0]) / 4
        self.register_buffer("blur", torch.outer(line, line).expand(conv.in_channels, 1, 3, 3).clone())

    def forward(self, x: Tensor) -> Tensor:
        """The convolution of the blurred map."""
        return self.conv(F.conv2d(x, self.blur.to(x.dtype), padding=1, groups=x.shape[1]))


def add_blurpool(module: nn.Module) -> None:
    """Puts a blur before every convolution that has a stride and at least 16 channels, as ffcv-imagenet does."""
    for name, child in module.named_children():
        if isinstance(child, nn.Conv2d) and max(child.stride) > 1 and child.in_channels >= 16:
            setattr(module, name, BlurredConv2d(child))
        else:
            add_blurpool(child)
