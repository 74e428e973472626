"""Puzzle-mix (arXiv 2009.06962): masks that show where each image is salient, and blocks moved to where they are seen.

    x~ = M * move(x_i) + (1 - M) * move(x_j),    y~ = w * y_i + (1 - w) * y_j,    w = mean(M)

K > 1 outputs are multi-mix's best recipe (arXiv 2406.01417, section III-A.3): K priors, one for each lambda, and one solve.
The paper's saliency is a model's input gradient (``gradient.py``), so plans are drawn in the training step, from the key,
the saliency and the images. The images' own (``spectral.py``) needs no model, and plans can then be drawn in a loader.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32
from torch import Tensor

from ...key import Key, Stream
from ...masks import constant_masks
from ...plan import MixPlan
from ...runtime.checks import (
    check_array,
    check_count,
    check_flag,
    check_number,
    check_numbers,
    check_sequence,
    set_fields,
)
from ...runtime.devices import to_device
from ..base import CENTRE_Y, Pairs
from ..beta import BetaMixer, UnitDraws
from .puzzle_masks import block_saliency, mask_problem, solve_masks
from .source import Saliency, check_source, find_saliency, needs_of
from .transport import transport_blocks

_MOST_BLOCKS = 256  # a side: an assignment of more has no end
_ROUNDING = 1e-2  # by which bfloat16 and filters may leave [0, 1]
_MOST_WEIGHT = 1e6  # beside which float32 still tells the other terms of the problem


@dataclass(frozen=True, repr=False)
class PuzzleMix(BetaMixer):
    """Puzzle-mix with lam ~ Beta(alpha, alpha); names and defaults are those of its authors' CIFAR script.

    ``block_num`` n >= 2: masks have n x n blocks, n drawn for a batch from those given that divide both sides.
    ``n_labels`` >= 2 mask values t / (n_labels - 1). ``beta`` and ``gamma`` in [0, 1] weigh smoothness of the mask and of
    the picture, compared in cells of ``neigh_size`` pixels, ``eta`` the prior that pulls the mask's mean to lambda.
    ``transport`` moves blocks at the cost ``t_eps`` of crossing the image, squared. ``saliency`` is "gradient" (the paper's,
    given to ``plan``), "spectral" (from the images alone) or a function of the images. ``std`` is what floating images were
    divided by, one value a channel, if they were normalised. Partners and lambdas are those of ``MixUp`` for the same key.
    Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    _: KW_ONLY
    block_num: int | Sequence[int] = (2, 4, 8, 16)
    n_labels: int = 3
    beta: float = 1.2
    gamma: float = 0.5
    eta: float = 0.2
    neigh_size: int = 4
    transport: bool = True
    t_eps: float = 0.8
    std: Sequence[float] | None = None
    saliency: Saliency = "gradient"

    def __post_init__(self) -> None:
        super().__post_init__()
        set_fields(
            self,
            block_num=_check_block_num(self.block_num),
            n_labels=check_count("n_labels", self.n_labels, 2, 256),
            beta=check_number("beta", self.beta, 0, _MOST_WEIGHT),
            gamma=check_number("gamma", self.gamma, 0, 1),
            eta=check_number("eta", self.eta, 0, _MOST_WEIGHT),
            neigh_size=check_count("neigh_size", self.neigh_size),
            transport=check_flag("transport", self.transport),
            t_eps=check_number("t_eps", self.t_eps, 0, _MOST_WEIGHT),
            std=None if self.std is None else check_numbers("std", self.std, 0, above=True),
            saliency=check_source(self.saliency),
        )
        if self.std == ():
            raise ValueError("std must have one value or one a channel, got none")

    @property
    def _block_nums(self) -> tuple[int, ...]:
        return (self.block_num,) if isinstance(self.block_num, int) else tuple(self.block_num)

    @property
    def mask_needs(self) -> frozenset[str]:
        """Where the images are salient, which the images themselves may say, and where their borders fit."""
        return frozenset({"images"}) | needs_of(self.saliency)

    def masks(self, draws: UnitDraws, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """Constant masks lambda, which those that follow the pictures replace."""
        return constant_masks(draws.lam)

    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen: the lambdas of ``MixUp``, then the masks that the pictures ask for.

        ``images`` (b, c, h, w) are uint8, floating in [0, 1], or normalised by ``std``; an image without finite positive
        ``saliency`` (b, h, w) counts as salient everywhere. The masks are solved on the device of the saliency. Raises
        ``ValueError`` where the arguments do not fit.
        """
        height, width = pairs.height, pairs.width
        x = check_array("images", pairs.images).detach()
        s = find_saliency(self.saliency, x, pairs.saliency)
        for name, value in (("images", x), ("saliency", s)):
            if value.dtype != torch.uint8 and not value.is_floating_point():
                raise TypeError(f"{name} must be uint8 or floating, got {value.dtype}")
        if x.ndim != 4 or s.shape != (x.shape[0], *x.shape[2:]):
            raise ValueError(
                f"saliency must have shape (b, h, w) for images (b, c, h, w), got {tuple(s.shape)} for {tuple(x.shape)}"
            )
        if (height, width) != x.shape[2:]:
            raise ValueError(f"images must be {height}x{width} pixels as the plan, got {x.shape[2]}x{x.shape[3]}")
        n = self._draw_block_num(pairs.key, height, width)
        plan = super().plan_pairs(pairs)
        mask, moves = self._solve(x.to(s.device), s, plan, n)
        return replace(
            plan,
            weight=plan.lam if self.label == "sampled" else mask.mean((2, 3), dtype=np.float64),
            dense=mask,
            moves=moves,
        )

    @torch.no_grad()
    def _solve(self, images: Tensor, saliency: Tensor, pairs: MixPlan, n: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Masks float32 (b, k, n, n) and moves int32 (b, k, 2, n * n)."""
        device, shape = saliency.device, (*pairs.lam.shape, 2, n * n)
        partner = to_device(pairs.partner, device)
        lam = to_device(pairs.lam, device).to(torch.float32)
        shares = block_saliency(saliency, n)
        problem = mask_problem(
            shares, images, partner, self._scale(images), beta=self.beta, gamma=self.gamma, neigh_size=self.neigh_size
        )
        mask = solve_masks(problem, lam, self.n_labels, self.eta)
        moves = None
        if self.transport:
            both = torch.stack([shares, shares[partner]], 1).flatten(2)[:, None].expand(shape)  # (b, k, 2, n * n)
            visible = torch.stack([mask > 0, mask < 1], 2).view(shape)
            found = transport_blocks(both.reshape(-1, n * n), visible.view(-1, n * n), self.t_eps)
            moves = found.view(shape).to(torch.int32).cpu().numpy()
        signs = [saliency.min(), problem.vertical.min(), problem.horizontal.min()]
        if self.std is None and images.is_floating_point():
            low, high = images.aminmax()
            signs.append(torch.minimum(low, 1 - high) + _ROUNDING)  # negative where they leave [0, 1]
        least, *others = torch.stack([value.float() for value in signs]).tolist()  # the device is waited for once
        if least < 0:
            raise ValueError(f"saliency must be at least 0, got {least:.3g}")
        if min(others) < 0:
            raise ValueError(
                f"std must undo the normalisation of images, so that they span [0, 1], got {self.std} for "
                f"values from {images.min().item():.3g} to {images.max().item():.3g}"
            )
        return mask.cpu().numpy(), moves

    def _scale(self, images: Tensor) -> Tensor:
        """What brings differences of each channel to the scale [0, 1]."""
        channels = images.shape[1]
        if images.dtype == torch.uint8:
            return torch.full((channels,), 1 / 255, device=images.device)
        std = (1.0,) if self.std is None else tuple(self.std)
        if len(std) not in (1, channels):
            raise ValueError(f"std must have one value or one a channel, {channels}, got {len(std)}")
        return torch.tensor(std, device=images.device).expand(channels)

    def _draw_block_num(self, key: Key, height: int, width: int) -> int:
        fitting = [n for n in self._block_nums if height % n == 0 and width % n == 0]
        if not fitting:
            raise ValueError(
                f"block_num must have a number that divides both sides of {height}x{width}, got {self.block_num}"
            )
        return fitting[int(key.uniform(Stream.MIX, (1,), CENTRE_Y)[0] * len(fitting))]


def _check_block_num(value: Any) -> int | tuple[int, ...]:
    if isinstance(value, (int, np.integer)):
        return check_count("block_num", value, 2, _MOST_BLOCKS)
    several = check_sequence("block_num", value, "a number or numbers of at least 2")
    if not several:
        raise ValueError(f"block_num must be a number or numbers of at least 2, got {value!r}")
    return tuple(check_count("block_num", n, 2, _MOST_BLOCKS) for n in several)
