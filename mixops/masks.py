"""The nine floats of a rank-1 mask: their names, their dense form, their mean.

M(y, x) = v0 + dv * wy(y) * wx(x) with wy(y) = [y0 <= y < y1] * exp(-a * (y - cy)**2) and wx alike; mean(M) is then
v0 + dv * mean(wy) * mean(wx): H + W values instead of H * W.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

FLOATS = 9
V0, DV, Y0, Y1, X0, X1, CY, CX, A = range(FLOATS)


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
    sides = []
    for lo, hi, side in ((Y0, Y1, height), (X0, X1, width)):
        sides.append((np.minimum(p[..., hi], side) - np.maximum(p[..., lo], 0)).clip(0) / side)
    gaussian = (p[..., A] != 0) & (p[..., DV] != 0)
    if gaussian.any():
        g = params[gaussian]  # float32: exp is five times faster than in float64, and the kernels compute in it too
        sides[0][gaussian] = _axis(g[:, Y0], g[:, Y1], g[:, CY], g[:, A], height).mean(-1, dtype=np.float64)
        sides[1][gaussian] = _axis(g[:, X0], g[:, X1], g[:, CX], g[:, A], width).mean(-1, dtype=np.float64)
    return p[..., V0] + p[..., DV] * sides[0] * sides[1]


def _axis(lo: np.ndarray, hi: np.ndarray, centre: np.ndarray, a: np.ndarray, side: int) -> np.ndarray:
    """[lo <= t < hi] * exp(-a * (t - centre)**2) for t = 0 .. side - 1, in the dtype of ``a``."""
    t = np.arange(side, dtype=a.dtype)
    inside = (t >= lo[..., None]) & (t < hi[..., None])
    return inside * np.exp(-a[..., None] * (t - centre[..., None]) ** 2)
