"""Where a mixer has the saliency of its images from: a model's gradient, the images themselves, or a function.

    "gradient"   whoever asks for the plan gives it, in the training step (``gradient_saliency``)
    "spectral"   from the images, without a model (``spectral_saliency``)
    a function   of the images (b, c, h, w), as whoever asks for the plan has them: bytes in a loader

A mixer that has it from the images needs no more than these, so it runs wherever they are, in a loader as well.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

from torch import Tensor

from ...runtime.checks import check_array, check_choice
from .spectral import spectral_map, spectral_saliency

Saliency: TypeAlias = str | Callable[[Any], Any]


def check_source(value: Any) -> Saliency:
    """``value``, "gradient", "spectral" or a function."""
    if isinstance(value, type):
        raise TypeError(f"saliency must be a function of the images, got the class {value.__name__}")
    return value if callable(value) else check_choice("saliency", value, ("gradient", "spectral"), "or a function")


def needs_of(source: Saliency) -> frozenset[str]:
    """What a mixer must be given to have saliency."""
    return frozenset({"saliency" if source == "gradient" else "images"})


def find_saliency(source: Saliency, images: Any, given: Any, *, coarse: bool = False) -> Tensor:
    """The saliency (b, h, w) of images; ``given`` is what came from outside. ``coarse`` may have fewer cells than pixels."""
    if source == "gradient":
        return check_array("saliency", given).detach()
    if source == "spectral":
        return spectral_map(images) if coarse else spectral_saliency(images)
    assert callable(source)
    return check_array("saliency", source(images)).detach()
