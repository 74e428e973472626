"""The nine floats of a rank-1 mask: their names, their dense form, their mean.

M(y, x) = v0 + dv * wy(y) * wx(x) with wy(y) = [y0 <= y < y1] * exp(-a * (y - cy)**2) and wx alike; mean(M) is then
v0 + dv * mean(wy) * mean(wx), and a wide Gaussian's mean along an axis needs no sum at all: by Euler and Maclaurin,

    sum_t f(t) = integral of f - [f^(1)] / 24 + 7 [f^(3)] / 5760 - 31 [f^(5)] / 967680 ...

with limits half a pixel outside; for a <= 0.05 (standard deviation >= 3 pixels) what is left out is below 1e-8.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from scipy.special import erf
from torch import Tensor

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


def spread(blocks: Any, height: int, width: int) -> Any:
    """Masks (..., y, x) of a value for each of y x x blocks of equal size, at every pixel (..., h, w).

    NumPy or torch, on its device; masks that have a value for each pixel are given back as they are.
    """
    y, x = blocks.shape[-2:]
    if (y, x) == (height, width):
        return blocks
    apart, shape = blocks[..., :, None, :, None], (*blocks.shape[:-2], y, height // y, x, width // x)
    seen = apart.expand(shape) if isinstance(apart, Tensor) else np.broadcast_to(apart, shape)
    return seen.reshape(*blocks.shape[:-2], height, width)


def mask_means(params: Float32[np.ndarray, "*shape 9"], height: int, width: int) -> Float64[np.ndarray, "*shape"]:
    """The mean of each mask over the image, without forming the mask."""
    p = params.astype(np.float64)
    sides = np.array([height, width])
    first = np.maximum(p[..., Y0 : X0 + 1 : 2], 0)  # (..., 2): both axes at once
    last = np.minimum(p[..., Y1 : X1 + 1 : 2], sides)
    total = (last - first).clip(0)
    bell = (total > 0) & ((p[..., A] != 0) & (p[..., DV] != 0))[..., None]
    if bell.any():
        a = np.broadcast_to(p[..., A, None], bell.shape)
        total[bell] = _gaussian_sums(first[bell], last[bell], p[..., CY : CX + 1][bell], a[bell])
    means = total / sides
    return p[..., V0] + p[..., DV] * means[..., 0] * means[..., 1]


def _gaussian_sums(first: np.ndarray, last: np.ndarray, centre: np.ndarray, a: np.ndarray) -> np.ndarray:
    """Sum of exp(-a * (t - centre)**2) over the integers first <= t < last, each (n,)."""
    total = np.empty_like(a)
    wide = a <= _WIDE
    b, ends, middle = a[wide], np.stack([first[wide], last[wide]]), centre[wide]
    x = ends - (middle + 0.5)
    root = np.sqrt(b)
    ax2 = b * x * x
    # the derivatives over b * x * f: -2, (12 - 8 ax2) b and -(120 - 160 ax2 + 32 ax2^2) b^2
    tail = 2 / 24 + b * (7 / 5760 * (12 - 8 * ax2) + 31 / 967680 * b * (120 - ax2 * (160 - 32 * ax2)))
    terms = erf(root * x) * (np.sqrt(np.pi) / 2 / root) + b * x * np.exp(-ax2) * tail
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
