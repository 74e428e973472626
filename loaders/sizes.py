"""Output sizes and batch sizes as functions of the epoch: progressive resizing, within one loader and its state.

Sizes("160@0 192@40 224@80")        from epoch 40 on 192 pixels, from epoch 80 on 224
Sizes("160@0 192@40.5")             from the middle of epoch 40 on
Sizes("160@65 192@76", ramp=True)   linear between the stages, in steps of ``multiple`` pixels (ffcv-imagenet)
BatchSizes("512@0 256@80")
"""

from __future__ import annotations

import re
from dataclasses import KW_ONLY, dataclass
from itertools import pairwise
from typing import Any, NoReturn

import numpy as np

from mixops.runtime.checks import MOST, check_count, check_flag, check_number, check_sequence, set_fields, shown

Stages = tuple[tuple[float, int], ...]  # (first epoch, value), ascending


@dataclass(frozen=True)
class Sizes:
    """The side of the output as a function of the epoch, a fraction of which may be a stage's beginning.

    ``stages`` is text such as "160@0 192@40 224@80", or pairs (epoch, side), ascending; the first side holds before the
    first stage, too. With ``ramp`` sides between stages are interpolated and rounded to ``multiple``. Raises ``ValueError``
    naming the argument.
    """

    stages: Any
    _: KW_ONLY
    ramp: bool = False
    multiple: int = 32

    def __post_init__(self) -> None:
        set_fields(
            self, stages=parse_stages(self.stages), ramp=check_flag("ramp", self.ramp),
            multiple=check_count("multiple", self.multiple),
        )  # fmt: skip

    def at(self, epoch: int, step: int, steps: int) -> int:
        """The side at a step of an epoch of ``steps``."""
        now = epoch + step / steps
        if not self.ramp:
            return _value(self.stages, now)
        epochs, sides = zip(*self.stages, strict=True)
        side = np.interp(now, epochs, sides)
        return max(int(np.rint(side / self.multiple)), 1) * self.multiple

    @property
    def largest(self) -> int:
        """The largest side of all."""
        return max(side for _, side in self.stages)


@dataclass(frozen=True)
class BatchSizes:
    """The batch size of one rank as a function of the epoch; ``stages`` as in ``Sizes``, but of whole epochs."""

    stages: Any

    def __post_init__(self) -> None:
        object.__setattr__(self, "stages", parse_stages(self.stages))
        if any(epoch != int(epoch) for epoch, _ in self.stages):
            raise ValueError(f"stages of batch sizes must begin with whole epochs, got {self.stages}")

    def at(self, epoch: int) -> int:
        """The batch size of an epoch."""
        return _value(self.stages, epoch)

    @property
    def largest(self) -> int:
        """The largest batch size of all."""
        return max(size for _, size in self.stages)


def parse_stages(stages: Any) -> Stages:
    """(epoch, value) pairs of text such as "160@0 192@40", or of such pairs. Raises ``ValueError``."""
    pairs: list[tuple[float, int]] = []
    if isinstance(stages, str):
        for part in stages.split():
            match = re.fullmatch(r"(\d+)@(\d+(?:\.\d+)?)", part)
            if match is None:
                raise ValueError(f"stages must read like '160@0 192@40', value@epoch, got {shown(stages)}")
            pairs.append((float(match[2]), int(match[1])))
    else:
        for pair in check_sequence("stages", stages, "text such as '160@0 192@40' or pairs of (epoch, value)"):
            epoch, value = check_sequence("stages", pair, "pairs of (epoch, value)", 2)
            pairs.append((check_number("stages", epoch, 0), check_count("stages", value)))
    epochs, values = [epoch for epoch, _ in pairs], [value for _, value in pairs]
    if not pairs or any(b <= a for a, b in pairwise(epochs)):
        raise ValueError(f"stages must have ascending epochs, got {shown(stages)}")
    if not 1 <= min(values) <= max(values) <= MOST:
        raise ValueError(f"stages must have values in [1, {MOST}], got {shown(stages)}")
    return tuple(pairs)


def _value(stages: Stages, now: float) -> int:
    value = stages[0][1]
    for epoch, later in stages:
        if now >= epoch:
            value = later
    return value


class FixedSize:
    """``size`` of a loader, which is told of its course when it is made: a number set later would be ignored."""

    _size: tuple[int, int] | Sizes

    @property
    def size(self) -> tuple[int, int] | Sizes:
        """The output's (height, width), or what it is in the course of the epochs. Setting it is an ``AttributeError``."""
        return self._size

    @size.setter
    def size(self, value: object) -> NoReturn:
        raise AttributeError(
            f"size can't be set, since batches are made ahead and resumed by it: give ImageLoader size={value!r}, or "
            "size=Sizes('160@0 192@40') for one that changes with the epoch"
        )
