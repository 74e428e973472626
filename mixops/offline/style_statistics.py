"""Style as the mean and spread of each channel of a feature map, and what follows from it.

    AdaIN(f, g) = std(g) (f - mean(f)) / std(f) + mean(g),    std = sqrt(var + 1e-5)        (arXiv 1703.06868, eq. 8)

over the positions of a map, var with n - 1 below, as in the code that StyleMix (CVPR 2021) uses. Classes whose mean styles
are far apart give stylised images that look like neither, so that StyleMix lets these be mixed as they are:

    gamma = tanh(D[y, y'] / delta),    D[a, b] = mean((style of a - style of b)^2)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..apply.targets import check_labels
from ..runtime.checks import check_array, check_count, check_indices, check_number, check_sequence, check_tensor, check_type

_LEAST_VARIANCE = 1e-5
_SAME_CLASS = 2.0  # what the authors take for the distance of a class from itself


def check_map(name: str, value: Any) -> Float[Tensor, "b c *space"]:
    """``value``, a floating map (b, c, ...) of at least two positions, whose variance there is."""
    found = check_tensor(name, value)
    if not found.is_floating_point() or found.ndim < 3 or 0 in found.shape or found[0, 0].numel() < 2:
        raise ValueError(
            f"{name} must be a floating map (b, c, ...) of at least two positions, "
            f"got {found.dtype} of shape {tuple(found.shape)}"
        )
    return found


def mean_and_std(features: Float[Tensor, "b c *space"]) -> tuple[Float[Tensor, "b c *ones"], Float[Tensor, "b c *ones"]]:
    """Mean and spread over the positions of each channel, in the shape (b, c, 1, ...)."""
    positions = tuple(range(2, features.ndim))
    variance, mean = torch.var_mean(features, positions, keepdim=True)
    return mean, (variance + _LEAST_VARIANCE).sqrt()


def adaptive_instance_norm(
    content: Float[Tensor, "b c *space"], style: Float[Tensor, "b c *space"]
) -> Float[Tensor, "b c *space"]:
    """``content`` with the mean and spread that each channel of ``style`` has.

    Maps of one floating dtype with the same rows and channels; their positions may differ. Raises ``ValueError`` or
    ``TypeError`` naming the argument.
    """
    check_map("content", content)
    check_map("style", style)
    if style.shape[:2] != content.shape[:2] or style.device != content.device:
        raise ValueError(
            f"style must have the rows, channels and device of content, {tuple(content.shape[:2])} on {content.device}, "
            f"got {tuple(style.shape[:2])} on {style.device}"
        )
    if style.ndim != content.ndim:
        raise ValueError(f"style must have the {content.ndim} axes of content, got {style.ndim}")
    mean, std = mean_and_std(content)
    style_mean, style_std = mean_and_std(style)
    return (content - mean) / std * style_std + style_mean


def style_vectors(maps: Sequence[Float[Tensor, "b c *space"]]) -> Float[Tensor, "b v"]:
    """Means and spreads of all channels of some layers' maps, one vector an image: v = 2 * the sum of their channels.

    The authors take four layers of VGG-19. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    found = [check_map("maps", part) for part in check_sequence("maps", maps, "a list of maps")]
    if not found or any(len(part) != len(found[0]) for part in found):
        raise ValueError(f"maps must be maps of the same images, got {[len(part) for part in found]} rows")
    return torch.cat([part.flatten(1) for layer in found for part in mean_and_std(layer)], 1)


def class_style_distances(
    vectors: Float[Tensor, "n v"], labels: Int64[Tensor, " n"], num_classes: int
) -> Float64[np.ndarray, "classes classes"]:
    """Mean squared difference between the mean style vectors of each two classes; NaN for classes without an image.

    ``vectors`` are those of the images of a data set, as ``style_vectors`` gives them, ``labels`` their class numbers. (The
    authors' sum leaves out all but one of a batch's images of a class.) Raises ``ValueError`` or ``TypeError`` naming the
    argument.
    """
    found = check_array("vectors", vectors).detach()
    if found.ndim != 2 or not found.is_floating_point():
        raise ValueError(f"vectors must be floating (n, v), got {found.dtype} of shape {tuple(found.shape)}")
    numbers = check_array("labels", labels)
    classes = check_labels(numbers, check_count("num_classes", num_classes))
    if len(numbers) != len(found):
        raise ValueError(f"labels must be those of the {len(found)} vectors, got {len(numbers)}")
    rows, index = found.cpu().double().numpy(), numbers.cpu().numpy()
    total = np.zeros((classes, rows.shape[1]))
    np.add.at(total, index, rows)
    with np.errstate(invalid="ignore"):  # 0 / 0 of a class that does not occur
        mean = total / np.bincount(index, minlength=classes)[:, None]
    distances = np.empty((classes, classes))
    for row, one in zip(distances, mean, strict=True):
        row[:] = ((one - mean) ** 2).mean(1)
    return distances


def class_gammas(
    labels: Int64[Tensor, " b"],
    partner: Int64[np.ndarray, " b"],
    distances: Float64[np.ndarray, "classes classes"],
    *,
    delta: float = 3.0,
) -> Float64[np.ndarray, " b"]:
    """How much of each pair stays unstylised, by the distance of its classes: tanh(D / delta) (the authors' auto-gamma).

    A class is taken to be 2 from itself, as the authors do. ``delta`` > 0 is 3 for CIFAR-100 and 1 for CIFAR-10 in their
    runs. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    if not isinstance(distances, np.ndarray) or distances.dtype != np.float64:
        raise TypeError(f"distances must be a float64 array (classes, classes), got {type(distances).__name__}")
    if distances.ndim != 2 or distances.shape[0] != distances.shape[1] or not len(distances):
        raise ValueError(f"distances must have shape (classes, classes), got {distances.shape}")
    delta = check_number("delta", delta, 0, above=True)
    numbers = check_array("labels", labels)
    check_labels(numbers, len(distances))
    check_type("partner", partner, np.ndarray, "a NumPy array of row numbers")
    rows = check_indices("partner", partner, len(numbers))
    if len(rows) != len(numbers):
        raise ValueError(f"partner must have one row for each of the {len(numbers)} labels, got {len(rows)}")
    own = numbers.cpu().numpy()
    far = distances[own, own[rows]] + _SAME_CLASS * (own == own[rows])
    if not (far >= 0).all():
        raise ValueError("distances must be at least 0 for all pairs of labels, got one that is not, or NaN")
    with np.errstate(over="ignore"):  # a tiny delta
        return np.tanh(far / delta)
