"""timm's tables: what a magnitude means for each of its operations, and which operations its policies choose from.

A level is a magnitude over ten. timm's "Increasing" operations grow stronger with it, the others follow the TPU code that
timm was made from. Signs are drawn, since timm negates with probability 1/2.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64, Int8, Int64
from scipy.special import ndtri

from ..operations import Op

Law = Callable[[Any, Any], Any]  # level, uniform number -> argument
_BITS = 4  # "keep 0 up to 4 bits"


def _sign(u: Any) -> Any:
    return np.where(u < 0.5, -1.0, 1.0)


def _factor(level: Any, u: Any) -> Any:
    return level * 1.8 + 0.1


def _increasing_factor(level: Any, u: Any) -> Any:
    return np.maximum(0.1, 1.0 + _sign(u) * level * 0.9)


def _turn(end: float) -> Law:
    return lambda level, u: _sign(u) * level * end


def _cut(level: Any, low: float, high: float) -> Any:
    return np.clip(low + (high - low) * level, low, high)


def _solarize(level: Any, u: Any) -> Any:
    return np.minimum(256, np.trunc(level * 256))


# numbers of 1 for translations: the share of the side, times "translate_pct"
LAWS: dict[str, tuple[Op, Law]] = {
    "AutoContrast": (Op.AUTOCONTRAST, lambda level, u: 0 * level),
    "Equalize": (Op.EQUALIZE, lambda level, u: 0 * level),
    "Invert": (Op.INVERT, lambda level, u: 0 * level),
    "Rotate": (Op.ROTATE, _turn(30.0)),
    "Posterize": (Op.POSTERIZE, lambda level, u: np.minimum(8, np.trunc(level * _BITS))),
    "PosterizeIncreasing": (Op.POSTERIZE, lambda level, u: np.maximum(0, _BITS - np.trunc(level * _BITS))),
    "PosterizeOriginal": (Op.POSTERIZE, lambda level, u: np.minimum(8, np.trunc(level * _BITS) + 4)),
    "Solarize": (Op.SOLARIZE, _solarize),
    "SolarizeIncreasing": (Op.SOLARIZE, lambda level, u: 256 - _solarize(level, u)),
    "SolarizeAdd": (Op.SOLARIZE_ADD, lambda level, u: np.minimum(128, np.trunc(level * 110))),
    "Color": (Op.COLOR, _factor),
    "ColorIncreasing": (Op.COLOR, _increasing_factor),
    "Contrast": (Op.CONTRAST, _factor),
    "ContrastIncreasing": (Op.CONTRAST, _increasing_factor),
    "Brightness": (Op.BRIGHTNESS, _factor),
    "BrightnessIncreasing": (Op.BRIGHTNESS, _increasing_factor),
    "Sharpness": (Op.SHARPNESS, _factor),
    "SharpnessIncreasing": (Op.SHARPNESS, _increasing_factor),
    "ShearX": (Op.SHEAR_X, _turn(0.3)),
    "ShearY": (Op.SHEAR_Y, _turn(0.3)),
    "TranslateXRel": (Op.TRANSLATE_X, _turn(1.0)),
    "TranslateYRel": (Op.TRANSLATE_Y, _turn(1.0)),
    "Desaturate": (Op.COLOR, lambda level, u: np.clip(1.0 - _cut(level, 0.5, 1.0), 0, 1)),
    "GaussianBlur": (Op.BLUR, lambda level, u: _cut(level, 0.1, 2.0)),
    "GaussianBlurRand": (Op.BLUR, lambda level, u: 0.1 + (2.0 * _cut(level, 0.0, 1.0) - 0.1) * u),
}
_PLAIN = (
    "AutoContrast", "Equalize", "Invert", "Rotate", "Posterize", "Solarize", "SolarizeAdd", "Color", "Contrast",
    "Brightness", "Sharpness", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
_INCREASING = tuple(f"{name}Increasing" if f"{name}Increasing" in LAWS else name for name in _PLAIN)
AUGMIX = (
    "AutoContrast", "ColorIncreasing", "ContrastIncreasing", "BrightnessIncreasing", "SharpnessIncreasing", "Equalize",
    "Rotate", "PosterizeIncreasing", "SolarizeIncreasing", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel",
)  # fmt: skip
_WEIGHTS: dict[str, float] = {
    "Rotate": 3, "ShearX": 2, "ShearY": 2, "TranslateXRel": 1, "TranslateYRel": 1, "ColorIncreasing": 0.25,
    "SharpnessIncreasing": 0.25, "AutoContrast": 0.25, "SolarizeIncreasing": 0.05, "SolarizeAdd": 0.05,
    "ContrastIncreasing": 0.05, "BrightnessIncreasing": 0.05, "Equalize": 0.05, "PosterizeIncreasing": 0.05, "Invert": 0.05,
}  # fmt: skip
_WEIGHTED_3A: dict[str, float] = {
    "SolarizeIncreasing": 6, "Desaturate": 6, "GaussianBlur": 6, "Rotate": 3, "ShearX": 2, "ShearY": 2,
    "PosterizeIncreasing": 1, "AutoContrast": 1, "ColorIncreasing": 1, "SharpnessIncreasing": 1, "ContrastIncreasing": 1,
    "BrightnessIncreasing": 1, "Equalize": 1, "Invert": 1,
}  # fmt: skip
# what RandAugment chooses from by its "t" section: names alone with replacement, weights without
CHOICES: dict[str, tuple[str, ...] | dict[str, float]] = {
    "plain": _PLAIN,
    "increasing": _INCREASING,
    "3a": ("SolarizeIncreasing", "Desaturate", "GaussianBlur"),
    "3aw": _WEIGHTED_3A,
    "weights": _WEIGHTS,
}
_V0 = """
Equalize .8 1, ShearY .8 4;   Color .4 9, Equalize .6 3;      Color .4 1, Rotate .6 8;    Solarize .8 3, Equalize .4 7
Solarize .4 2, Solarize .6 2; Color .2 0, Equalize .8 8;      Equalize .4 8, SolarizeAdd .8 3; ShearX .2 9, Rotate .6 8
Color .6 1, Equalize 1 2;     Invert .4 9, Rotate .6 0;       Equalize 1 9, ShearY .6 3;  Color .4 7, Equalize .6 0
Posterize .4 6, AutoContrast .4 7; Solarize .6 8, Color .6 9; Solarize .2 4, Rotate .8 9; Rotate 1 7, TranslateYRel .8 9
ShearX 0 0, Solarize .8 4;    ShearY .8 0, Color .6 4;        Color 1 0, Rotate .6 2;     Equalize .8 4, Equalize 0 8
Equalize 1 4, AutoContrast .6 2; ShearY .4 7, SolarizeAdd .6 7; Posterize .8 2, Solarize .6 10; Solarize .6 8, Equalize .6 1
Color .8 6, Rotate .4 5"""
_ORIGINAL = """
PosterizeOriginal .4 8, Rotate .6 9; Solarize .6 5, AutoContrast .6 5; Equalize .8 8, Equalize .6 3
PosterizeOriginal .6 7, PosterizeOriginal .6 6; Equalize .4 7, Solarize .2 4; Equalize .4 4, Rotate .8 8
Solarize .6 3, Equalize .6 7; PosterizeOriginal .8 5, Equalize 1 2; Rotate .2 3, Solarize .6 8
Equalize .6 8, PosterizeOriginal .4 6; Rotate .8 8, Color .4 0; Rotate .4 9, Equalize .6 2; Equalize 0 7, Equalize .8 8
Invert .6 4, Equalize 1 8; Color .6 4, Contrast 1 8; Rotate .8 8, Color 1 2; Color .8 8, Solarize .8 7
Sharpness .4 7, Invert .6 8; ShearX .6 5, Equalize 1 9; Color .4 0, Equalize .6 3; Equalize .4 7, Solarize .2 4
Solarize .6 5, AutoContrast .6 5; Invert .6 4, Equalize 1 8; Color .6 4, Contrast 1 8; Equalize .8 8, Equalize .6 3"""
POLICIES = {
    "v0": _V0,
    "v0r": _V0.replace("Posterize ", "PosterizeIncreasing "),
    "original": _ORIGINAL,
    "originalr": _ORIGINAL.replace("PosterizeOriginal", "PosterizeIncreasing"),
    "3a": "Solarize 1 5; Desaturate 1 10; GaussianBlurRand 1 10",
}
NAMES = tuple(LAWS)


def arguments(
    name: Int64[np.ndarray, "*shape"],
    magnitude: Float64[np.ndarray, "*shape"],
    u: Float64[np.ndarray, "*shape"],
    height: int,
    width: int,
    translate: float,
) -> tuple[Int8[np.ndarray, "*shape"], Float32[np.ndarray, "*shape"]]:
    """Operations and arguments of positions in ``NAMES`` at magnitudes; ``u`` are signs and other uniform numbers."""
    op, arg = np.zeros(name.shape, np.int8), np.zeros(name.shape, np.float32)
    for i in np.unique(name):
        here = name == i
        kind, law = LAWS[NAMES[i]]
        side = {Op.TRANSLATE_X: translate * width, Op.TRANSLATE_Y: translate * height}.get(kind, 1.0)
        op[here], arg[here] = kind, side * law(magnitude[here] / 10.0, u[here])
    return op, arg


def magnitudes(
    magnitude: float | Float64[np.ndarray, "*shape"], std: float, most: float, u: Float64[np.ndarray, "*shape"]
) -> Float64[np.ndarray, "*shape"]:
    """Magnitudes in [0, most]: normal, or uniform in [0, magnitude) where ``std`` is infinite; ``u`` uniform in [0, 1)."""
    if std == 0:
        return np.clip(magnitude + 0 * u, 0, most)
    return np.clip(magnitude * u if np.isinf(std) else magnitude + std * ndtri(u), 0, most)


@dataclass(frozen=True, eq=False)
class Pairs:
    """The lines of a policy, s of at most d operations: positions in ``NAMES``, probabilities, magnitudes."""

    name: Int64[np.ndarray, "s d"]
    prob: Float64[np.ndarray, "s d"]
    magnitude: Float64[np.ndarray, "s d"]


@lru_cache(maxsize=len(POLICIES))
def pairs(policy: str) -> Pairs:
    """The lines of one of ``POLICIES``."""
    lines = [[part.split() for part in line.split(",")] for line in re.split("[;\n]", POLICIES[policy].strip())]
    name = np.array([[NAMES.index(part[0]) for part in line] for line in lines])
    return Pairs(name, *(np.array([[float(part[i]) for part in line] for line in lines]) for i in (1, 2)))
