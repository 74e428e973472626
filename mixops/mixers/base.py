"""What every mixer is: a frozen value that draws plans, and a callable in the place of a collate or ``mixup_fn``.

A mixer draws per *unit*: each row, the whole batch (``draw="batch"``), or each block of a matching (k-mixup mixes a block
with one lambda). A unit has a fixed number of uniform words, so units never disturb each other:

    [apply?] [choice of Switch] [centre y] [centre x], then per output [U] [V] [sign] for lambda.

lambda ~ Beta(a, a) comes from three uniforms without rejection (Devroye 1996, "Random variate generation in one line of
code"): lambda = 1/2 +- 1/2 (1 + 1 / ((U^(-1/a) - 1) cos^2(2 pi V)))^(-1/2), rounded to float32.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float32, Float64, Int64, UInt8

from ..key import Key, Stream
from ..masks import constant_masks, mask_means
from ..pairing.blocks import draw_blocks
from ..pairing.matching import OptimalMatching
from ..plan import MixPlan
from ..runtime.uncompiled import uncompiled
from .keyless import StepCounter

APPLY, CHOICE, CENTRE_Y, CENTRE_X = range(4)  # the words that the outputs of a unit share
_SHARED, _PER_OUTPUT = 4, 3
Self = TypeVar("Self", bound="Mixer")


@dataclass(frozen=True, eq=False)
class Draw:
    """The random numbers of u units before they become masks of k outputs each.

    ``lam`` falls along k; ``cy`` and ``cx`` are uniform in [0, 1) and shared by the outputs of a pair. ``key`` serves
    mixers that need more numbers than these.
    """

    key: Key
    lam: Float64[np.ndarray, "u k"]
    cy: Float64[np.ndarray, " u"]
    cx: Float64[np.ndarray, " u"]


@dataclass(frozen=True, eq=False)
class UnitMasks:
    """Masks of u units, k outputs each: the sampled lambda, the label weight, and the nine floats or the dense mask."""

    lam: Float64[np.ndarray, "u k"]
    weight: Float64[np.ndarray, "u k"]
    params: Float32[np.ndarray, "u k 9"]
    dense: Float32[np.ndarray, "u k h w"] | UInt8[np.ndarray, "u k h w"] | None = None

    def map(self, change: Callable[[np.ndarray], np.ndarray]) -> UnitMasks:
        """The same with ``change`` applied to every array."""
        dense = None if self.dense is None else change(self.dense)
        return UnitMasks(change(self.lam), change(self.weight), change(self.params), dense)


@dataclass(frozen=True, repr=False)
class Mixer(ABC):
    """Base of all mixers.

    ``interpolations`` K >= 1 outputs are made of each pair, their label weights falling along k (multi-mix,
    arXiv 2406.01417). ``draw`` is "sample" (each row its own lambda and mask) or "batch" (the papers' one for all rows).
    ``prob`` is the probability that a unit is mixed at all. ``matching`` chooses partners by the images (k-mixup); one
    block of it then is one unit. Raises ``ValueError`` or ``TypeError`` naming the argument otherwise.
    """

    _: KW_ONLY
    interpolations: int = 1
    draw: Literal["sample", "batch"] = "sample"
    prob: float = 1.0
    matching: OptimalMatching | None = None
    _counter: StepCounter = field(default_factory=StepCounter, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if isinstance(self.interpolations, bool) or not isinstance(self.interpolations, (int, np.integer)):
            raise TypeError(f"interpolations must be an integer, got {self.interpolations!r}")
        if self.interpolations < 1:
            raise ValueError(f"interpolations must be at least 1, got {self.interpolations}")
        if self.draw not in ("sample", "batch"):
            raise ValueError(f"draw must be 'sample' or 'batch', got {self.draw!r}")
        if not 0 <= self.prob <= 1:
            raise ValueError(f"prob must be in [0, 1], got {self.prob}")
        if self.matching is not None and not isinstance(self.matching, OptimalMatching):
            raise TypeError(f"matching must be an OptimalMatching or None, got {self.matching!r}")

    @abstractmethod
    def draw_units(self, key: Key, u: Float64[np.ndarray, "u words"], height: int, width: int) -> UnitMasks:
        """The masks of all units from their uniform words."""

    @uncompiled
    def plan(self, key: Key, *, batch_size: int, height: int, width: int, images: Any = None) -> MixPlan:
        """Draws the plan of one batch, a pure function of the arguments.

        ``height`` and ``width`` in pixels. ``images``, (b, c, h, w) torch or NumPy, are looked at only by a matching and
        required by it. Raises ``ValueError`` for sizes below 1 and for a matching without images or with fewer than two
        blocks.
        """
        check_sizes(key, batch_size, height, width)
        blocks = draw_blocks(key, batch_size, self.matching.k if self.matching else 1)
        if self.matching is None or self.matching.k == 1:
            partner = blocks.partner()
        elif images is None:
            raise ValueError("images must be given to a mixer with matching, got None")
        elif len(images) != batch_size:
            raise ValueError(f"images must hold batch_size = {batch_size} images, got {len(images)}")
        else:
            partner = self.matching.partner(blocks, images)
        return self.plan_pairs(key, partner, self.units(blocks.block_of_row()), height=height, width=width)

    def units(self, block_of_row: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The unit that each row is drawn with."""
        if self.draw == "batch":
            return np.zeros_like(block_of_row)
        return block_of_row

    def plan_pairs(
        self, key: Key, partner: Int64[np.ndarray, " b"], unit: Int64[np.ndarray, " b"], *, height: int, width: int
    ) -> MixPlan:
        """The plan for pairs that are already chosen; row i takes the draw of unit ``unit[i]``."""
        u = key.uniform(Stream.MIX, (int(unit.max()) + 1, _SHARED + _PER_OUTPUT * self.interpolations))
        masks = self.draw_units(key, u, height, width)
        untouched = u[:, APPLY] >= self.prob
        if untouched.any():
            for array in (masks.lam, masks.weight, masks.dense):
                if array is not None:
                    array[untouched] = 1
            masks.params[untouched] = constant_masks(np.ones(1))
        if (np.diff(masks.weight, axis=1) > 0).any():  # truncated Gaussians of few pixels need not fall with lambda
            order = np.argsort(-masks.weight, axis=1, kind="stable")
            masks = masks.map(lambda x: np.take_along_axis(x, order.reshape(*order.shape, *[1] * (x.ndim - 2)), 1))
        if not np.array_equal(unit, np.arange(len(masks.lam))):
            masks = masks.map(lambda x: x[unit])
        return MixPlan(partner, masks.weight, masks.lam, masks.params, height, width, masks.dense)

    def replace(self: Self, **changes: Any) -> Self:
        """The same mixer with some fields changed."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        parts = [(f, getattr(self, f.name)) for f in fields(self) if f.repr]
        positional = [f"{f.name}={value!r}" for f, value in parts if not f.kw_only]
        changed = [f"{f.name}={value!r}" for f, value in parts if f.kw_only and value != f.default]
        return f"{type(self).__name__}({', '.join(positional + changed)})"

    @uncompiled
    def __call__(
        self,
        images: Any,
        labels: Any,
        *,
        key: Key | None = None,
        num_classes: int | None = None,
        smoothing: float = 0.0,
    ) -> tuple[Any, Any]:
        """Mixes a batch and its labels: the place of torchvision's ``v2.MixUp`` and timm's ``mixup_fn``.

        ``images`` (b, c, h, w), ``labels`` int (b,) with ``num_classes``, or soft (b, classes). Returns images
        (b * k, c, h, w) in the dtype of ``images`` and float32 targets (b * k, classes). Without ``key`` the mixer counts
        its own calls; ``state_dict`` holds the count.
        """
        from ..apply.images import mix_images
        from ..apply.targets import mix_targets

        height, width = image_size(images)
        key = self._counter.next_key() if key is None else key
        plan = self.plan(key, batch_size=len(images), height=height, width=width, images=images)
        return mix_images(images, plan), mix_targets(labels, plan, num_classes=num_classes, smoothing=smoothing)

    def state_dict(self) -> dict[str, int]:
        """The state of the keyless call: the seed and the number of calls."""
        return self._counter.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues counting where ``state_dict`` was taken."""
        self._counter.load_state_dict(state)


@dataclass(frozen=True, repr=False)
class BetaMixer(Mixer):
    """Base of the mixers with one lambda ~ Beta(alpha, alpha) an output.

    ``alpha`` > 0. ``label`` is "mask" (label weight == mean of the mask) or "sampled" (the drawn lambda).
    """

    alpha: float = 1.0
    _: KW_ONLY
    label: Literal["mask", "sampled"] = "mask"

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.alpha, bool) or not isinstance(self.alpha, (int, float, np.number)):
            raise TypeError(f"alpha must be a number, got {self.alpha!r}")
        if not 0 < self.alpha < np.inf:
            raise ValueError(f"alpha must be positive and finite, got {self.alpha}")
        if self.label not in ("mask", "sampled"):
            raise ValueError(f"label must be 'mask' or 'sampled', got {self.label!r}")

    @abstractmethod
    def masks(self, draw: Draw, height: int, width: int) -> Float32[np.ndarray, "u k 9"]:
        """The nine floats of the mask of each unit and output."""

    def draw_units(self, key: Key, u: Float64[np.ndarray, "u words"], height: int, width: int) -> UnitMasks:
        """The masks of all units from their uniform words."""
        lam = symmetric_beta(u[:, _SHARED:].reshape(len(u), self.interpolations, _PER_OUTPUT), self.alpha)
        lam = -np.sort(-lam, axis=1)
        params = self.masks(Draw(key, lam, u[:, CENTRE_Y], u[:, CENTRE_X]), height, width)
        weight = lam.copy() if self.label == "sampled" else mask_means(params, height, width)
        return UnitMasks(lam, weight, params)


