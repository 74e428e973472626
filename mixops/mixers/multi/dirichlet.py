"""Dirichlet mixup: a row is a convex combination of several images, with weights ~ Dir(alpha, ..., alpha).

    x~ = sum_j w_j x_j,    y~ = sum_j w_j y_j,    w = g / sum(g),    g_j ~ Gamma(alpha)

It is the input mixup of several images that papers compare with (MultiMix, arXiv 2311.05538, section 4.4); for two images it
is mixup. Gammas are made in logarithms, log g = log Gamma(alpha + 1) + log(u) / alpha, so that no alpha is too small.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass

import numpy as np
from jaxtyping import Float64
from scipy.special import gammaincinv

from ...key import Key, Stream
from ...runtime.checks import check_count, check_number, set_fields
from .base import SharesMixer


@dataclass(frozen=True, repr=False)
class DirichletMixUp(SharesMixer):
    """Mixup of ``sources`` images a row with weights ~ Dirichlet(alpha) (arXiv 2311.05538, section 4.4).

    ``alpha`` > 0, ``sources`` >= 2. The own image has Beta(alpha, (sources - 1) alpha); K outputs are sorted by it. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """

    alpha: float = 1.0
    _: KW_ONLY
    sources: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        alpha, sources = check_number("alpha", self.alpha, 0, 1e5, above=True), check_count("sources", self.sources, 2, 256)
        set_fields(self, alpha=alpha, sources=sources)

    @property
    def count(self) -> int:
        """``sources``."""
        return self.sources

    def shares(self, key: Key, units: int) -> Float64[np.ndarray, "u k s"]:
        """A draw for each output, sorted by the share of the own image."""
        u = key.uniform(Stream.SHARES, (units, self.interpolations, self.sources, 2))
        found = dirichlet_weights(u, self.alpha)
        order = np.argsort(-found[..., 0], axis=1, kind="stable")
        return np.take_along_axis(found, order[..., None], 1)


def dirichlet_weights(u: Float64[np.ndarray, "*shape s 2"], alpha: float) -> Float64[np.ndarray, "*shape s"]:
    """Dirichlet weights from two uniforms each."""
    with np.errstate(divide="ignore", over="ignore"):
        log = np.log(gammaincinv(alpha + 1, u[..., 0])) + np.log1p(-u[..., 1]) / alpha
    log = np.maximum(log, -1e300)  # of u = 0; not infinite, so that a difference is a number
    weight = np.exp(log - log.max(-1, keepdims=True))
    return weight / weight.sum(-1, keepdims=True)
