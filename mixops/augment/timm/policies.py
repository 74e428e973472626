"""timm's RandAugment, AutoAugment and AugMix, which differ from torchvision's in tables, probabilities and magnitudes.

``parse_timm`` makes them of timm's strings. Defaults are those of ``timm.data.create_transform``: warps interpolate
"random" (bilinear or bicubic, drawn for each operation) unless the crop's filter is fixed, and show the mean colour outside
the image.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float64, Int64

from ...runtime.checks import check_choice, check_count, check_number
from ..checks import Colour, check_fill, check_interpolation, fill_colour
from ..policies.augmix import deepest, draw_mixture, mixture, mixture_words
from ..policies.base import RGB, Operations, Policy, Words, draw_filters, filter_words, unless
from .tables import AUGMIX, CHOICES, NAMES, POLICIES, arguments, magnitudes, pairs

_LARGEST = 10.0  # magnitudes are cut off here unless magnitude_max says otherwise


@dataclass(frozen=True)
class TimmPolicy(Policy):
    """Base of timm's policies; ``magnitude_std`` is the deviation of magnitudes, infinite for uniform ones.

    ``translate_pct`` is the share of the side that the largest translation moves. ``interpolation`` and ``fill`` are those
    of ``TrivialAugmentWide``. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    _: KW_ONLY
    magnitude_std: float = 0.0
    translate_pct: float = 0.45
    interpolation: str = "random"
    fill: Colour = "mean"

    def __post_init__(self) -> None:
        object.__setattr__(self, "magnitude_std", check_number("magnitude_std", self.magnitude_std, 0, infinite=True))
        object.__setattr__(self, "translate_pct", check_number("translate_pct", self.translate_pct, 0, 1))
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation))
        object.__setattr__(self, "fill", check_fill(self.fill))


@dataclass(frozen=True)
class TimmRandAugment(TimmPolicy):
    """timm's "rand-m9-n2-p0.5-mstd0.5-mmax10-inc1": ``num_layers`` operations, each done with probability ``prob``.

    ``magnitude`` is on timm's scale of ten and cut off at ``magnitude_max``. ``transforms`` is "plain", "increasing"
    ("inc1"), or one of the sets that timm's "t" section names: "3a"; "3aw" and "weights" choose without replacement.
    """

    magnitude: float = 10.0
    num_layers: int = 2
    prob: float = 0.5
    magnitude_max: float = _LARGEST
    transforms: str = "plain"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "magnitude_max", check_number("magnitude_max", self.magnitude_max, 0, 30))
        object.__setattr__(self, "magnitude", check_number("magnitude", self.magnitude, 0))
        object.__setattr__(self, "num_layers", check_count("num_layers", self.num_layers, 0))
        object.__setattr__(self, "prob", check_number("prob", self.prob, 0, 1))
        object.__setattr__(self, "transforms", check_choice("transforms", self.transforms, list(CHOICES)))
        weights = CHOICES[self.transforms]
        if isinstance(weights, dict) and self.num_layers > len(weights):
            raise ValueError(f"num_layers must be at most {len(weights)} with {self.transforms}, got {self.num_layers}")

    @property
    def words(self) -> int:
        """Operation, whether it is done, magnitude, sign and filter of each."""
        return 4 * self.num_layers + filter_words(self.interpolation, self.num_layers)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """``num_layers`` operations a row."""
        name = _choose(words.take(self.num_layers), CHOICES[self.transforms])
        done, level, u = (words.take(self.num_layers) for _ in range(3))
        magnitude = magnitudes(self.magnitude, self.magnitude_std, self.magnitude_max, level)
        op, arg = unless(done, self.prob, *arguments(name, magnitude, u, height, width, self.translate_pct))
        filters = draw_filters(self.interpolation, words, self.num_layers)
        return Operations(op, arg, filters, fill_colour(self.fill, mean))


@dataclass(frozen=True)
class TimmAutoAugment(TimmPolicy):
    """timm's "v0", "v0r", "original", "originalr" and "3a": one line of a table, each operation with its probability."""

    policy: str = "v0"

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "policy", check_choice("policy", self.policy, list(POLICIES)))

    @property
    def words(self) -> int:
        """The line; then whether it is done, magnitude, sign and filter of each operation."""
        depth = pairs(self.policy).name.shape[1]
        return 1 + 3 * depth + filter_words(self.interpolation, depth)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """The operations of one line a row."""
        lines = pairs(self.policy)
        depth = lines.name.shape[1]
        line = (words.take(1)[:, 0] * len(lines.name)).astype(np.int64)
        done, level, u = (words.take(depth) for _ in range(3))
        magnitude = magnitudes(lines.magnitude[line], self.magnitude_std, _LARGEST, level)
        op, arg = arguments(lines.name[line], magnitude, u, height, width, self.translate_pct)
        op, arg = unless(done, lines.prob[line], op, arg)
        return Operations(op, arg, draw_filters(self.interpolation, words, depth), fill_colour(self.fill, mean))


@dataclass(frozen=True)
class TimmAugMix(TimmPolicy):
    """timm's "augmix-m3-w3-d2-a1": ``width`` chains of ``depth`` operations, or of 1 to 3 where that is negative.

    Magnitudes are uniform up to ``magnitude`` unless ``magnitude_std`` is finite. ``alpha`` is that of the Beta and the
    Dirichlet distribution. The chains' sum and its blend with the image are cut off at whole levels one after the other.
    """

    chained: ClassVar[bool] = True

    magnitude: float = 3.0
    width: int = 3
    depth: int = -1
    alpha: float = 1.0
    _: KW_ONLY
    magnitude_std: float = math.inf
    translate_pct: float = 0.3

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "magnitude", check_number("magnitude", self.magnitude, 0))
        object.__setattr__(self, "width", check_count("width", self.width, 1))
        object.__setattr__(self, "depth", check_count("depth", self.depth, -1))
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, 1e-3))

    @property
    def words(self) -> int:
        """The mixture's; then operation, magnitude, sign and filter of each operation of each chain."""
        count = self.width * deepest(self.depth)
        return mixture_words(self.width) + 3 * count + filter_words(self.interpolation, count)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """The mixture of a row's chains."""
        depths, own, share = draw_mixture(words, self.width, self.depth, self.alpha)
        shape = self.width, deepest(self.depth)
        pick, level, u = (words.take(*shape) for _ in range(3))
        name = np.array([NAMES.index(name) for name in AUGMIX])[(pick * len(AUGMIX)).astype(np.int64)]
        magnitude = magnitudes(self.magnitude, self.magnitude_std, _LARGEST, level)
        op, arg = arguments(name, magnitude, u, height, width, self.translate_pct)
        filters = draw_filters(self.interpolation, words, *shape)
        return mixture(op, arg, filters, depths, np.concatenate([own, share], 1), fill_colour(self.fill, mean), blend=True)


def _choose(u: Float64[np.ndarray, "b n"], choices: tuple[str, ...] | dict[str, float]) -> Int64[np.ndarray, "b n"]:
    """Positions in ``NAMES``: uniform with replacement, or by weight without."""
    names = np.array([NAMES.index(name) for name in choices])
    if not isinstance(choices, dict):
        return names[(u * len(names)).astype(np.int64)]
    weight = np.tile(np.array(list(choices.values())), (len(u), 1))
    found = np.empty(u.shape, np.int64)
    for i in range(u.shape[1]):
        edges = np.cumsum(weight, 1)
        found[:, i] = (edges <= u[:, i : i + 1] * edges[:, -1:]).sum(1)
        weight[np.arange(len(u)), found[:, i]] = 0
    return names[found]