def symmetric_beta(u: Float64[np.ndarray, "*shape 3"], alpha: float) -> Float64[np.ndarray, "*shape"]:
    """Beta(alpha, alpha) from three uniforms each, rounded to float32 so that no libm's last digit can show."""
    with np.errstate(divide="ignore", over="ignore"):  # a tiny alpha overflows to lambda 0 or 1, which is its limit
        odds = np.expm1(-np.log1p(-u[..., 0]) / alpha) * np.cos(2 * np.pi * u[..., 1]) ** 2
        half = 0.5 / np.sqrt(1 + 1 / odds)
    return (0.5 + np.where(u[..., 2] < 0.5, -half, half)).astype(np.float32).astype(np.float64)


def check_sizes(key: Key, batch_size: int, height: int, width: int) -> None:
    """Raises unless the arguments of a plan make sense."""
    if not isinstance(key, Key):
        raise TypeError(f"key must be a Key, got {key!r}")
    for name, value in (("batch_size", batch_size), ("height", height), ("width", width)):
        if isinstance(value, bool) or not isinstance(value, (int, np.integer)):
            raise TypeError(f"{name} must be an integer, got {value!r}")
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")


def image_size(images: Any) -> tuple[int, int]:
    """Height and width that masks of a batch (b, c, h, w), (b, c, w) or (b, w) have."""
    if images.ndim < 2:
        raise ValueError(f"images must have a batch axis and at least one more, got shape {tuple(images.shape)}")
    return (images.shape[-2] if images.ndim >= 4 else 1), images.shape[-1]
