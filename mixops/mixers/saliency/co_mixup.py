"""Co-Mixup (arXiv 2102.03065): outputs put together from the salient blocks of any images of a batch, all of them in demand.

    min_z  sum_o [ sum_p c[z_op, p] + beta/2 sum_{p~q} |z_op - z_oq|^2 + gamma sum_i n_i(o) * 2 (A n_{-o})_i [ > tau ] ]

z says which input a block of an output shows; c is minus an input's share of saliency minus eta log a_i, a ~
Dirichlet(alpha); n_i(o) are the blocks of input i in output o and n_{-o} those in all others, so what is shown enough
elsewhere (tau blocks) is dear. A = (1 - omega) I + omega D, D how far apart the most salient blocks are, scaled to a mean
row sum of 1. Constants are divided by the number of blocks, as in the authors' code.

Outputs are labelled one after the other, several times, from a random start (the authors' coordinate descent); from the
second time on a block may show halves of two inputs. The authors label an output by swap moves of a graph cut; here by
expansions, each solved exactly (``kernels/co_mixup.py``). The label of an output is the mean of its masks, and a row's own
image, which comes first among its sources, may have no share at all.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64

from ...key import Key, Stream
from ...plan import MixPlan
from ...plan_sources import PlanSources
from ...runtime.checks import check_count, check_number, set_fields
from ...runtime.devices import to_host
from ..base import APPLY, Mixer, Pairs
from ..multi.dirichlet import dirichlet_weights
from .puzzle_masks import EPSILON, block_saliency
from .source import Saliency, check_source, find_saliency, needs_of

_MOST = 1e6
_BONUS = 5e-4  # of a block that shows two inputs, the authors'


@dataclass(frozen=True, repr=False)
class CoMixUp(Mixer):
    """Co-Mixup with names and defaults of its authors' code (arXiv 2102.03065, eq. 2-4).

    ``alpha`` of the Dirichlet prior over the inputs of a part, drawn for each part (``draw="batch"``: one for all).
    ``block_num`` n in [2, 8] must divide both sides; outputs are made in parts of ``part`` rows at most, of equal size.
    ``beta`` weighs smoothness, ``gamma`` the demand for other inputs beyond ``threshold`` in [0, inf) images elsewhere,
    ``eta`` the prior, ``omega`` in [0, 1] the distance; ``passes`` >= 1. ``saliency`` is "gradient" (the paper's, given to
    ``plan``), "spectral" or a function of the images. K outputs have priors and starts of their own, sorted by the share of
    the row's own image. Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    alpha: float = 2.0
    _: KW_ONLY
    block_num: int = 4
    part: int = 20
    beta: float = 0.32
    gamma: float = 1.0
    eta: float = 0.05
    threshold: float = 0.83
    omega: float = 0.001
    passes: int = 4
    saliency: Saliency = "gradient"

    def __post_init__(self) -> None:
        from ...kernels.co_mixup import MOST_COLUMNS

        super().__post_init__()
        set_fields(
            self,
            alpha=check_number("alpha", self.alpha, 0, 1e5, above=True),
            block_num=check_count("block_num", self.block_num, 2, MOST_COLUMNS),
            part=check_count("part", self.part, 1, 256),
            beta=check_number("beta", self.beta, 0, _MOST),
            gamma=check_number("gamma", self.gamma, 0, _MOST),
            eta=check_number("eta", self.eta, 0, _MOST),
            threshold=check_number("threshold", self.threshold, 0, _MOST),
            omega=check_number("omega", self.omega, 0, 1),
            passes=check_count("passes", self.passes, 1, 100),
            saliency=check_source(self.saliency),
        )

    @property
    def mask_needs(self) -> frozenset[str]:
        """What the saliency comes from."""
        return needs_of(self.saliency)

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for rows that stand in the order of their partners; parts are cut from that order.

        An image without finite positive saliency counts as salient everywhere. Raises ``ValueError`` where the arguments do
        not fit.
        """
        n, b = self.block_num, len(pairs.partner)
        height, width = pairs.height, pairs.width
        found = find_saliency(self.saliency, pairs.images, pairs.saliency)
        if height % n or width % n:
            raise ValueError(f"block_num must divide both sides of {height}x{width}, got {n}")
        if tuple(found.shape) != (b, height, width):
            raise ValueError(f"saliency must have shape {(b, height, width)}, got {tuple(found.shape)}")
        share = to_host(block_saliency(found, n)).astype(np.float64).reshape(b, n * n)
        if share.min() < 0:
            raise ValueError(f"saliency must be at least 0, got {share.min():.3g} of an image's in a block")
        labels = self._label(pairs.key, _in_order(pairs.partner), share)  # (b, k, blocks, 2) rows that are shown
        untouched = self.words(pairs.key, pairs.unit)[pairs.unit, APPLY] >= self.prob
        labels[untouched] = np.flatnonzero(untouched)[:, None, None, None]
        more = _sources(labels)
        masks = more.masks.reshape(*more.masks.shape[:3], n, n)
        return MixPlan.of_sources(replace(more, masks=masks), height=height, width=width)

    def _label(
        self, key: Key, order: Int64[np.ndarray, " b"], share: Float64[np.ndarray, "b blocks"]
    ) -> Int64[np.ndarray, "b k blocks 2"]:
        """The two rows, often one, that each block of each output shows."""
        from ...kernels.co_mixup import label_part

        b, blocks, k = *share.shape, self.interpolations
        prior = _priors(key, k, b, self.part, self.alpha, one=self.draw == "batch", order=order)
        start = key.uniform(Stream.SHARES, (k, b, blocks), start=2 * k * b)
        labels = np.empty((b, k, blocks, 2), np.int64)
        scale = 1 / blocks
        for rows in np.array_split(order, -(-b // self.part)):
            compatible = _compatible(share[rows], self.block_num, self.omega)
            for output in range(k):
                cost = -share[rows] - self.eta * scale * np.log(prior[output, rows, None] + EPSILON)
                first = (start[output, rows] * len(rows)).astype(np.int64)
                second = first.copy()
                label_part(
                    cost, compatible, self.block_num, self.beta * scale, self.gamma * scale, self.threshold * blocks,
                    _BONUS, self.passes, first, second,
                )  # fmt: skip
                labels[rows, output] = np.stack([rows[first], rows[second]], -1)
        return labels


def _priors(
    key: Key, k: int, b: int, part: int, alpha: float, *, one: bool, order: Int64[np.ndarray, " b"]
) -> Float64[np.ndarray, "k b"]:
    """The prior of each row among those of its part, Dirichlet; ``one`` gives all parts the words of the first."""
    u = key.uniform(Stream.SHARES, (k, b, 2))
    prior, at = np.empty((k, b)), 0
    for rows in np.array_split(order, -(-b // part)):
        begin = 0 if one else at
        prior[:, rows] = dirichlet_weights(u[:, begin : begin + len(rows)], alpha)
        at += len(rows)
    return prior


def _compatible(share: Float64[np.ndarray, "m blocks"], n: int, omega: float) -> Float64[np.ndarray, "m m"]:
    """A = (1 - omega) I + omega D."""
    y, x = np.divmod(share.argmax(1), n)
    far = np.abs(y[:, None] - y) + np.abs(x[:, None] - x)
    return (1 - omega) * np.eye(len(share)) + omega * far / max(far.sum(), 1) * len(share)


def _in_order(partner: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
    """All rows, each followed by its partner as long as that is new."""
    order, seen = [], np.zeros(len(partner), bool)
    for row in range(len(partner)):
        while not seen[row]:
            seen[row] = True
            order.append(row)
            row = int(partner[row])
    return np.array(order)


def _sources(labels: Int64[np.ndarray, "b k blocks 2"]) -> PlanSources:
    """The rows that each row shows, its own first and then by their share, and their masks (b, k, s, blocks)."""
    b, k, blocks, _ = labels.shape
    share = np.zeros((b, k, b))
    rows, outputs = np.ogrid[:b, :k]
    for side in labels.reshape(b, k, -1).transpose(2, 0, 1):
        share[rows, outputs, side] += 1 / (2 * blocks)
    falling = np.argsort(-share[np.arange(b), :, np.arange(b)], axis=1, kind="stable")  # outputs by the own share
    share, labels = (np.take_along_axis(x, falling.reshape(b, k, *[1] * (x.ndim - 2)), 1) for x in (share, labels))
    rank = share.sum(1)
    rank[np.arange(b), np.arange(b)] = np.inf
    count = max(2, int((rank > 0).sum(1).max()))
    sources = np.argsort(-rank, axis=1, kind="stable")[:, : min(count, b)]
    sources = np.concatenate([sources, np.repeat(np.arange(b)[:, None], count - sources.shape[1], 1)], 1)
    mine = labels[:, :, None] == sources[:, None, :, None, None]  # (b, k, s, blocks, 2)
    mine[:, :, b:] = False  # a batch of one has its own row twice
    masks = mine.mean(-1, dtype=np.float32)
    weight = masks.mean(-1, dtype=np.float64)
    return PlanSources(sources, weight, masks[..., None])
