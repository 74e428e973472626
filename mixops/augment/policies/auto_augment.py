"""AutoAugment (arXiv 1805.09501): one of 25 pairs of operations that a search found, each with its own probability.

The tables are torchvision's, one line for five pairs: operation, probability, number of the magnitude of ten.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64

from ...runtime.checks import check_choice
from ..checks import Colour, check_fill, check_interpolation, fill_colour
from ..operations import Op
from .base import RGB, Operations, Policy, Words, draw_filters, filter_words, unless
from .tables import common_space

POLICIES = {
    "imagenet": """
posterize .4 8, rotate .6 9;   solarize .6 5, autocontrast .6; equalize .8, equalize .6; posterize .6 7, posterize .6 6
equalize .4, solarize .2 4;    equalize .4, rotate .8 8;       solarize .6 3, equalize .6; posterize .8 5, equalize 1
rotate .2 3, solarize .6 8;    equalize .6, posterize .4 6;    rotate .8 8, color .4 0;  rotate .4 9, equalize .6
equalize 0, equalize .8;       invert .6, equalize 1;          color .6 4, contrast 1 8; rotate .8 8, color 1 2
color .8 8, solarize .8 7;     sharpness .4 7, invert .6;      shear_x .6 5, equalize 1; color .4 0, equalize .6
equalize .4, solarize .2 4;    solarize .6 5, autocontrast .6; invert .6, equalize 1;    color .6 4, contrast 1 8
equalize .8, equalize .6""",
    "cifar10": """
invert .1, contrast .2 6;           rotate .7 2, translate_x .3 9;       sharpness .8 1, sharpness .9 3
shear_y .5 8, translate_y .7 9;     autocontrast .5, equalize .9;        shear_y .2 7, posterize .3 7
color .4 3, brightness .6 7;        sharpness .3 9, brightness .7 9;     equalize .6, equalize .5
contrast .6 7, sharpness .6 5;      color .7 7, translate_x .5 8;        equalize .3, autocontrast .4
translate_y .4 3, sharpness .2 6;   brightness .9 6, color .2 8;         solarize .5 2, invert 0
equalize .2, autocontrast .6;       equalize .2, equalize .6;            color .9 9, equalize .6
autocontrast .8, solarize .2 8;     brightness .1 3, color .7 0;         solarize .4 5, autocontrast .9
translate_y .9 9, translate_y .7 9; autocontrast .9, solarize .8 3;      equalize .8, invert .1
translate_y .7 9, autocontrast .9""",
    "svhn": """
shear_x .9 4, invert .2;       shear_y .9 8, invert .7;         equalize .6, solarize .6 6;    invert .9, equalize .6
equalize .6, rotate .9 3;      shear_x .9 4, autocontrast .8;   shear_y .9 8, invert .4;       shear_y .9 5, solarize .2 6
invert .9, autocontrast .8;    equalize .6, rotate .9 3;        shear_x .9 4, solarize .3 3;   shear_y .8 8, invert .7
equalize .9, translate_y .6 6; invert .9, equalize .6;          contrast .3 3, rotate .8 4;    invert .8, translate_y 0 2
shear_y .7 6, solarize .4 8;   invert .6, rotate .8 4;          shear_y .3 7, translate_x .9 3; shear_x .1 6, invert .6
solarize .7 2, translate_y .6 7; shear_y .8 4, invert .8;       shear_x .7 9, translate_y .8 3
shear_y .8 5, autocontrast .7; shear_x .7 2, invert .1""",
}


@dataclass(frozen=True)
class AutoAugment(Policy):
    """torchvision's ``AutoAugment`` with the ``policy`` found for "imagenet", "cifar10" or "svhn".

    ``policy`` may be torchvision's ``AutoAugmentPolicy``. ``interpolation`` and ``fill`` are those of
    ``TrivialAugmentWide``. timm's tables differ: its strings, "original-mstd0.5", "v0", say them. Raises ``ValueError``
    naming the argument.
    """

    policy: str = "imagenet"
    interpolation: str = "nearest"
    fill: Colour = None

    def __post_init__(self) -> None:
        name = getattr(self.policy, "value", self.policy)
        name = check_choice("policy", name if isinstance(name, str) else self.policy, list(POLICIES))
        object.__setattr__(self, "policy", name)
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation))
        object.__setattr__(self, "fill", check_fill(self.fill))

    @property
    def words(self) -> int:
        """The pair; then whether it is done, sign and filter of each."""
        return 5 + filter_words(self.interpolation, 2)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """Two operations a row."""
        kinds, probabilities, levels = _pairs(self.policy)
        space = common_space(10, height, width, Op.INVERT)
        place = np.zeros(len(Op), np.int64)
        place[space.op] = np.arange(len(space.op))
        pair = (words.take(1)[:, 0] * len(kinds)).astype(np.int64)
        done, sign = words.take(2), words.take(2)
        op, arg = space.choose(place[kinds[pair]], levels[pair], sign)
        op, arg = unless(done, probabilities[pair], op, arg)
        return Operations(op, arg, draw_filters(self.interpolation, words, 2), fill_colour(self.fill, mean))


@lru_cache(maxsize=len(POLICIES))
def _pairs(policy: str) -> tuple[Int64[np.ndarray, "25 2"], Float64[np.ndarray, "25 2"], Int64[np.ndarray, "25 2"]]:
    """Operations, probabilities and magnitudes."""
    pairs = [[part.split() for part in pair.split(",")] for pair in re.split("[;\n]", POLICIES[policy].strip())]
    kinds = np.array([[int(Op[part[0].upper()]) for part in pair] for pair in pairs])
    probabilities = np.array([[float(part[1]) for part in pair] for pair in pairs])
    return kinds, probabilities, np.array([[int(part[2]) if len(part) > 2 else 0 for part in pair] for pair in pairs])
