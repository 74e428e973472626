"""AugMix (arXiv 1912.02781): chains of operations, mixed with one another and with the image.

    x~ = m x + (1 - m) (w_1 chain_1(x) + ... + w_c chain_c(x)),   m ~ Beta(alpha, alpha),   w ~ Dirichlet(alpha)

It is no mixer of samples: a chain is of the row's own image, and the label stays.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Float64, Int8, UInt8
from scipy.special import gammaincinv

from ...mixers.beta import symmetric_beta
from ...runtime.checks import check_count, check_flag, check_number
from ..checks import Colour, check_fill, check_interpolation, fill_colour
from ..operations import Op
from ..plan import Chains
from .base import RGB, Operations, Policy, Words, draw_filters, filter_words
from .tables import augmix_space

_DEEPEST = 3  # a chain of random depth has 1, 2 or 3 operations


@dataclass(frozen=True)
class AugMix(Policy):
    """torchvision's ``AugMix``: ``mixture_width`` chains of ``chain_depth`` operations, of 1 to 3 where that is negative.

    Magnitudes are the ``severity`` smallest of ten. ``alpha`` is that of the Beta and the Dirichlet distribution.
    ``all_ops`` adds brightness, colour, contrast and sharpness to the operations. ``interpolation`` and ``fill`` are those
    of ``TrivialAugmentWide``. The operations are Pillow's; torchvision converts to a tensor and uses its own. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """

    chained: ClassVar[bool] = True

    severity: int = 3
    mixture_width: int = 3
    chain_depth: int = -1
    alpha: float = 1.0
    all_ops: bool = True
    interpolation: str = "bilinear"
    fill: Colour = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "severity", check_count("severity", self.severity, 1, 10))
        object.__setattr__(self, "mixture_width", check_count("mixture_width", self.mixture_width, 1))
        object.__setattr__(self, "chain_depth", check_count("chain_depth", self.chain_depth, -1))
        object.__setattr__(self, "alpha", check_number("alpha", self.alpha, 1e-3))
        object.__setattr__(self, "all_ops", check_flag("all_ops", self.all_ops))
        object.__setattr__(self, "interpolation", check_interpolation(self.interpolation))
        object.__setattr__(self, "fill", check_fill(self.fill))

    @property
    def words(self) -> int:
        """The mixture's; then operation, magnitude, sign and filter of each operation of each chain."""
        count = self.mixture_width * deepest(self.chain_depth)
        return mixture_words(self.mixture_width) + 3 * count + filter_words(self.interpolation, count)

    def draw(self, words: Words, height: int, width: int, mean: RGB) -> Operations:
        """The mixture of a row's chains."""
        depths, own, share = draw_mixture(words, self.mixture_width, self.chain_depth, self.alpha)
        shape = self.mixture_width, deepest(self.chain_depth)
        space = augmix_space(height, width, self.all_ops)
        pick, level, sign = (words.take(*shape) for _ in range(3))
        which = (pick * len(space.op)).astype(np.int64)
        op, arg = space.choose(which, (level * self.severity).astype(np.int64), sign)
        weight = np.concatenate([own, (np.float32(1) - own) * share], 1)
        filters = draw_filters(self.interpolation, words, *shape)
        return mixture(op, arg, filters, depths, weight, fill_colour(self.fill, mean), blend=False)


def deepest(chain_depth: int) -> int:
    """Operations that a chain has at most."""
    return chain_depth if chain_depth > 0 else _DEEPEST


def mixture_words(chains: int) -> int:
    """The words that ``draw_mixture`` takes: the own share three, depth and share of each chain."""
    return 3 + 2 * chains


def draw_mixture(
    words: Words, chains: int, chain_depth: int, alpha: float
) -> tuple[Float64[np.ndarray, "b c"], Float32[np.ndarray, "b 1"], Float32[np.ndarray, "b c"]]:
    """Depths of the chains, share of the image itself ~ Beta(alpha, alpha), shares of the chains ~ Dirichlet(alpha)."""
    own = symmetric_beta(words.take(3), alpha).astype(np.float32)[:, None]
    depth, u = words.take(chains), words.take(chains)
    depths = np.full(depth.shape, float(chain_depth)) if chain_depth > 0 else 1 + np.floor(_DEEPEST * depth)
    gamma = np.maximum(-np.log1p(-u) if alpha == 1 else gammaincinv(alpha, u), 1e-300)  # a tiny alpha underflows
    return depths, own, (gamma / gamma.sum(1, keepdims=True)).astype(np.float32)


def mixture(
    op: Int8[np.ndarray, "b c d"],
    arg: Float32[np.ndarray, "b c d"],
    filters: Int8[np.ndarray, "b c d"],
    depths: Float64[np.ndarray, "b c"],
    weight: Float32[np.ndarray, "b c+1"],
    fill: UInt8[np.ndarray, " 3"],
    *,
    blend: bool,
) -> Operations:
    """One AUGMIX for each row, of chains cut to ``depths``."""
    beyond = np.arange(op.shape[2]) >= depths[..., None]
    op, arg = np.where(beyond, np.int8(Op.KEEP), op), np.where(beyond, np.float32(0), arg)
    row = np.full((len(op), 1), Op.AUGMIX, np.int8)
    return Operations(row, np.zeros(row.shape, np.float32), chains=Chains(op, arg, filters, weight, fill, blend))
