"""What every mixer is: a frozen value that draws plans, and a callable in the place of a collate or ``mixup_fn``.

A mixer draws per *unit*: each row, the whole batch (``draw="batch"``), or each block of a matching (k-mixup mixes a block
with one lambda). A unit has a fixed number of uniform words, so units never disturb each other:

    [apply?] [choice of Switch] [centre y] [centre x], then per output three for lambda

A mixer says what its plans look at beside the key (``needs``), so that a place which cannot give it refuses the mixer when
it is constructed and not at its first batch.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import KW_ONLY, dataclass, field, fields, replace
from typing import Any, Literal, TypeVar

import numpy as np
from jaxtyping import Float64, Int64
from torch import Tensor

from ..key import Key, Stream
from ..pairing.blocks import draw_blocks
from ..pairing.matching import OptimalMatching
from ..plan import MixPlan
from ..runtime.checks import check_choice, check_count, check_number, check_sequence, check_type, set_fields
from ..runtime.names import name_of
from ..runtime.uncompiled import uncompiled
from .keyless import StepCounter

APPLY, CHOICE, CENTRE_Y, CENTRE_X = range(4)  # the words that the outputs of a unit share
SHARED_WORDS, OUTPUT_WORDS = 4, 3

Self = TypeVar("Self", bound="Mixer")


@dataclass(frozen=True, eq=False)
class Pairs:
    """A batch whose pairs are chosen: row i is mixed with row ``partner[i]`` and takes the draw of unit ``unit[i]``.

    ``images`` and ``saliency`` are those of the batch where they are at hand, and ``height`` and ``width`` its pixels.
    """

    key: Key
    partner: Int64[np.ndarray, " b"]
    unit: Int64[np.ndarray, " b"]
    height: int
    width: int
    images: Any = None
    saliency: Any = None


@dataclass(frozen=True, repr=False)
class Mixer(ABC):
    """Base of all mixers.

    ``interpolations`` K >= 1 outputs are made of each pair, their label weights falling along k (multi-mix,
    arXiv 2406.01417). ``draw`` is "sample" (each row its own lambda and mask) or "batch" (the papers' one for all rows).
    ``prob`` is the probability that a unit is mixed at all. ``matching`` chooses partners by the images (k-mixup); one
    block of it then is one unit. ``num_classes`` and ``smoothing`` are those of a call that says none, as timm's and
    torchvision's mixers have them. Raises ``ValueError`` or ``TypeError`` naming the argument otherwise.
    """

    _: KW_ONLY
    interpolations: int = 1
    draw: Literal["sample", "batch"] = "sample"
    prob: float = 1.0
    matching: OptimalMatching | None = None
    num_classes: int | None = None
    smoothing: float = 0.0
    _counter: StepCounter = field(default_factory=StepCounter, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        set_fields(
            self,
            interpolations=check_count("interpolations", self.interpolations),
            draw=check_choice("draw", self.draw, ("sample", "batch")),
            prob=check_number("prob", self.prob, 0, 1),
            matching=check_type("matching", self.matching, (OptimalMatching, type(None)), "an OptimalMatching or None"),
            num_classes=None if self.num_classes is None else check_count("num_classes", self.num_classes),
            smoothing=check_number("smoothing", self.smoothing, 0, 1, below=True),
        )

    # What it looks at

    @property
    def mask_needs(self) -> frozenset[str]:
        """What the masks look at: nothing, unless a mixer says "images", "saliency" or both."""
        return frozenset()

    @property
    def needs(self) -> frozenset[str]:
        """What is needed beside key and sizes, of "images", "saliency" and "history".

        ``plan`` needs images and saliency: ``mask_needs``, and images to match. What applies the plan needs the history, the
        batch that was mixed before.
        """
        matches = self.matching is not None and self.matching.k > 1
        return self.mask_needs | ({"images"} if matches else set()) | ({"history"} if self.period > 1 else set())

    @property
    def period(self) -> int:
        """After how many steps mixing begins anew: at steps that it divides nothing depends on a batch before.

        1 for mixers without a history. A run that goes on at step s mixes anew from step s - s % period on.
        """
        return 1

    @property
    def constant(self) -> bool:
        """Whether every mask has one value, so that a plan fits inputs of any shape and needs no mask at all."""
        return False

    # Plans

    @uncompiled
    def plan(
        self,
        key: Key,
        *,
        batch_size: int | None = None,
        height: int | None = None,
        width: int | None = None,
        images: Any = None,
        saliency: Any = None,
    ) -> MixPlan:
        """Draws the plan of one batch, a pure function of the arguments.

        ``height`` and ``width`` in pixels; sizes may be left out where ``images``, (b, c, h, w) torch or NumPy, are given.
        ``saliency`` (b, h, w) >= 0, or a function of the images that returns it. Images and saliency are looked at, and
        required, only by mixers that ``needs`` them. A batch too short for two blocks of the matching is matched in smaller
        ones, the largest k that leaves two. Raises ``ValueError`` or ``TypeError`` naming the argument.
        """
        for name, value in (("images", images), ("saliency", saliency)):
            if name in self.mask_needs and value is None:
                hint = '; a mixer with saliency="spectral" needs none' if name == "saliency" else ""
                raise ValueError(f"{name} must be given to {type(self).__name__}.plan, got None{hint}")
        if images is not None:
            h, w = image_size(images)
            batch_size = len(images) if batch_size is None else batch_size
            height, width = h if height is None else height, w if width is None else width
        batch_size, height, width = check_sizes(key, batch_size, height, width)
        if images is not None and len(images) != batch_size:
            raise ValueError(f"images must hold batch_size = {batch_size} images, got {len(images)}")
        saliency = saliency(images) if callable(saliency) else saliency
        matching = None if self.matching is None else self.matching.shortened(batch_size)
        if matching is None or matching.k == 1:
            blocks = draw_blocks(key, batch_size)
            partner = blocks.partner()
        elif images is None:
            raise ValueError("images must be given to a mixer with matching, got None")
        else:
            blocks = draw_blocks(key, batch_size, matching.k)
            partner = matching.partner(blocks, images)
        unit = self.units(blocks.block_of_row())
        return self.plan_pairs(Pairs(key, partner, unit, height, width, images, saliency))

    def units(self, block_of_row: Int64[np.ndarray, " b"]) -> Int64[np.ndarray, " b"]:
        """The unit that each row is drawn with."""
        if self.draw == "batch":
            return np.zeros_like(block_of_row)
        return block_of_row

    @abstractmethod
    def plan_pairs(self, pairs: Pairs) -> MixPlan:
        """The plan for pairs that are already chosen."""

    def words(self, key: Key, unit: Int64[np.ndarray, " b"]) -> Float64[np.ndarray, "u words"]:
        """The uniform words of all units."""
        return key.uniform(Stream.MIX, (int(unit.max()) + 1, SHARED_WORDS + OUTPUT_WORDS * self.interpolations))

    # As a value

    def replace(self: Self, **changes: Any) -> Self:
        """The same mixer with some fields changed."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        parts = [(f, getattr(self, f.name)) for f in fields(self) if f.repr]
        positional = [f"{f.name}={value!r}" for f, value in parts if not f.kw_only]
        changed = [f"{f.name}={_text(value)}" for f, value in parts if f.kw_only and value != f.default]
        return f"{type(self).__name__}({', '.join(positional + changed)})"

    # As a function of a batch

    @uncompiled
    def __call__(
        self,
        images: Any,
        labels: Any,
        *,
        key: Key | None = None,
        num_classes: int | None = None,
        smoothing: float | None = None,
        saliency: Any = None,
        history: Any = None,
    ) -> tuple[Any, Any]:
        """Mixes a batch and its labels: the place of torchvision's ``v2.MixUp`` and timm's ``mixup_fn``.

        ``images`` (b, c, h, w), ``labels`` int (b,) with ``num_classes``, or soft (b, classes); ``saliency`` as in ``plan``.
        ``num_classes`` and ``smoothing`` are by default the mixer's. Returns images (b * k, c, h, w) in the dtype of
        ``images`` and float32 targets (b * k, classes). ``history`` is what the call for the step before returned: mixers
        that ``needs`` it look at it, and require it at steps that ``period`` does not divide. Without ``key`` the mixer
        counts its own calls; ``state_dict`` holds the count.
        """
        from ..apply.images import mix_images
        from ..apply.targets import mix_targets

        check_type("key", key, (Key, type(None)), "a Key or None")
        image_size(images)
        key = self._counter.next_key() if key is None else key
        plan = self.plan(key, images=images, saliency=saliency)
        num_classes = self.num_classes if num_classes is None else num_classes
        smoothing = self.smoothing if smoothing is None else smoothing
        before = (None, None) if history is None else check_sequence("history", history, "mixed images and their targets", 2)
        shown, known = (None if part is None else part[:: self.interpolations] for part in before)
        mixed = mix_images(images, plan, history=shown)
        return mixed, mix_targets(labels, plan, num_classes=num_classes, smoothing=smoothing, history=known)

    def state_dict(self) -> dict[str, int]:
        """The state of the keyless call: the seed and the number of calls."""
        return self._counter.state_dict()

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Continues counting where ``state_dict`` was taken."""
        self._counter.load_state_dict(state)


def refuse_matching(mixer: Mixer) -> None:
    """Raises ``ValueError`` for a mixer that matches images of a batch and has its partners in another."""
    if mixer.period > 1 and mixer.matching is not None:
        raise ValueError(f"matching must be None for a mixer whose partners were mixed before, got {mixer.matching!r}")


def _text(value: Any) -> str:
    return name_of(value) if callable(value) else repr(value)


def check_sizes(key: Key, batch_size: int | None, height: int | None, width: int | None) -> tuple[int, int, int]:
    """Batch size, height and width. Raises unless the arguments of a plan make sense."""
    check_type("key", key, Key, "a Key")
    return (
        check_count("batch_size", batch_size),
        check_count("height", height),
        check_count("width", width),
    )


def image_size(images: Any) -> tuple[int, int]:
    """Height and width that masks of a batch (b, c, h, w), (b, c, w) or (b, w) have."""
    check_type("images", images, (Tensor, np.ndarray), "a torch tensor or NumPy array")
    if images.ndim < 2:
        raise ValueError(f"images must have a batch axis and at least one more, got shape {tuple(images.shape)}")
    return (images.shape[-2] if images.ndim >= 4 else 1), images.shape[-1]
