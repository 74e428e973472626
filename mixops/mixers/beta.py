"""Mixers with one lambda ~ Beta(alpha, alpha) for each output of a pair, and the law itself.

lambda comes from three uniforms U, V, S without rejection (Devroye 1996, "Random variate generation in one line of code"),

    lambda = 1/2 +- 1/2 (1 + 1 / ((U^(-1/a) - 1) cos^2(2 pi V)))^(-1/2),    - where S < 1/2,

rounded to float32. A new mixer of this family is one method, ``masks``: from lambda and a centre to nine floats.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ..key import Key, Stream
from ..masks import constant_masks, mask_means
from ..plan import MixPlan
from ..runtime.checks import check_choice, check_number, set_fields
from .base import APPLY, CENTRE_X, CENTRE_Y, OUTPUT_WORDS, SHARED_WORDS, Mixer, Pairs


@dataclass(frozen=True, eq=False)
class UnitDraws:
    """The random numbers of u units before they become masks of k outputs each.

    ``lam`` falls along k; ``cy`` and ``cx`` are uniform in [0, 1) and shared by the outputs of a pair. ``key`` serves
    mixers that need more numbers than these.
    """

    key: Key
    lam: Float64[np.ndarray, "u k"]
    cy: Float64[np.ndarray, " u"]
    cx: Float64[np.ndarray, " u"]


@dataclass(frozen=True, eq=False)
class UnitMasks:
    """Masks of u units, k outputs each: the sampled lambda, the label weight, and the nine floats or the dense mask."""

    lam: Float64[np.ndarray, "u k"]
    weight: Float64[np.ndarray, "u k"]
    params: Float32[np.ndarray, "u k 9"]
    dense: Float32[np.ndarray, "u k h w"] | UInt8[np.ndarray, "u k h w"] | None = None

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> UnitMasks:
        """The same with ``change`` applied to every array."""
        dense = None if self.dense is None else change(self.dense)
        return UnitMasks(change(self.lam), change(self.weight), change(self.params), dense)


@dataclass(frozen=True, repr=False)
class BetaMixer(Mixer):
    """Base of the mixers with one lambda ~ Beta(alpha, alpha) an output.

    ``alpha`` > 0. ``label`` is "mask" (label weight == mean of the mask) or "sampled" (the drawn lambda).
    """

    alpha: float = 1.0
    _: KW_ONLY
    label: Literal["mask", "sampled"] = "mask"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(
            self,
            alpha=check_number("alpha", self.alpha, 0, above=True),
            label=check_choice("label", self.label, ("mask", "sampled")),
        )

    @abstractmethod
    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """The nine floats of the mask of each unit and output."""

    def draw_units(self, key: Key, u: Float64[np.ndarray, "u words"], height: int, width: int) -> UnitMasks:
        """The masks of all units from their uniform words."""
        lam = symmetric_beta(u[:, SHARED_WORDS:].reshape(len(u), self.interpolations, OUTPUT_WORDS), self.alpha)
        lam = -np.sort(-lam, axis=1)
        params = self.masks(UnitDraws(key, lam, u[:, CENTRE_Y], u[:, CENTRE_X]), height, width)
        weight = lam.copy() if self.label == "sampled" else mask_means(params, height, width)
        return UnitMasks(lam, weight, params)

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen."""
        unit = pairs.unit
        u = self.words(pairs.key, unit)
        masks = self.draw_units(pairs.key, u, pairs.height, pairs.width)
        untouched = u[:, APPLY] >= self.prob
        if untouched.any():
            for array in (masks.lam, masks.weight, masks.dense):
                if array is not None:
                    array[untouched] = 1
            masks.params[untouched] = constant_masks(np.ones(1))
        if (np.diff(masks.weight, axis=1) > 0).any():  # truncated Gaussians of few pixels need not fall with lambda
            order = np.argsort(-masks.weight, axis=1, kind="stable")
            masks = masks.map(lambda x: np.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), 1))
        if not np.array_equal(unit, np.arange(len(masks.lam))):
            masks = masks.map(lambda x: x[unit])
        return MixPlan(pairs.partner, masks.weight, masks.lam, masks.params, pairs.height, pairs.width, masks.dense)


@dataclass(frozen=True, repr=False)
class Beta:
    """The law Beta(alpha, alpha), for a parameter that is drawn anew for each pair: ``HMix(r=Beta(0.5))``.

    ``beta`` may repeat ``alpha``, as the papers write it. Raises ``ValueError`` or ``TypeError`` for other laws and unless
    ``alpha`` is positive and finite.
    """

    alpha: float
    beta: float | None = None

    def __post_init__(self) -> None:
        alpha = check_number("alpha", self.alpha, 0, above=True)
        beta = alpha if self.beta is None else check_number("beta", self.beta, 0, above=True)
        if beta != alpha:
            raise ValueError(f"beta must be alpha, {alpha}, since only symmetric laws are drawn, got {beta}")
        set_fields(self, alpha=alpha, beta=beta)

    def draw(self, key: Key, stream: Stream, count: int) -> Float64[np.ndarray, " count"]:
        """``count`` numbers in [0, 1], each from three words of the stream."""
        return symmetric_beta(key.uniform(stream, (count, OUTPUT_WORDS)), self.alpha)

    def __repr__(self) -> str:
        return f"Beta({self.alpha!r})"


def symmetric_beta(u: Float64[np.ndarray, "*shape 3"], alpha: float) -> Float64[np.ndarray, "*shape"]:
    """Beta(alpha, alpha) from three uniforms each, rounded to float32 so that no libm's last digit can show."""
    with np.errstate(divide="ignore", over="ignore"):  # a tiny alpha overflows to lambda 0 or 1, which is its limit
        odds = np.expm1(-np.log1p(-u[..., 0]) / alpha) * np.cos(2 * np.pi * u[..., 1]) ** 2
        half = 0.5 / np.sqrt(1 + 1 / odds)
    return (0.5 + np.where(u[..., 2] < 0.5, -half, half)).astype(np.float32).astype(np.float64)
