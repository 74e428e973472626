"""Laws of what is cut out of an image: torchvision's, timm's and DeiT III's crops, drawn for whole batches.

A law is a frozen value; ``cut`` is a pure function of a row's random words and its image's size. Windows lie inside the
image; where a crop reaches beyond it, the output has margins. Torchvision rounds a resized image to whole pixels before it
crops; in the stored image such a window has fractions of pixels, which are kept, so that one resize does both steps.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar, Literal, get_args

import numpy as np
from jaxtyping import Float64, Int64

from ..runtime.checks import check_choice, check_count, check_range, set_fields
from .crop_plan import Cut, Interpolation, PaddingMode
from .words import LEFT, TOP, TRIES


@dataclass(frozen=True)
class RandomResizedCrop:
    """torchvision's ``RandomResizedCrop``; windows have whole pixels.

    ``scale`` is the range of the area's share, ``ratio`` that of width / height, in [0.001, 1000]. ``interpolation`` is
    "nearest", "bilinear", "bicubic", "lanczos" or "random" (timm: bilinear or bicubic, drawn for each image). Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """

    scale: tuple[float, float] = (0.08, 1.0)
    ratio: tuple[float, float] = (3 / 4, 4 / 3)
    interpolation: Interpolation | Literal["random"] = "bilinear"
    spill: ClassVar[bool] = False
    padding_mode: ClassVar[None] = None

    def __post_init__(self) -> None:
        set_fields(
            self,
            scale=check_range("scale", self.scale, 0, 1, above=True),
            ratio=check_range("ratio", self.ratio, 1e-3, 1e3),
            interpolation=_check_interpolation(self.interpolation),
        )

    def cut(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"], size: tuple[int, int]) -> Cut:
        """Windows of the first of ten tries that fits inside the image, else the largest central one."""
        full = sizes.astype(np.float64)
        height, width = full[:, :1], full[:, 1:]

        low, high = self.scale
        area = height * width * (low + (high - low) * u[:, :TRIES])  # (b, tries)
        low, high = (math.log(r) for r in self.ratio)
        aspect = np.exp(low + (high - low) * u[:, TRIES : 2 * TRIES])
        w, h = np.rint(np.sqrt(area * aspect)), np.rint(np.sqrt(area / aspect))
        fits = (w > 0) & (w <= width) & (h > 0) & (h <= height)
        first = fits.argmax(1)[:, None]
        h, w = np.take_along_axis(h, first, 1), np.take_along_axis(w, first, 1)
        top = np.floor(u[:, TOP, None] * (height - h + 1))
        left = np.floor(u[:, LEFT, None] * (width - w + 1))

        low, high = self.ratio
        central_h = np.where(width / height < low, np.maximum(np.rint(width / low), 1), height)
        central_w = np.where(width / height > high, np.maximum(np.rint(height * high), 1), width)
        centre = [(height - central_h) // 2, (width - central_w) // 2, central_h, central_w]
        any_fits = fits.any(1, keepdims=True)
        return Cut(np.where(any_fits, np.concatenate([top, left, h, w], 1), np.concatenate(centre, 1)))


@dataclass(frozen=True)
class PaddedRandomCrop:
    """torchvision's ``RandomCrop(size, padding, padding_mode=mode)``, as CIFAR is trained: nothing is resized.

    ``mode`` is "constant" (black), "edge" or "reflect". Images may have any size of at least the output's less the padding.
    Raises ``ValueError`` naming the argument, and for images that are too small.
    """

    padding: int = 4
    mode: PaddingMode = "constant"
    interpolation: ClassVar[Interpolation] = "nearest"  # of pixels onto themselves
    spill: ClassVar[bool] = False

    def __post_init__(self) -> None:
        _check_padding(self)

    @property
    def padding_mode(self) -> PaddingMode:
        """What is shown outside of the image."""
        return self.mode

    def cut(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"], size: tuple[int, int]) -> Cut:
        """A window of the output's size anywhere in the padded image."""
        return _padded_cut(u, sizes, np.ones_like(sizes, np.float64), size, self.padding, self.mode)


