"""torchvision's tables of magnitudes: which operations a policy chooses from, and what their magnitudes mean.

Magnitudes are ``bins`` equidistant numbers, here the float32 next to them on every machine; ``torch.linspace`` gives numbers
that differ in the last digit with the width of the processor's vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int8, Int64

from ..operations import FACTORS, Op


@dataclass(frozen=True, eq=False)
class Space:
    """k operations with ``bins`` magnitudes each; ``signed`` says whose are negated with probability 1/2."""

    op: Int8[np.ndarray, " k"]
    magnitude: Float32[np.ndarray, "k bins"]
    signed: Bool[np.ndarray, " k"]

    def choose(
        self, which: Int64[np.ndarray, "*shape"], level: Int64[np.ndarray, "*shape"], sign: Float64[np.ndarray, "*shape"]
    ) -> tuple[Int8[np.ndarray, "*shape"], Float32[np.ndarray, "*shape"]]:
        """Operations and arguments; ``level`` is the number of the magnitude, ``sign`` uniform in [0, 1)."""
        op, value = self.op[which], self.magnitude[which, level]
        value = np.where(self.signed[which] & (sign < 0.5), -value, value)
        return op, value + np.isin(op, FACTORS).astype(np.float32)  # a factor is 1 and its magnitude


@lru_cache(maxsize=16)
def wide_space(bins: int) -> Space:
    """That of TrivialAugmentWide."""
    magnitudes = _warps(bins, 0.99, 32.0, 32.0, 135.0) | _factors(bins, 0.99)
    return _space({Op.KEEP: _nothing(bins)} | magnitudes | _levels(bins, 8, 6))


@lru_cache(maxsize=16)
def common_space(bins: int, height: int, width: int, extra: Op) -> Space:
    """That of RandAugment, whose ``extra`` operation is KEEP, and of AutoAugment, whose is INVERT."""
    magnitudes = _warps(bins, 0.3, 150.0 / 331.0 * width, 150.0 / 331.0 * height, 30.0) | _factors(bins, 0.9)
    return _space({extra: _nothing(bins)} | magnitudes | _levels(bins, 8, 4))


@lru_cache(maxsize=16)
def augmix_space(height: int, width: int, all_ops: bool) -> Space:
    """That of AugMix, ten magnitudes."""
    magnitudes = _warps(10, 0.3, width / 3.0, height / 3.0, 30.0) | _levels(10, 4, 4)
    return _space(magnitudes | (_factors(10, 0.9) if all_ops else {}))


def _warps(bins: int, shear: float, right: float, down: float, degrees: float) -> dict[Op, Float32[np.ndarray, " bins"]]:
    ends = {Op.SHEAR_X: shear, Op.SHEAR_Y: shear, Op.TRANSLATE_X: right, Op.TRANSLATE_Y: down, Op.ROTATE: degrees}
    found = {op: _rising(end, bins) for op, end in ends.items()}
    for op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
        found[op] = np.trunc(found[op])  # whole pixels
    return found


def _factors(bins: int, end: float) -> dict[Op, Float32[np.ndarray, " bins"]]:
    return {op: _rising(end, bins) for op in FACTORS}


def _levels(bins: int, bits: int, fall: int) -> dict[Op, Float32[np.ndarray, " bins"]]:
    kept = bits - np.rint(np.arange(bins, dtype=np.float32) / np.float32((bins - 1) / fall))
    return {
        Op.POSTERIZE: kept.astype(np.float32),
        Op.SOLARIZE: np.linspace(255.0, 0.0, bins).astype(np.float32),
        Op.AUTOCONTRAST: _nothing(bins),
        Op.EQUALIZE: _nothing(bins),
    }


def _rising(end: float, bins: int) -> Float32[np.ndarray, " bins"]:
    return np.linspace(0.0, end, bins).astype(np.float32)


def _nothing(bins: int) -> Float32[np.ndarray, " bins"]:
    return np.zeros(bins, np.float32)


_SIGNED = (*FACTORS, Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE)


def _space(magnitudes: dict[Op, Float32[np.ndarray, " bins"]]) -> Space:
    signed = np.array([op in _SIGNED for op in magnitudes])
    return Space(np.array([int(op) for op in magnitudes], np.int8), np.stack(list(magnitudes.values())), signed)
