"""Where an image is most salient: the centre of SaliencyMix's boxes (arXiv 2006.01791)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64
from torch import Tensor

from ...runtime.devices import to_host


def peaks(
    saliency: Float[Tensor, "b h w"],
) -> tuple[Float64[np.ndarray, " b"], Float64[np.ndarray, " b"], Bool[np.ndarray, " b"]]:
    """The place of the highest value of each map as shares of height and width in (0, 1), and whether there is one.

    Of equal values it is the first, row by row. A map of one value, or with values that are not finite, has none.
    """
    _, h, w = saliency.shape
    if saliency.is_cuda:
        flat = saliency.flatten(1)
        found = flat.isfinite().all(1) & (flat.amax(1) > flat.amin(1))
        at = to_host(flat.argmax(1).where(found, -1))
    else:  # by NumPy: torch would wake its OpenMP threads
        values = (saliency.float() if saliency.dtype == torch.bfloat16 else saliency).numpy().reshape(len(saliency), -1)
        finite = np.isfinite(values).all(1) & (values.max(1) > values.min(1))
        at = np.where(finite, values.argmax(1), -1)
    y, x = np.divmod(at, w)
    return (y + 0.5) / h, (x + 0.5) / w, at >= 0
