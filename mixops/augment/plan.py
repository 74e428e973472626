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

from .operations import LARGEST, LIMITS, Filter, Op, check_operations

_VERSION = 1
_FILTERS = tuple(int(f) for f in Filter)


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
        if self.op.ndim != 3:
            raise ValueError(f"op must have shape (b, c, d), got {self.op.shape}")
        b, c, _ = self.op.shape
        _check_shapes(self, dict.fromkeys(("op", "arg", "filter"), self.op.shape) | {"weight": (b, c + 1), "fill": (3,)})
        check_operations(self.op, self.arg)
        _check_filters(self.filter)
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
        if self.op.ndim != 2 or self.box.ndim != 3:
            raise ValueError(f"op must have shape (b, n) and box (b, e, 4), got {self.op.shape} and {self.box.shape}")
        (b, n), e = self.op.shape, self.box.shape[1]
        shapes = {
            "op": (b, n), "arg": (b, n), "filter": (b, n), "fill": (n, 3), "box": (b, e, 4), "colour": (b, e, 3),
            "noisy": (e,), "noise": (b,),
        }  # fmt: skip
        _check_shapes(self, shapes)
        for name in ("height", "width"):
            if not 1 <= getattr(self, name) <= LARGEST:
                raise ValueError(f"{name} must be in [1, {LARGEST}], got {getattr(self, name)}")
        check_operations(self.op, self.arg)
        _check_filters(self.filter)
        top, left, height, width = np.moveaxis(self.box, -1, 0)
        inside = (top >= 0) & (left >= 0) & (height >= 0) & (width >= 0)
        inside &= (top + height <= self.height) & (left + width <= self.width)
        if not inside.all():
            raise ValueError(f"box must lie inside {self.height}x{self.width}, got {self.box[~inside][0].tolist()}")
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
        """The plan that ``to_json`` wrote."""
        values = json.loads(text)
        if not isinstance(values, dict) or values.pop("version", None) != _VERSION:
            raise ValueError(f"text must be an augmentation of version {_VERSION} written by to_json, got {text[:60]!r}")
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


def _check_shapes(value: Any, shapes: dict[str, tuple[int, ...]]) -> None:
    for name, shape in shapes.items():
        array, dtype = getattr(value, name), _DTYPES[name]
        if array.shape != shape or array.dtype != dtype:
            raise ValueError(f"{name} must be {np.dtype(dtype)} {shape}, got {array.dtype} {array.shape}")


def _check_filters(filters: Int8[np.ndarray, "*shape"]) -> None:
    wrong = ~np.isin(filters, _FILTERS)
    if wrong.any():
        raise ValueError(f"filter must be one of {_FILTERS}, got {filters[wrong][0]}")


def _lists(value: Any) -> dict[str, Any]:
    """The fields of a plan or of chains, arrays as lists."""
    found = {f.name: getattr(value, f.name) for f in fields(value)}
    return {name: x.tolist() if isinstance(x, np.ndarray) else x for name, x in found.items()}


def _arrays(values: dict[str, Any]) -> dict[str, Any]:
    return {name: np.asarray(x, _DTYPES[name]) if name in _DTYPES else x for name, x in values.items()}


def _say(op: int, arg: float) -> str:
    low, high = LIMITS[Op(op)]
    return Op(op).name.lower() + (f" {arg:g}" if low < high else "")


_DTYPES: dict[str, Any] = {
    "op": np.int8, "arg": np.float32, "filter": np.int8, "fill": np.uint8, "box": np.int32, "colour": np.uint8,
    "noisy": np.bool_, "noise": np.uint32, "weight": np.float32,
}  # fmt: skip
