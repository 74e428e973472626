"""The plan of a batch's augmentation: what is done to each image, drawn and fixed.

A plan says for each row up to n operations in order, with arguments in their own units, and then up to e boxes that are
erased. Who executes it draws nothing, so that every backend, thread and resumed run makes the same bytes of the same image,
and a plan can be read, kept as JSON and executed again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int8, Int32, Shaped, UInt8, UInt32

from ..runtime.checks import check_count, check_flag, check_numbers, check_type, set_fields, shown
from .operations import LARGEST, LIMITS, Op, check_operations
from .plan_checks import DTYPES, check_axes, check_boxes, check_fields, check_filters

_VERSION = 1


@dataclass(frozen=True, eq=False)
class Chains:
    """What ``Op.AUGMIX`` mixes: c chains of d operations each, all of the image as it is when their turn comes (AugMix).

    ``weight`` holds the image's own share first. ``blend`` False is torchvision's arithmetic: all c + 1 shares sum to one,
    and the sum is cut off at whole levels. True is timm's: the c shares of the chains sum to one, their sum is cut off at
    whole levels, and Pillow blends it with the image. ``fill`` is the colour that warps show outside the image.
    """

    op: Int8[np.ndarray, "b c d"]
    arg: Float32[np.ndarray, "b c d"]
    filter: Int8[np.ndarray, "b c d"]
    weight: Float32[np.ndarray, "b c+1"]
    fill: UInt8[np.ndarray, " 3"]
    blend: bool = False

    def __post_init__(self) -> None:
        b, c, _ = check_axes("op", self.op, "(b, c, d)")
        check_fields(self, dict.fromkeys(("op", "arg", "filter"), self.op.shape) | {"weight": (b, c + 1), "fill": (3,)})
        check_operations(self.op, self.arg)
        check_filters(self.filter)
        check_flag("blend", self.blend)
        if (self.op == Op.AUGMIX).any():
            raise ValueError("op of chains must not be AUGMIX")
        if not ((self.weight >= 0) & (self.weight <= 1)).all():
            raise ValueError(f"weight must be in [0, 1], got {self.weight.min()} to {self.weight.max()}")


@dataclass(frozen=True, eq=False)
class AugmentPlan:
    """The augmentation of b images of ``height`` x ``width`` pixels: n operations each, then e erased boxes.

    ``op`` and ``arg`` are operations (``Op``) and their arguments, ``filter`` says how a warp interpolates (``Filter``),
    and ``fill`` is the colour that warps of each of the n show outside the image. ``box`` is (top, left, height, width),
    height 0 where there is none; it shows ``colour``, or where ``noisy`` pixels of noise: normal around ``mean`` with
    deviation ``std`` in each channel, both on the scale [0, 1], chosen by a hash of ``noise`` and the place. ``chains`` are
    those of ``Op.AUGMIX``. Raises ``ValueError`` naming the field where the arrays do not fit one another.
    """

    op: Int8[np.ndarray, "b n"]
    arg: Float32[np.ndarray, "b n"]
    filter: Int8[np.ndarray, "b n"]
    fill: UInt8[np.ndarray, "n 3"]
    box: Int32[np.ndarray, "b e 4"]
    colour: UInt8[np.ndarray, "b e 3"]
    noisy: Bool[np.ndarray, " e"]
    noise: UInt32[np.ndarray, " b"]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    height: int
    width: int
    chains: Chains | None = None

    def __post_init__(self) -> None:
        (b, n), (_, e, _) = check_axes("op", self.op, "(b, n)"), check_axes("box", self.box, "(b, e, 4)")
        shapes = {
            "op": (b, n), "arg": (b, n), "filter": (b, n), "fill": (n, 3), "box": (b, e, 4), "colour": (b, e, 3),
            "noisy": (e,), "noise": (b,),
        }  # fmt: skip
        check_fields(self, shapes)
        for name in ("height", "width"):
            check_count(name, getattr(self, name), 1, LARGEST)
        set_fields(self, mean=check_numbers("mean", self.mean, length=3), std=check_numbers("std", self.std, length=3))
        if self.chains is not None:
            check_type("chains", self.chains, Chains, "the Chains of AugMix or None")
        check_operations(self.op, self.arg)
        check_filters(self.filter)
        check_boxes(self.box, self.height, self.width)
        mixed = self.op == Op.AUGMIX
        if (mixed.sum(1) > 1).any() or (mixed.any() and self.chains is None):
            raise ValueError("op may hold AUGMIX once a row, and then chains must be given")
        if self.chains is not None and len(self.chains.op) != b:
            raise ValueError(f"chains must have {b} rows, got {len(self.chains.op)}")

    @property
    def batch_size(self) -> int:
        """Number of images b."""
        return self.op.shape[0]

    def rows(self, index: slice | Shaped[np.ndarray, " rows"]) -> AugmentPlan:
        """The plan of some of the images."""
        return _change_rows([self], lambda array: array[index])

    def to_json(self) -> str:
        """The plan as JSON text; floats are written so that they read back bit for bit."""
        chains = None if self.chains is None else _lists(self.chains)
        return json.dumps({"version": _VERSION, **_lists(self), "chains": chains})

    @classmethod
    def from_json(cls, text: str) -> AugmentPlan:
        """The plan that ``to_json`` wrote. Raises ``ValueError`` or ``TypeError`` for any other text."""
        try:
            values = json.loads(check_type("text", text, str, "an augmentation written by to_json"))
            if not isinstance(values, dict) or values.pop("version", None) != _VERSION:
                raise KeyError("version")
            return cls._from_lists(values)
        except (KeyError, IndexError, OverflowError, RecursionError, TypeError, ValueError) as error:
            kind = TypeError if not isinstance(text, str) else ValueError
            raise kind(
                f"text must be an augmentation of version {_VERSION} written by to_json, got {shown(text)}: {error}"
            ) from error

    @classmethod
    def _from_lists(cls, values: dict[str, Any]) -> AugmentPlan:
        chains = values.pop("chains")
        values = _arrays(values) | {name: tuple(values[name]) for name in ("mean", "std")}
        b, n, e = len(values["noise"]), len(values["fill"]), len(values["noisy"])
        shapes = {"op": (b, n), "arg": (b, n), "filter": (b, n), "fill": (n, 3), "box": (b, e, 4), "colour": (b, e, 3)}
        values |= {name: values[name].reshape(shape) for name, shape in shapes.items()}  # lists lose axes of length 0
        return cls(**values, chains=None if chains is None else Chains(**_arrays(chains)))

    def __str__(self) -> str:
        rows = [f"  {i}: {self._describe(i)}" for i in range(min(self.batch_size, 8))]
        if self.batch_size > 8:
            rows.append(f"  ... {self.batch_size - 8} more")
        return "\n".join([f"AugmentPlan of {self.batch_size} images, {self.height}x{self.width}", *rows])

    def _describe(self, i: int) -> str:
        parts = [_say(op, arg) for op, arg in zip(self.op[i], self.arg[i], strict=True) if op not in (Op.KEEP, Op.AUGMIX)]
        if self.chains is not None and (self.op[i] == Op.AUGMIX).any():
            for chain in range(self.chains.op.shape[1]):
                op, arg = self.chains.op[i, chain], self.chains.arg[i, chain]
                names = [_say(o, a) for o, a in zip(op, arg, strict=True) if o != Op.KEEP]
                parts.append(f"{self.chains.weight[i, 1 + chain]:.2f} of ({', '.join(names)})")
        boxes = [f"erase {h}x{w} at ({top}, {left})" for top, left, h, w in self.box[i].tolist() if h and w]
        return ", ".join(parts + boxes) or "nothing"


def concatenate(plans: Sequence[AugmentPlan]) -> AugmentPlan:
    """One plan for the concatenated batches of ``plans``.

    Raises ``ValueError`` unless the plans are of one kind: sizes, colours, numbers of operations, boxes and chains.
    """
    if not plans:
        raise ValueError("plans must not be empty")
    first = plans[0]
    for plan in plans:
        if _kind(plan) != _kind(first):
            raise ValueError(f"plans must be alike, got {first} and {plan}")
    return first if len(plans) == 1 else _change_rows(plans, lambda *arrays: np.concatenate(arrays))


def _change_rows(plans: Sequence[AugmentPlan], change: Callable[..., np.ndarray]) -> AugmentPlan:
    """The first plan with ``change`` of all plans' arrays in the place of those that have a row for each image."""

    def changed(values: Sequence[Any], *names: str) -> dict[str, Any]:
        return {name: change(*[getattr(value, name) for value in values]) for name in names}

    chains = plans[0].chains
    if chains is not None:
        chains = replace(chains, **changed([plan.chains for plan in plans], "op", "arg", "filter", "weight"))
    return replace(plans[0], chains=chains, **changed(plans, "op", "arg", "filter", "box", "colour", "noise"))


def _kind(plan: AugmentPlan) -> tuple[Any, ...]:
    """What plans of one batch have in common."""
    chains = plan.chains
    common = None if chains is None else (chains.op.shape[1:], chains.fill.tolist(), chains.blend)
    sizes = (plan.height, plan.width, plan.op.shape[1], plan.box.shape[1])
    return *sizes, plan.fill.tolist(), plan.noisy.tolist(), plan.mean, plan.std, common


def _lists(value: Any) -> dict[str, Any]:
    """The fields of a plan or of chains, arrays as lists."""
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in found.items()}


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(x, DTYPES[name]) if name in DTYPES else x for name, x in values.items()}


def _say(op: int, arg: float) -> str:
    low, high = LIMITS[Op(op)]
    return Op(op).name.lower() + (f" {arg:g}" if low < high else "")
