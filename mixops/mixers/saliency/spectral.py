"""Saliency without a model: the spectral residual (Hou and Zhang, "Saliency detection: a spectral residual approach", 2007).

Logarithms of amplitude spectra are alike for all pictures but for what is particular about one, so with f the spectrum of
the grey picture and <.> the mean over 3 x 3 frequencies

    S = G * |F^-1[ exp(log |f| - <log |f|>) f / |f| ]|^2 = G * |F^-1[ exp(-<log |f|>) f ]|^2,    G a Gaussian.

As in the authors' code the picture has at most 64 cells a side and G a standard deviation of 2.5 of them, cut off after 5;
beyond the border there is nothing. Frequencies next to the highest are the lowest here, where the authors repeat the border
of the array, and the Gaussian shrinks with pictures of fewer cells. It takes images as they are, so it runs in a loader.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import scipy.fft
import torch
from jaxtyping import Float32
from torch import Tensor
from torch.nn.functional import interpolate

from ...pairing.thumbnails import thumbnails
from ...runtime.checks import check_array
from ...runtime.devices import to_device

SIDE = 64  # cells, at most
_SIGMA, _REACH = 2.5 / SIDE, 5 / SIDE  # of the longer side
_EVEN = 1e-5  # a picture whose greys differ by less, relative to the largest, shows nothing
_FAINT = 1e-7  # of the strongest frequency; below it there is only rounding


def spectral_saliency(images: Any) -> Float32[Tensor, "b h w"]:
    """How much each pixel of an image stands out, >= 0, by the spectral residual (Hou and Zhang 2007).

    ``images`` (b, c, h, w), torch or NumPy, uint8 or floating on any scale; computed on their device. An image of one grey,
    or with a pixel that is not finite, gets zeros. Raises ``ValueError`` for other shapes.
    """
    x = check_array("images", images)
    return interpolate(spectral_map(x)[:, None], tuple(x.shape[-2:]), mode="bilinear")[:, 0]


def spectral_map(images: Any) -> Float32[Tensor, "b gh gw"]:
    """``spectral_saliency`` before it is enlarged: a value for each of the cells, at most 64 a side, it was found in."""
    x = check_array("images", images)
    if x.ndim != 4:
        raise ValueError(f"images must have shape (b, c, h, w), got {tuple(x.shape)}")
    small = thumbnails(x, SIDE)
    blurs = _blurs(*small.shape[2:])
    if small.device.type != "cpu":
        grey = small.mean(1, dtype=torch.float32)
        return _residual(grey, torch, torch.fft, *(to_device(blur, small.device) for blur in blurs))
    # by NumPy: torch would wake its OpenMP threads for a few thousand values, and these spin where a decoder works
    found = _residual(small.numpy().mean(1, dtype=np.float32), np, scipy.fft, *blurs)
    return torch.from_numpy(found.astype(np.float32, copy=False))


def _residual(grey: Any, xp: Any, fft: Any, over_rows: Any, over_columns: Any) -> Any:
    """The saliency of greys (b, gh, gw) by NumPy and SciPy or by torch, whose functions have one meaning here.

    A real picture's spectrum has each number twice, f(-u, -v) being f(u, v) conjugated, so half of it is enough; what the
    means of its first and last columns take from the other half is the columns next to them, upside down.
    """
    least, most = xp.amin(grey, (1, 2)), xp.amax(grey, (1, 2))
    shows = (xp.isfinite(most - least) & (most - least > _EVEN * xp.maximum(abs(least), abs(most))))[:, None, None]
    spectrum = fft.rfft2(xp.where(shows, grey, xp.zeros_like(grey)))
    size = abs(spectrum)
    log = xp.log(xp.maximum(size, _FAINT * xp.amax(size, (1, 2))[:, None, None] + xp.finfo(grey.dtype).tiny))
    log = log + xp.roll(log, 1, 1) + xp.roll(log, -1, 1)
    width, half = grey.shape[2], log.shape[2]
    beyond = [xp.roll(xp.flip(log[:, :, [-column % width]], (1,)), 1, 1) for column in (-1, half)]
    log = xp.concatenate([beyond[0], log, beyond[1]], 2)
    smooth = (log[:, :, :-2] + log[:, :, 1:-1] + log[:, :, 2:]) / 9
    residual = fft.irfft2(spectrum * xp.exp(-smooth), tuple(grey.shape[1:]))  # exp(log |f|) f / |f| is f
    return xp.where(shows, over_rows @ (residual * residual) @ over_columns, xp.zeros_like(grey))


@lru_cache(maxsize=8)
def _blurs(height: int, width: int) -> tuple[Float32[np.ndarray, "h h"], Float32[np.ndarray, "w w"]]:
    """Matrices that blur columns, from the left, and rows, from the right."""
    longer = max(height, width)
    blurs = []
    for side in (height, width):
        t = np.arange(side)
        apart = np.abs(t[:, None] - t)
        blurs.append(
            np.where(apart <= _REACH * longer, np.exp(-0.5 * (apart / (_SIGMA * longer)) ** 2), 0).astype(np.float32)
        )
    return blurs[0], blurs[1]
