"""The nine floats of a rank-1 mask: their names, their dense form, their mean.

M(y, x) = v0 + dv * wy(y) * wx(x) with wy(y) = [y0 <= y < y1] * exp(-a * (y - cy)**2) and wx alike; mean(M) is then
v0 + dv * mean(wy) * mean(wx), and a wide Gaussian's mean along an axis needs no sum at all: by Euler and Maclaurin,

    sum_t f(t) = integral of f - [f^(1)] / 24 + 7 [f^(3)] / 5760 - 31 [f^(5)] / 967680 ...

with limits half a pixel outside; for a <= 0.05 (standard deviation >= 3 pixels) what is left out is below 1e-8.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64
from scipy.special import erf

FLOATS = 9
V0, DV, Y0, Y1, X0, X1, CY, CX, A = range(FLOATS)
_WIDE = 0.05


def constant_masks(value: Float64[np.ndarray, "*shape"]) -> Float32[np.ndarray, "*shape 9"]:
    """Masks with one value everywhere."""
    params = np.zeros((*value.shape, FLOATS), np.float32)
    params[..., V0] = value
    return params


def dense_masks(params: Float32[np.ndarray, "*shape 9"], height: int, width: int) -> Float64[np.ndarray, "*shape h w"]:
    """The masks at every pixel, in float64."""
    p = params.astype(np.float64)
    wy = _axis(p[..., Y0], p[..., Y1], p[..., CY], p[..., A], height)
    wx = _axis(p[..., X0], p[..., X1], p[..., CX], p[..., A], width)
    return p[..., V0, None, None] + p[..., DV, None, None] * wy[..., :, None] * wx[..., None, :]


def mask_means(params: Float32[np.ndarray, "*shape 9"], height: int, width: int) -> Float64[np.ndarray, "*shape"]:
    """The mean of each mask over the image, without forming the mask."""
    p = params.astype(np.float64)
    means = []
    for lo, hi, centre, side in ((Y0, Y1, CY, height), (X0, X1, CX, width)):
        first, last = np.maximum(p[..., lo], 0), np.minimum(p[..., hi], side)
        total = (last - first).clip(0)
        bell = (p[..., A] != 0) & (p[..., DV] != 0) & (total > 0)
        if bell.any():
            total[bell] = _gaussian_sums(first[bell], last[bell], p[..., centre][bell], p[..., A][bell])
        means.append(total / side)
    return p[..., V0] + p[..., DV] * means[0] * means[1]


def _gaussian_sums(first: np.ndarray, last: np.ndarray, centre: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Sum of exp(-a * (t - centre)**2) over the integers first <= t < last, each (n,)."""
    total = np.empty_like(a)
    wide = a <= _WIDE
    x = np.stack([first[wide] - 0.5 - centre[wide], last[wide] - 0.5 - centre[wide]])
    b = a[wide]
    ax2 = b * x * x
    f = np.exp(-ax2)
    primitive = 0.5 * np.sqrt(np.pi / b) * erf(np.sqrt(b) * x)
    d1 = -2 * b * x * f
    d3 = (12 - 8 * ax2) * b**2 * x * f
    d5 = -(120 - 160 * ax2 + 32 * ax2**2) * b**3 * x * f
    terms = primitive - d1 / 24 + 7 * d3 / 5760 - 31 * d5 / 967680
    total[wide] = terms[1] - terms[0]
    narrow = ~wide  # exp(-0.05 * 22**2) is 3e-11: a window around the centre holds all there is
    t = np.round(centre[narrow])[:, None] + np.arange(-22, 23)
    inside = (t >= first[narrow, None]) & (t < last[narrow, None])
    total[narrow] = (inside * np.exp(-a[narrow, None] * (t - centre[narrow, None]) ** 2)).sum(1)
    return total


def _axis(lo: np.ndarray, hi: np.ndarray, centre: np.ndarray, a: np.ndarray, side: int) -> np.ndarray:
    """[lo <= t < hi] * exp(-a * (t - centre)**2) for t = 0 .. side - 1, in the dtype of ``a``."""
    t = np.arange(side, dtype=a.dtype)
    inside = (t >= lo[..., None]) & (t < hi[..., None])
    return inside * np.exp(-a[..., None] * (t - centre[..., None]) ** 2)
