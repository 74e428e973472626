"""What StyleMix and StyleCutMix have in common: the words of a unit, the checks of a plan, and the user's two networks.

A unit is a row or, with ``draw="batch"``, the batch, which is what the authors draw. Its words:

    [apply?] [centre y] [centre x] [t] [content]*3 [style]*3 [gamma]*3, then [t] [content]*3 [style]*3 of each further output
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from ..key import Key, Stream
from ..masks import constant_masks
from ..mixers.beta import symmetric_beta
from ..pairing.blocks import draw_blocks
from ..plan import MixPlan
from ..runtime.checks import check_choice, check_count, check_number, check_tensor, check_type, set_fields, shown
from .style_statistics import check_map

Network = Callable[[Tensor], Tensor]

_FIRST, _GAMMA, _FURTHER = 3, 10, 13  # where words of an output begin
_OUTPUT = 7


@dataclass(frozen=True)
class StyleMixer:
    """Base of both: ``r`` in [0, 1] is what content counts in the label, style the rest; ``prob`` that a unit is mixed.

    ``draw`` is "sample" (each row its own shares) or "batch" (the authors' one for all). ``interpolations`` K >= 1 outputs
    are made of each pair, each with draws of its own, their label weights falling along k. Raises ``ValueError`` or
    ``TypeError`` naming the argument.
    """

    alpha: float = 1.0
    r: float = 0.7
    prob: float = 1.0
    draw: Literal["sample", "batch"] = "sample"
    _: KW_ONLY
    interpolations: int = 1

    def __post_init__(self) -> None:
        set_fields(
            self,
            alpha=check_number("alpha", self.alpha, 0, above=True),
            r=check_number("r", self.r, 0, 1),
            prob=check_number("prob", self.prob, 0, 1),
            draw=check_choice("draw", self.draw, ("sample", "batch")),
            interpolations=check_count("interpolations", self.interpolations),
        )

    def _draw_rows(self, key: Key, batch_size: int) -> RowDraws:
        """Partners and uniform words of all rows."""
        blocks = draw_blocks(key, batch_size)
        unit = np.zeros(batch_size, np.int64) if self.draw == "batch" else blocks.block_of_row()
        words = _FURTHER + _OUTPUT * (self.interpolations - 1)
        u = key.uniform(Stream.MIX, (int(unit.max()) + 1, words))[unit]
        further = u[:, _FURTHER:].reshape(batch_size, -1, _OUTPUT)
        outputs = np.concatenate([u[:, None, _FIRST:_GAMMA], further], 1)  # (b, k, 7)
        return RowDraws(
            partner=blocks.partner(),
            mixed=u[:, 0] < self.prob,
            centre=u[:, 1:_FIRST],
            t=outputs[..., 0],
            content=outputs[..., 1:4],
            style=outputs[..., 4:],
            gamma=u[:, _GAMMA:_FURTHER],
        )


@dataclass(frozen=True, eq=False)
class RowDraws:
    """The random numbers of b rows, k outputs each: who is mixed with whom, whether at all, uniform words for the rest."""

    partner: Int64[np.ndarray, " b"]
    mixed: Bool[np.ndarray, " b"]
    centre: Float64[np.ndarray, "b 2"]
    t: Float64[np.ndarray, "b k"]
    content: Float64[np.ndarray, "b k 3"]
    style: Float64[np.ndarray, "b k 3"]
    gamma: Float64[np.ndarray, "b 3"]

    def beta(self, words: Float64[np.ndarray, "*units 3"], alpha: float) -> Float64[np.ndarray, " *units"]:
        """Beta(alpha, alpha) from the words of a share; 1 for rows that are not mixed."""
        mixed = self.mixed.reshape(-1, *[1] * (words.ndim - 2))
        return np.where(mixed, symmetric_beta(words, alpha), 1.0)


def sort_outputs(weight: Float64[np.ndarray, "b k"], *values: np.ndarray) -> list[np.ndarray]:
    """Arrays (b, k, ...) with the outputs of each row in the order in which ``weight`` falls."""
    order = np.argsort(-weight, axis=1, kind="stable")
    return [np.take_along_axis(value, order.reshape(*order.shape, *[1] * (value.ndim - 2)), 1) for value in values]


def check_partner(value: Any) -> int:
    """The number of rows of ``value``, an int64 array that has one of them for each."""
    check_type("partner", value, np.ndarray, "an int64 array of row numbers")
    check_values("partner", value, np.dtype(np.int64), (value.size,))
    if value.size and not 0 <= value.min() <= value.max() < value.size:
        raise ValueError(f"partner must be in [0, {value.size}), got {value.min()} to {value.max()}")
    return value.size


def label_plan(partner: Int64[np.ndarray, " b"], weight: Float64[np.ndarray, "b k"]) -> MixPlan:
    """Label weights as a plan, which ``mix_targets``, ``sparse_targets`` and ``accuracy`` take."""
    return MixPlan(partner, weight, weight.copy(), constant_masks(weight), 1, 1)


def check_shares(name: str, value: Any, *shape: int) -> np.ndarray:
    """``value``, a float64 array of that shape with numbers in [0, 1]."""
    check_values(name, value, np.dtype(np.float64), shape)
    if value.size and not (value.min() >= 0 and value.max() <= 1):
        raise ValueError(f"{name} must be in [0, 1], got {value.min()} to {value.max()}")
    return value


def check_outputs(name: str, value: Any, rows: int) -> int:
    """The number of outputs of each row in ``value``, a float64 array (rows, k). Raises ``ValueError`` or ``TypeError``."""
    check_type(name, value, np.ndarray, "a float64 array (b, k)")
    if value.ndim != 2 or not value.shape[1]:
        raise ValueError(f"{name} must have shape ({rows}, k) with a value for each output, got {value.shape}")
    return value.shape[1]


def check_values(name: str, value: Any, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
    """Raises ``ValueError`` or ``TypeError`` unless ``value`` is an array of that type and shape."""
    if not isinstance(value, np.ndarray) or value.dtype != dtype:
        raise TypeError(f"{name} must be a NumPy array of {dtype}, got {shown(value)}")
    if value.shape != shape:
        raise ValueError(f"{name} must have the shape {shape}, as partner has {shape[0]} rows, got {value.shape}")


def check_images(images: Any, rows: int) -> Float[Tensor, "b c h w"]:
    """``images`` as a network takes them, as many as a plan has rows."""
    found = check_tensor("images", images)
    if found.ndim != 4 or not found.is_floating_point() or len(found) != rows:
        raise ValueError(
            f"images must be {rows} floating images (b, c, h, w), got {found.dtype} of shape {tuple(found.shape)}"
        )
    return found


def encode(encoder: Any, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d *space"]:
    """The features of a batch. Raises ``ValueError`` or ``TypeError`` if they are no map of each image."""
    features = check_map("what encoder returns", call("encoder", encoder, images))
    if len(features) != len(images):
        raise ValueError(f"encoder must return a map for each of {len(images)} images, got {len(features)}")
    return features


def decode(decoder: Any, features: Float[Tensor, "n d *space"], images: Float[Tensor, "b c h w"]) -> Tensor:
    """Images of features, in the size and dtype of ``images``. Raises ``ValueError`` or ``TypeError`` otherwise."""
    decoded = call("decoder", decoder, features)
    expected = (len(features), *images.shape[1:])
    if tuple(decoded.shape) != expected:
        raise ValueError(
            f"decoder must return images of the size it is given, {expected}, got {tuple(decoded.shape)}: resize within "
            "encoder and decoder"
        )
    return decoded.to(images.dtype)


def call(name: str, network: Any, x: Tensor) -> Tensor:
    """What a network makes of a tensor. Raises ``ValueError`` or ``TypeError`` naming it if that is no tensor."""
    if not callable(network):
        raise TypeError(f"{name} must be a network or a function of a tensor, got {shown(network)}")
    try:
        found = network(x)
    except torch.OutOfMemoryError:
        raise
    except (IndexError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(f"{name} must take a tensor of shape {tuple(x.shape)}: {error}") from error
    return check_tensor(f"what {name} returns", found)


def beside(values: np.ndarray, like: Tensor, axes: int) -> Tensor:
    """Numbers or flags (b, ...) where ``like`` is, numbers in its dtype, as a tensor of ``axes`` axes, the last ones 1."""
    there = torch.from_numpy(values).to(like.device)
    return (there if values.dtype == np.bool_ else there.to(like.dtype)).view(*values.shape, *[1] * (axes - values.ndim))
