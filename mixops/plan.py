"""The plan of a batch: who is mixed with whom, under which mask, with what label weight.

Every mixer is ``x~ = M * x_i + (1 - M) * x_j`` and ``y~ = w * y_i + (1 - w) * y_j``. For all but picture-shaped masks M is
rank 1 and nine floats say it,

    M(y, x) = v0 + dv * [y0 <= y < y1] * [x0 <= x < x1] * exp(-a * ((y - cy)**2 + (x - cx)**2)),

so its mean costs H + W, a kernel evaluates it in registers, and a plan of 256 images is 10 kB. The floats are float32
because that is what the kernels read: label weights are computed from the very numbers that blend the pixels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int32, Int64, UInt8

if TYPE_CHECKING:
    from torch import Tensor

from .masks import FLOATS, constant_masks, dense_masks

_VERSION = 1


@dataclass(frozen=True, eq=False)
class MixPlan:
    """One batch's mixing, drawn and fixed: b pairs, k outputs each, for images of ``height`` x ``width`` pixels.

    ``partner[i]`` is the second image of row i, ``weight[i, k]`` the label share of the row's own image in output k,
    ``lam`` the share that was sampled (it differs from ``weight`` where a box was clipped or a Gaussian truncated).
    ``params`` holds the nine floats of each mask; ``dense``, where given, holds masks that are not rank 1, uint8 if they
    are 0 or 1 everywhere, and ``params`` is then unused. ``moves``, where given, says for each output which block of the
    own (0) and of the partner image (1) is shown at each block of a square grid (puzzle-mix's transport).
    """

    partner: Int64[np.ndarray, " b"]
    weight: Float64[np.ndarray, "b k"]
    lam: Float64[np.ndarray, "b k"]
    params: Float32[np.ndarray, "b k 9"]
    height: int
    width: int
    dense: Float32[np.ndarray, "b k h w"] | UInt8[np.ndarray, "b k h w"] | None = None
    moves: Int32[np.ndarray, "b k 2 blocks"] | None = None

    def __post_init__(self) -> None:
        b, k = self.weight.shape
        shapes: list[tuple[str, tuple[int, ...]]] = [("partner", (b,)), ("lam", (b, k)), ("params", (b, k, FLOATS))]
        if self.dense is not None:
            shapes.append(("dense", (b, k, self.height, self.width)))
        if self.moves is not None:
            shapes.append(("moves", (b, k, 2, self.moves.shape[-1])))
        for name, shape in shapes:
            if getattr(self, name).shape != shape:
                raise ValueError(f"{name} must have shape {shape}, got {getattr(self, name).shape}")
        if b and not (self.partner.min() >= 0 and self.partner.max() < b):
            raise ValueError(f"partner must be in [0, {b}), got {self.partner.min()} to {self.partner.max()}")

    @classmethod
    def identity(cls, batch_size: int, *, interpolations: int = 1, height: int = 1, width: int = 1) -> MixPlan:
        """A plan that mixes nothing: every row is its own partner and keeps every pixel and its whole label."""
        ones = np.ones((batch_size, interpolations))
        return cls(np.arange(batch_size), ones, ones.copy(), constant_masks(ones), height, width)

    @property
    def batch_size(self) -> int:
        """Number of pairs b."""
        return self.weight.shape[0]

    @property
    def interpolations(self) -> int:
        """Number of outputs per pair k."""
        return self.weight.shape[1]

    @property
    def constant(self) -> bool:
        """Whether every mask has one value, so that it fits inputs of any shape."""
        return self.dense is None and self.moves is None and not self.params[..., 1].any()

    def mask(self) -> Float64[np.ndarray, "b k h w"]:
        """The masks M, dense: 1 keeps the row's own pixel, 0 shows the partner's. Costs b * k * h * w * 8 bytes."""
        if self.dense is not None:
            return self.dense.astype(np.float64)
        return dense_masks(self.params, self.height, self.width)

    def rows(self, count: int) -> MixPlan:
        """The plan of the first ``count`` pairs, whose partners must be among them."""
        return replace(
            self,
            partner=self.partner[:count],
            weight=self.weight[:count],
            lam=self.lam[:count],
            params=self.params[:count],
            dense=None if self.dense is None else self.dense[:count],
            moves=None if self.moves is None else self.moves[:count],
        )

    def accuracy(self, logits: Any, labels: Any) -> float:
        """Share of right answers on mixed images, an answer counting for its label's weight.

        ``logits`` (b * k, classes), ``labels`` int (b,), torch or numpy. A right guess of the heavier label of a 0.7/0.3
        mixture counts 0.7.
        """
        guess, own = _numpy(logits.argmax(-1)), _numpy(labels)  # NumPy has no bfloat16, and class numbers are less to move
        if guess.shape != (self.batch_size * self.interpolations,) or own.shape != (self.batch_size,):
            raise ValueError(
                f"logits must have {self.batch_size * self.interpolations} rows and labels {self.batch_size}, "
                f"got {guess.shape} and {own.shape}"
            )
        guess = guess.reshape(self.weight.shape)  # (b * k,) -> (b, k)
        right = self.weight * (guess == own[:, None]) + (1 - self.weight) * (guess == own[self.partner][:, None])
        return float(right.mean())

    def to_json(self) -> str:
        """The plan as JSON text; floats are written so that they read back bit for bit."""
        arrays = {name: getattr(self, name) for name in ("partner", "weight", "lam", "params", "dense", "moves")}
        fields = {name: None if array is None else array.tolist() for name, array in arrays.items()}
        return json.dumps({"version": _VERSION, "height": self.height, "width": self.width, **fields})

    @classmethod
    def from_json(cls, text: str) -> MixPlan:
        """The plan that ``to_json`` wrote."""
        fields = json.loads(text)
        if not isinstance(fields, dict) or fields.pop("version", None) != _VERSION:
            raise ValueError(f"text must be a plan of version {_VERSION} written by to_json, got {text[:60]!r}")
        dtypes: dict[str, Any] = {
            "partner": np.int64, "weight": np.float64, "lam": np.float64,
            "params": np.float32, "moves": np.int32,
        }  # fmt: skip
        for name, dtype in dtypes.items():
            fields[name] = None if fields[name] is None else np.asarray(fields[name], dtype)
        if fields["dense"] is not None:
            dense = np.asarray(fields["dense"])
            fields["dense"] = dense.astype(np.uint8 if dense.dtype.kind == "i" else np.float32)
        return cls(**fields)

    def __str__(self) -> str:
        rows = [
            f"  {i} + {self.partner[i]}: " + " ".join(f"{w:.3f}" for w in self.weight[i])
            for i in range(min(self.batch_size, 8))
        ]
        if self.batch_size > 8:
            rows.append(f"  ... {self.batch_size - 8} more")
        head = f"MixPlan of {self.batch_size} pairs, {self.interpolations} outputs each, {self.height}x{self.width}"
        return "\n".join([f"{head}; row + partner: own label weights", *rows])


def concatenate(plans: Sequence[MixPlan]) -> MixPlan:
    """One plan for the concatenated batches of ``plans``; partners stay within their own batch.

    Raises ``ValueError`` unless the plans have one size, one number of outputs, and all or none of them moved blocks.
    """
    if not plans:
        raise ValueError("plans must not be empty")
    first = plans[0]
    for plan in plans:
        same = (plan.interpolations, plan.height, plan.width) == (first.interpolations, first.height, first.width)
        if not same or (plan.moves is None) != (first.moves is None):
            raise ValueError(f"plans must be alike, got {first} and {plan}")
    if len(plans) == 1:
        return first
    starts = np.cumsum([0] + [plan.batch_size for plan in plans[:-1]])
    dense = moves = None
    if any(plan.dense is not None for plan in plans):
        binary = all(plan.dense is not None and plan.dense.dtype == np.uint8 for plan in plans)
        dense = np.concatenate([plan.dense if binary else plan.mask().astype(np.float32) for plan in plans])
    if first.moves is not None:
        moves = np.concatenate([plan.moves for plan in plans if plan.moves is not None])
    return MixPlan(
        partner=np.concatenate([plan.partner + start for plan, start in zip(plans, starts, strict=True)]),
        weight=np.concatenate([plan.weight for plan in plans]),
        lam=np.concatenate([plan.lam for plan in plans]),
        params=np.concatenate([plan.params for plan in plans]),
        height=first.height, width=first.width, dense=dense, moves=moves,
    )  # fmt: skip


def _numpy(x: Float[Tensor, ...] | Float[np.ndarray, ...]) -> Any:
    return x if isinstance(x, np.ndarray) else x.detach().cpu().numpy()
