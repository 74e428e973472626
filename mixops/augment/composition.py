"""What a loader does to its images: policies one after the other, then erasing, drawn as one plan.

The order is that of the recipes: crop, flip, operations, erasing, mixing, normalisation. (torchvision and timm erase after
normalising, which commutes; timm's prefetcher erases after mixing, which does not.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from ..key import Key, Stream
from ..runtime.checks import check_sequence, shown
from .erasing import Erasing
from .plan import AugmentPlan
from .policies.base import RGB, Policy, Words
from .timm.strings import parse_timm

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, repr=False)
class Augmentation:
    """Policies and erasing, ``members`` in the order in which they are done: erasing last.

    Raises ``ValueError`` or ``TypeError`` naming the argument where they are not in that order, are neither, or more than
    one mixes chains (AugMix).
    """

    members: Sequence[Policy | Erasing]

    def __post_init__(self) -> None:
        members = check_sequence("augment", self.members, "policies and erasing of mixops")
        for member in members:
            if not isinstance(member, (Policy, Erasing)):
                raise TypeError(f"augment must hold policies and erasing of mixops, got {shown(member)}")
        erased = False
        for member in members:
            if erased and isinstance(member, Policy):
                raise ValueError(f"augment must have erasing behind all operations, got {list(members)}")
            erased = erased or isinstance(member, Erasing)
        object.__setattr__(self, "members", members)
        if sum(policy.chained for policy in self.policies) > 1:
            raise ValueError(f"augment must hold one AugMix at most, got {list(members)}")

    @property
    def policies(self) -> tuple[Policy, ...]:
        """The members that draw operations."""
        return tuple(m for m in self.members if isinstance(m, Policy))

    @property
    def erasing(self) -> tuple[Erasing, ...]:
        """The members that erase."""
        return tuple(m for m in self.members if isinstance(m, Erasing))

    def draw(
        self,
        key: Key,
        rows: Int64[np.ndarray, " b"],
        size: tuple[int, int],
        mean: RGB = IMAGENET_MEAN,
        std: RGB = IMAGENET_STD,
    ) -> AugmentPlan:
        """The plan for ``rows`` of the global batch of step ``key``, whose rank is not used; images have ``size`` (h, w).

        ``mean`` and ``std`` are the data's, on the scale [0, 1]: colours outside of warped images and in erased boxes.
        """
        height, width = size
        words = Words(row_uniform(key, Stream.AUGMENT, rows, sum(policy.words for policy in self.policies)))
        drawn = [policy.draw(words, height, width, mean) for policy in self.policies]
        b = len(rows)
        seeds, *rest = np.split(row_uniform(key, Stream.ERASE, rows, 1 + sum(e.words for e in self.erasing)), [1], 1)
        words = Words(rest[0])
        boxes = [erasing.draw(words, height, width, mean, std) for erasing in self.erasing]
        chains = [d.chains for d in drawn if d.chains is not None]
        counts = [d.op.shape[1] for d in drawn]
        return AugmentPlan(
            op=_join([d.op for d in drawn], (b, 0), np.int8),
            arg=_join([d.arg for d in drawn], (b, 0), np.float32),
            filter=_join([d.filters() for d in drawn], (b, 0), np.int8),
            fill=np.repeat(np.array([d.fill for d in drawn], np.uint8).reshape(-1, 3), counts, 0),
            box=_join([d.box for d in boxes], (b, 0, 4), np.int32),
            colour=_join([d.colour for d in boxes], (b, 0, 3), np.uint8),
            noisy=np.repeat(np.array([d.noisy for d in boxes], bool), [d.box.shape[1] for d in boxes]),
            noise=(seeds[:, 0] * 2**32).astype(np.uint32),
            mean=mean, std=std, height=height, width=width, chains=chains[0] if chains else None,
        )  # fmt: skip

    def __repr__(self) -> str:
        return f"Augmentation([{', '.join(map(repr, self.members))}])"


def as_augmentation(augment: Any, *, interpolation: str = "random") -> Augmentation | None:
    """The composition that a loader's ``augment=`` says: one member, a timm string, or a list of these; None is none.

    ``interpolation`` is how the warps of timm's strings interpolate: timm takes the filter of the crop. Raises
    ``ValueError`` or ``TypeError`` naming the argument.
    """
    if augment is None or isinstance(augment, Augmentation):
        return augment
    members: Any = [augment] if isinstance(augment, (str, Policy, Erasing)) else augment
    if not isinstance(members, Sequence):
        raise TypeError(f"augment must be a policy, one of timm's strings, a list of these or None, got {shown(augment)}")
    try:
        members = [parse_timm(m, interpolation=interpolation) if isinstance(m, str) else m for m in members]
    except ValueError as error:
        raise ValueError(f"augment must hold policies and timm's strings: {error}") from error
    return Augmentation(members)


def row_uniform(key: Key, stream: Stream, rows: Int64[np.ndarray, " b"], words: int) -> Float64[np.ndarray, "b words"]:
    """The uniform numbers of each row of the global batch: row i has words i * words to (i + 1) * words of the stream."""
    key = Key(key.seed, key.epoch, key.step)
    breaks = np.flatnonzero(np.diff(rows) != 1) + 1
    runs = np.split(np.asarray(rows), breaks)
    return np.concatenate([key.uniform(stream, (len(run), words), start=int(run[0]) * words) for run in runs])


def _join(parts: list[Any], shape: tuple[int, ...], dtype: Any) -> Any:
    return np.concatenate([np.zeros(shape, dtype), *parts], 1)