@dataclass(frozen=True)
class ResizeRandomCrop:
    """DeiT III's simple crop (``--src``): ``Resize(resize)`` of the shorter side, ``RandomCrop(size, padding, mode)``.

    ``resize`` is the output's shorter side by default. ``interpolation`` as in ``RandomResizedCrop``, "bicubic" by default.
    Raises ``ValueError`` naming the argument.
    """

    resize: int | None = None
    padding: int = 4
    mode: PaddingMode = "reflect"
    interpolation: Interpolation | Literal["random"] = "bicubic"
    spill: ClassVar[bool] = True

    def __post_init__(self) -> None:
        _check_resize(self)
        _check_padding(self)
        set_fields(self, interpolation=_check_interpolation(self.interpolation))

    @property
    def padding_mode(self) -> PaddingMode:
        """What is shown outside of the image."""
        return self.mode

    def cut(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"], size: tuple[int, int]) -> Cut:
        """A window of the output's size anywhere in the resized and padded image."""
        resized = resized_sizes(sizes, min(size) if self.resize is None else self.resize)
        return _padded_cut(u, resized, sizes / resized, size, self.padding, self.mode)


@dataclass(frozen=True)
class CenterCrop:
    """torchvision's ``Resize(resize)`` of the shorter side followed by ``CenterCrop(size)``; nothing is random.

    ``resize`` is by default the output's longer side / 0.875, rounded; 0 resizes nothing, as ``CenterCrop(size)`` alone.
    ``interpolation`` is "nearest", "bilinear", "bicubic" or "lanczos". Raises ``ValueError`` naming the argument; an output
    that is larger than the resized image is refused.
    """

    resize: int | None = None
    interpolation: Interpolation = "bilinear"
    spill: ClassVar[bool] = True
    padding_mode: ClassVar[None] = None

    def __post_init__(self) -> None:
        _check_resize(self, least=0)
        set_fields(self, interpolation=_check_interpolation(self.interpolation, random=False))

    def resized(self, size: tuple[int, int]) -> int:
        """The shorter side after the resize, for outputs of ``size``."""
        return round(max(size) / 0.875) if self.resize is None else self.resize

    def cut(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"], size: tuple[int, int]) -> Cut:
        """The same window for every row whose image has the same size."""
        crop = np.array(size)
        if self.resize == 0:
            resized = sizes
            if (sizes < crop).any():
                small = sizes[(sizes < crop).any(1)][0].tolist()
                raise ValueError(f"size must be at most that of the images, {small}, got {list(size)}")
        else:
            if self.resized(size) < max(size):
                raise ValueError(f"resize must be at least size={max(size)}, got {self.resized(size)}")
            resized = resized_sizes(sizes, self.resized(size))
        start = np.rint((resized - crop) / 2)  # torchvision: int(round(...)), halves to even
        scale = sizes / resized
        return Cut(np.concatenate([start * scale, crop * scale], 1))


@dataclass(frozen=True)
class Squash:
    """The whole image resized to the output, whatever becomes of its proportions: ``Resize((height, width))``.

    What ConvNeXt evaluates with at 384 pixels, and what Hugging Face's examples do. Raises ``ValueError`` naming the
    argument.
    """

    _: KW_ONLY
    interpolation: Interpolation = "bilinear"
    spill: ClassVar[bool] = False
    padding_mode: ClassVar[None] = None

    def __post_init__(self) -> None:
        set_fields(self, interpolation=_check_interpolation(self.interpolation, random=False))

    def cut(self, u: Float64[np.ndarray, "b words"], sizes: Int64[np.ndarray, "b 2"], size: tuple[int, int]) -> Cut:
        """The whole image."""
        return Cut(np.concatenate([np.zeros_like(sizes), sizes], 1).astype(np.float64))


def resized_sizes(sizes: Int64[np.ndarray, "b 2"], resize: int) -> Int64[np.ndarray, "b 2"]:
    """(height, width) of images whose shorter side is resized to ``resize``; torchvision: int(resize * long / short)."""
    return resize * sizes // sizes.min(1, keepdims=True)


def _padded_cut(
    u: Float64[np.ndarray, "b words"],
    resized: Int64[np.ndarray, "b 2"],
    scale: Float64[np.ndarray, "b 2"],
    size: tuple[int, int],
    padding: int,
    mode: PaddingMode,
) -> Cut:
    """Windows of ``size`` anywhere in images of ``resized`` pixels with ``padding`` around them; ``scale`` goes back."""
    crop = np.array(size)
    room = resized + 2 * padding - crop
    if (room < 0).any():
        small = resized[(room < 0).any(1)][0].tolist()
        raise ValueError(f"size must be at most that of the padded images, {small} + 2 * {padding}, got {list(size)}")
    first = np.floor(u[:, [TOP, LEFT]] * (room + 1)).astype(np.int64) - padding
    before, after = np.maximum(-first, 0), np.maximum(first + crop - resized, 0)
    shown = crop - before - after
    if mode == "reflect" and (np.maximum(before, after) >= shown).any():
        raise ValueError(f"padding must leave more of an image of {size} pixels than it reflects, got {padding}")
    start = np.maximum(first, 0)
    return Cut(np.concatenate([start * scale, shown * scale], 1), np.concatenate([before, after], 1))


def _check_interpolation(value: Any, *, random: bool = True) -> Any:
    return check_choice("interpolation", value, [*get_args(Interpolation), *(["random"] if random else [])])


def _check_padding(law: PaddedRandomCrop | ResizeRandomCrop) -> None:
    padding, mode = check_count("padding", law.padding, 0), check_choice("mode", law.mode, get_args(PaddingMode))
    set_fields(law, padding=padding, mode=mode)


def _check_resize(law: ResizeRandomCrop | CenterCrop, least: int = 1) -> None:
    if law.resize is not None:
        set_fields(law, resize=check_count("resize", law.resize, least))
