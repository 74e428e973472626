"""The box of CutMix and HMix: uniform centre, sides in the proportion of the image, clipped at its border.

The integer arithmetic is that of the CutMix authors' code and torchvision: the half side is ``int(side * ratio) // 2``, so
an odd side loses a pixel.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Float64

from ..masks import DV, FLOATS, V0, X0, X1, Y0, Y1


def box_masks(
    ratio: Float64[np.ndarray, "u k"],
    outside: Float64[np.ndarray, "u k"],
    cy: Float64[np.ndarray, " u"],
    cx: Float64[np.ndarray, " u"],
    height: int,
    width: int,
) -> Float32[np.ndarray, "u k 9"]:
    """Masks that are 0 in a box of ``ratio`` times the image's sides and ``outside`` around it."""
    params = np.zeros((*ratio.shape, FLOATS), np.float32)
    for lo, hi, centre, side in ((Y0, Y1, cy, height), (X0, X1, cx, width)):
        middle = np.floor(centre * side)[:, None]
        half = np.floor(side * ratio) // 2
        params[..., lo] = np.maximum(middle - half, 0)
        params[..., hi] = np.minimum(middle + half, side)
    params[..., V0] = outside
    params[..., DV] = -params[..., V0]
    return params


def box_areas(params: Float32[np.ndarray, "*shape 9"], height: int, width: int) -> Float64[np.ndarray, "*shape"]:
    """The share of the image that each clipped box covers."""
    p = params.astype(np.float64)
    return (p[..., Y1] - p[..., Y0]) * (p[..., X1] - p[..., X0]) / (height * width)
