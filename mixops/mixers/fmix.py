"""FMix (arXiv 2002.12047): binary masks with the shapes of low-frequency noise.

    G = sum_pq Z_pq phi_p(y) phi_q(x) / max(f_pq, f_0)^decay_power,    M = [G is among the round(lambda h w) highest pixels]

with Z standard normal, phi the real Fourier functions of either axis, f_pq = sqrt(f_p^2 + f_q^2) in cycles a pixel and
f_0 = 1 / max(h, w): isotropic noise, as the paper means it. (The authors' code reads the array of real and imaginary parts
along the wrong axis, which leaves the horizontal frequencies 0 and 1 alone.) Frequencies beyond those that hold all but some
1e-5 of the energy are left out, so that two small matrix products make a batch of fields and no FFT is needed. The K
masks of a pair are cuts of one field: they are nested.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace
from math import ceil, inf, pi

import numpy as np
from jaxtyping import Float32, Float64, UInt8

from ..key import Key, Stream
from ..masks import constant_masks
from ..runtime.checks import check_number, set_fields
from .beta import BetaMixer, UnitDraws, UnitMasks

LEFT_OUT = 1e-5  # share of the energy of a field


@dataclass(frozen=True, repr=False)
class FMix(BetaMixer):
    """FMix with lam ~ Beta(alpha, alpha) and a spectrum that falls with frequency^-decay_power (arXiv 2002.12047, eq. 3-5).

    ``decay_power`` in [0, 32], the authors' name and default. Masks have round(lam * h * w) pixels of the row's own image,
    where the authors flip a coin between floor and ceil. Raises ``ValueError`` otherwise.
    """

    decay_power: float = 3.0
    _: KW_ONLY

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(self, decay_power=check_number("decay_power", self.decay_power, 0, 32))  # larger ones overflow

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """Constant masks of the same weight, which the dense ones replace."""
        return constant_masks(draws.lam)

    def draw_units(self, key: Key, u: Float64[np.ndarray, "u words"], height: int, width: int) -> UnitMasks:
        """A field for each unit, cut once for each of its lambdas."""
        units = super().draw_units(key, u, height, width)
        fields = low_frequency_fields(key, len(u), height, width, self.decay_power)
        dense, weight = cut_fields(fields, units.lam)
        return replace(units, dense=dense, weight=units.weight if self.label == "sampled" else weight)


def low_frequency_fields(
    key: Key, count: int, height: int, width: int, decay_power: float = 3.0
) -> Float32[np.ndarray, "count h w"]:
    """Isotropic Gaussian noise whose amplitude falls with frequency^-decay_power, without its mean."""
    f0 = 1 / max(height, width)
    top = _top_frequency(decay_power) * f0
    (along_y, fy), (along_x, fx) = _fourier(height, top), _fourier(width, top)
    amplitude = np.maximum(np.hypot(fy[:, None], fx), f0) ** -decay_power * f0**decay_power
    amplitude[0, 0] = 0  # a constant would not change which pixels are highest
    modes = _normal(key, count, len(fy), len(fx)) * amplitude.astype(np.float32)
    return np.matmul(along_y.T, modes) @ along_x  # (count, h, q) @ (q, w)


def cut_fields(
    fields: Float32[np.ndarray, "u h w"], lam: Float64[np.ndarray, "u k"]
) -> tuple[UInt8[np.ndarray, "u k h w"], Float64[np.ndarray, "u k"]]:
    """Masks that are 1 on the share ``lam`` of highest pixels of a field, rounded to pixels, and their means.

    ``lam`` falls along k.
    """
    from ..kernels.threshold import cut
    from ..runtime.threads import run_sliced

    u, height, width = fields.shape
    k, pixels = lam.shape[1], height * width
    flat = fields.reshape(u, pixels)
    masks = np.empty((u, k, pixels), np.uint8)
    counts = np.empty((u, k), np.int64)
    run_sliced(cut, u, flat, np.rint(lam * pixels).astype(np.int64), masks, counts)
    return masks.reshape(u, k, height, width), counts / pixels


def _top_frequency(decay_power: float) -> float:
    """The multiple R of f_0 beyond which ``LEFT_OUT`` of the energy lies, by the integral of r^(1 - 2 decay_power)."""
    steep = 2 * decay_power - 2
    lowest = 4  # modes of frequency 1 hold most of the energy
    return inf if steep <= 0 else (2 * pi / (lowest * steep * LEFT_OUT)) ** (1 / steep)


def _fourier(side: int, top: float) -> tuple[Float32[np.ndarray, "modes side"], Float64[np.ndarray, " modes"]]:
    """Real Fourier functions of frequencies up to ``top``, with a mean square of 1, and their frequencies."""
    highest = side // 2 if top * side > side // 2 else ceil(top * side)
    k = np.arange(1, highest + 1)[:, None]
    angle = 2 * pi * k / side * np.arange(side)
    waves = np.sqrt(2) * np.stack([np.cos(angle), np.sin(angle)], 1).reshape(-1, side)  # (2 k, side)
    frequencies = np.repeat(k[:, 0] / side, 2)
    if 2 * highest == side:  # at the highest frequency of all the sine vanishes and the cosine is +-1
        waves, frequencies = waves[:-1], frequencies[:-1]
        waves[-1] /= np.sqrt(2)
    functions = np.concatenate([np.ones((1, side)), waves]).astype(np.float32)
    return functions, np.concatenate([[0.0], frequencies])


def _normal(key: Key, count: int, rows: int, columns: int) -> Float32[np.ndarray, "count rows columns"]:
    """Standard normals by Box and Muller, two from each random word; those of a field do not depend on ``count``."""
    pairs = (rows * columns + 1) // 2
    words = key.words(Stream.FIELD, count * pairs)
    u, v = ((half.astype(np.float32) + np.float32(0.5)) * np.float32(2**-32) for half in (words >> 32, words & 0xFFFFFFFF))
    radius, angle = np.sqrt(-2 * np.log(u)), np.float32(2 * pi) * v
    normals = np.stack([radius * np.cos(angle), radius * np.sin(angle)], -1).reshape(count, 2 * pairs)
    return normals[:, : rows * columns].reshape(count, rows, columns)
