"""The plan of a batch's crops: what is cut out of each image, by which filter it is resized, and how it is flipped.

    stored image  ->  window  ->  resized to the output less its margins  ->  margins filled  ->  flipped

Drawn for rows of the global batch from words of their own (``words.py``), executed by ``pipelines`` without randomness.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import numpy as np
from jaxtyping import Bool, Float64, Int64

from ..key import Key
from ..runtime.checks import shown
from .flips import Flip, draw_flips
from .words import filter_numbers, row_words

Interpolation = Literal["nearest", "bilinear", "bicubic", "lanczos"]
PaddingMode = Literal["constant", "edge", "reflect"]  # torchvision's names; constant is black


@dataclass(frozen=True, eq=False)
class Cut:
    """Windows of b images in pixels as stored, and how many pixels of the output lie outside of each image.

    ``windows`` are (top, left, height, width), ``margins`` (top, left, bottom, right) of the output, None where all are 0.
    """

    windows: Float64[np.ndarray, "b 4"]
    margins: Int64[np.ndarray, "b 4"] | None = None


@dataclass(frozen=True, eq=False)
class CropPlan:
    """What is cut out of each of b decoded images, and how it becomes an output of ``size`` (height, width).

    ``windows`` are (top, left, height, width) in pixels of the stored image (EXIF rotation not applied, as in torchvision):
    whole numbers that are cut out first, or, where they ``spill``, any numbers, and the filter reads beyond their edges, as
    a crop of a resized image does. Each becomes the output less its ``margins`` (top, left, bottom, right), which are filled
    by ``padding_mode``. ``interpolations`` are the names of Pillow's filters. ``flips`` are mirrored left to right,
    ``vertical_flips`` upside down.
    """

    windows: Float64[np.ndarray, "b 4"]
    flips: Bool[np.ndarray, " b"]
    vertical_flips: Bool[np.ndarray, " b"]
    interpolations: tuple[Interpolation, ...]
    size: tuple[int, int]
    spill: bool
    margins: Int64[np.ndarray, "b 4"] | None = None
    padding_mode: PaddingMode | None = None

    @property
    def resized(self) -> bool:
        """Whether pixels of any row are resized, and not only cut out."""
        margins = 0 if self.margins is None else self.margins[:, :2] + self.margins[:, 2:]
        as_stored = (self.windows[:, 2:] == np.array(self.size) - margins).all()
        return not (as_stored and np.array_equal(self.windows, np.rint(self.windows)))

    def row(self, i: int) -> CropPlan:
        """The plan of row ``i`` alone."""
        one = slice(i, i + 1)
        return replace(
            self,
            windows=self.windows[one],
            flips=self.flips[one],
            vertical_flips=self.vertical_flips[one],
            interpolations=self.interpolations[one],
            margins=None if self.margins is None else self.margins[one],
        )


class CropLaw(Protocol):
    """Draws what is cut out, for rows of a global batch."""

    @property
    def spill(self) -> bool:
        """Whether windows are crops of a resized image, so that the filter reads beyond them."""
        ...

    @property
    def interpolation(self) -> Interpolation | Literal["random"]:
        """The filter, or "random": bilinear or bicubic, drawn for each image as timm does."""
        ...

    @property
    def padding_mode(self) -> PaddingMode | None:
        """What is shown outside of the image, None where windows never reach beyond it."""
        ...

    def cut(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"], size: tuple[int, int]) -> Cut:
        """Windows and margins for images of ``sizes`` (height, width) and outputs of ``size``; ``u`` of ``row_words``."""
        ...


def check_law(name: str, law: Any) -> CropLaw:
    """``law``, which has what a crop law has and is no class of one. Raises ``TypeError``."""
    parts = ("spill", "interpolation", "padding_mode", "cut")
    if isinstance(law, type) or not all(hasattr(law, part) for part in parts):
        raise TypeError(f"{name} must be a crop law such as RandomResizedCrop(), got {shown(law)}")
    found: CropLaw = law
    return found


def draw_crops(
    key: Key,
    rows: Int64[np.ndarray, " b"],
    sizes: Int64[np.ndarray, "b 2"],
    law: CropLaw,
    flip: Flip,
    size: tuple[int, int],
) -> CropPlan:
    """The crops and flips of contiguous ``rows`` of the global batch that ``key`` names; ``sizes`` (height, width)."""
    u = row_words(key, rows)
    cut = law.cut(u, sizes, size)
    flips, vertical_flips = draw_flips(u, flip)
    interpolations = _interpolations(law, u)
    return CropPlan(cut.windows, flips, vertical_flips, interpolations, size, law.spill, cut.margins, law.padding_mode)


def concatenate_crops(plans: Sequence[CropPlan]) -> CropPlan:
    """One plan for the concatenated rows of plans that one law has drawn for one size."""
    first = plans[0]
    if len(plans) == 1:
        return first
    margins = None
    if first.margins is not None:
        margins = np.concatenate([plan.margins for plan in plans if plan.margins is not None])
    return replace(
        first,
        windows=np.concatenate([plan.windows for plan in plans]),
        flips=np.concatenate([plan.flips for plan in plans]),
        vertical_flips=np.concatenate([plan.vertical_flips for plan in plans]),
        interpolations=tuple(name for plan in plans for name in plan.interpolations),
        margins=margins,
    )


def _interpolations(law: CropLaw, u: Float64[np.ndarray, "b words"]) -> tuple[Interpolation, ...]:
    if law.interpolation != "random":
        return (law.interpolation,) * len(u)
    return tuple("bilinear" if number < 0.5 else "bicubic" for number in filter_numbers(u).tolist())
