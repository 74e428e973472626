"""The operations that augmentation is made of, and what the argument of each means.

An argument is in the unit of its operation (pixels, degrees, factors, thresholds), never "magnitude 9 of 31": the tables of
papers and libraries live in the policies, and whoever executes a plan knows operations alone. What an operation does is what
Pillow does, byte for byte.
"""

from __future__ import annotations

import math
from enum import IntEnum

import numpy as np
from jaxtyping import Float32, Float64, Int8


class Op(IntEnum):
    """An operation; the comment says what its argument is."""

    KEEP = 0
    SHEAR_X = 1  # columns that the image is moved by for each row, about the upper left corner
    SHEAR_Y = 2
    TRANSLATE_X = 3  # columns that the image is moved to the right
    TRANSLATE_Y = 4  # rows that it is moved down
    ROTATE = 5  # degrees counter-clockwise, about the centre
    BRIGHTNESS = 6  # factor: 0 is black, 1 the image
    COLOR = 7  # factor: 0 is grey, 1 the image
    CONTRAST = 8  # factor: 0 is the mean grey, 1 the image
    SHARPNESS = 9  # factor: 0 is smoothed, 1 the image
    POSTERIZE = 10  # leading bits that are kept; with none the image is black
    SOLARIZE = 11  # levels from here on are inverted
    AUTOCONTRAST = 12
    EQUALIZE = 13
    INVERT = 14
    SOLARIZE_ADD = 15  # levels that are added to those below 128
    GRAYSCALE = 16
    BLUR = 17  # standard deviation in pixels of the Gaussian that three boxes make
    HUE = 18  # turns of the colour circle, in [-0.5, 0.5]
    AUGMIX = 19  # the mixture of the plan's chains


class Filter(IntEnum):
    """How warps interpolate; the numbers are Pillow's."""

    NEAREST = 0
    BILINEAR = 2
    BICUBIC = 3


FACTORS = (Op.BRIGHTNESS, Op.COLOR, Op.CONTRAST, Op.SHARPNESS)
WARPS = (Op.SHEAR_X, Op.SHEAR_Y, Op.TRANSLATE_X, Op.TRANSLATE_Y, Op.ROTATE)
LARGEST = 8192  # pixels a side: Pillow's warps to the nearest pixel count in 16 bits and their fractions in 16 more

# what an argument may be, ends included
LIMITS: dict[Op, tuple[float, float]] = {
    Op.KEEP: (0, 0),
    Op.SHEAR_X: (-2, 2),
    Op.SHEAR_Y: (-2, 2),
    Op.TRANSLATE_X: (-LARGEST, LARGEST),
    Op.TRANSLATE_Y: (-LARGEST, LARGEST),
    Op.ROTATE: (-360, 360),
    Op.BRIGHTNESS: (0, 100),
    Op.COLOR: (0, 100),
    Op.CONTRAST: (0, 100),
    Op.SHARPNESS: (0, 100),
    Op.POSTERIZE: (0, 8),
    Op.SOLARIZE: (0, 256),
    Op.AUTOCONTRAST: (0, 0),
    Op.EQUALIZE: (0, 0),
    Op.INVERT: (0, 0),
    Op.SOLARIZE_ADD: (0, 255),
    Op.GRAYSCALE: (0, 0),
    Op.BLUR: (0, 100),
    Op.HUE: (-0.5, 0.5),
    Op.AUGMIX: (0, 0),
}
_LOW, _HIGH = (np.array([LIMITS[op][end] for op in Op], np.float32) for end in (0, 1))
_WHOLE = (Op.POSTERIZE, Op.SOLARIZE_ADD)


def check_operations(op: Int8[np.ndarray, "*shape"], arg: Float32[np.ndarray, "*shape"]) -> None:
    """Raises ``ValueError`` for a number that is no operation and for an argument that its operation does not take."""
    if not ((op >= 0) & (op < len(Op))).all():
        raise ValueError(f"op must be in [0, {len(Op)}), got {op.min()} to {op.max()}")
    wrong = ~((arg >= _LOW[op]) & (arg <= _HIGH[op]))  # not a number is wrong too
    if wrong.any():
        kind, value = Op(op[wrong][0]), arg[wrong][0]
        raise ValueError(f"arg of {kind.name} must be in [{LIMITS[kind][0]}, {LIMITS[kind][1]}], got {value}")
    broken = np.isin(op, _WHOLE) & (arg != np.floor(arg))
    if broken.any():
        raise ValueError(f"arg of {Op(op[broken][0]).name} must be a whole number, got {arg[broken][0]}")


def warp_matrices(
    op: Int8[np.ndarray, "*shape"], arg: Float32[np.ndarray, "*shape"], height: int, width: int
) -> Float64[np.ndarray, "*shape 6"]:
    """(a, b, c, d, e, f) of each warp, 0 for the other operations.

    Output point (x, y) shows the input at (a x + b y + c, d x + e y + f). torchvision's conventions: a shear leaves the
    upper left corner where it is, a rotation the centre. Pillow rounds sines and cosines to 15 digits, and so does this.
    """
    matrices = np.zeros((*op.shape, 6))
    matrices[op == Op.SHEAR_X] = matrices[op == Op.SHEAR_Y] = (1, 0, 0, 0, 1, 0)
    matrices[op == Op.TRANSLATE_X] = matrices[op == Op.TRANSLATE_Y] = (1, 0, 0, 0, 1, 0)
    for kind, place, sign in (
        (Op.SHEAR_X, 1, 1), (Op.SHEAR_Y, 3, 1), (Op.TRANSLATE_X, 2, -1), (Op.TRANSLATE_Y, 5, -1),
    ):  # fmt: skip
        here = op == kind
        matrices[here, place] = sign * arg[here].astype(np.float64)
    here = op == Op.ROTATE
    if here.any():
        matrices[here] = [rotation(angle, height, width) for angle in arg[here].tolist()]
    return matrices


def rotation(degrees: float, height: int, width: int) -> tuple[float, ...]:
    """The matrix of Pillow's ``Image.rotate``, which turns counter-clockwise."""
    angle = -math.radians(degrees % 360.0)
    cos, sin = round(math.cos(angle), 15), round(math.sin(angle), 15)
    x, y = width / 2, height / 2
    return cos, sin, cos * -x + sin * -y + x, -sin, cos, -sin * -x + cos * -y + y
