"""What an argument must be. Every error names the argument, says what it must be, and shows what it got.

Types are looked at before ranges, so that a comparison never meets what it cannot compare; a boolean is no number; what is
unpacked is a sequence of known length, so that no iterator is asked for ever. Each check returns the value in its plain form
(``int``, ``float``, ``tuple``), so that equal arguments print alike.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import torch
from jaxtyping import Int64, Shaped
from torch import Tensor

_PEERS = ("torchvision", "timm", "kornia")  # their mixers and policies have the names of ours
_SHOWN = 100  # characters of a value in a message
_PLAIN = "biufc"  # kinds of NumPy dtypes that are numbers
MOST = 2**24  # rows of a batch, pixels of a side: what float32, in which masks are said, counts exactly
T = TypeVar("T")


def shown(value: Any) -> str:
    """A value in a message: tensors and arrays of several values by dtype and shape, all else as it prints, cut short."""
    if isinstance(value, Tensor) and (value.is_meta or value.layout != torch.strided or value.ndim):
        return f"a {value.layout} {value.dtype} tensor of shape {tuple(value.shape)} on {value.device}".replace(
            "torch.strided ", ""
        )
    if isinstance(value, np.ndarray):
        return f"a {value.dtype} array of shape {value.shape}"
    try:
        text = repr(value)
    except Exception:  # integers of thousands of digits; objects half made
        text = f"a value of type {type(value).__name__}"
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}... ({type(value).__name__})"
    library = type(value).__module__.split(".")[0]
    return f"{text} of {library}" if library in _PEERS else text


def set_fields(instance: Any, **values: Any) -> None:
    """Fields of a frozen dataclass in their plain form, from its ``__post_init__``."""
    for name, value in values.items():
        object.__setattr__(instance, name, value)


def check_type(name: str, value: Any, kind: type[T] | tuple[type[T], ...], what: str) -> T:
    """``value``, an instance of ``kind``, which is called ``what`` in the message."""
    if not isinstance(value, kind):
        raise TypeError(f"{name} must be {what}, got {shown(value)}")
    return value


def check_count(name: str, value: Any, low: int = 1, high: int = MOST) -> int:
    """``value`` as an integer in [low, high]."""
    if type(value) is not int and (isinstance(value, bool) or not isinstance(value, (int, np.integer))):
        raise TypeError(f"{name} must be an integer, got {shown(value)}")
    if not low <= value <= high:
        limit = f"in [{low}, {high}]"
        if high == MOST:
            limit = f"at least {low}" if value < low else f"at most {high}"
        raise ValueError(f"{name} must be {limit}, got {shown(value)}")
    return int(value)


def check_number(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf,
    *, above: bool = False, below: bool = False, infinite: bool = False,
) -> float:  # fmt: skip
    """``value`` as a float in [low, high]; ``above`` leaves out ``low`` itself, ``below`` leaves out ``high``.

    It is finite, unless ``infinite`` takes what is without end as well.
    """
    if type(value) is not float and (
        isinstance(value, bool) or not isinstance(value, (int, float, np.integer, np.floating))
    ):
        raise TypeError(f"{name} must be a number, got {shown(value)}")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    under, over = (number <= low if above else number < low), (number >= high if below else number > high)
    if under or over or math.isnan(number) or (math.isinf(number) and not infinite):
        raise ValueError(f"{name} must be {_interval(low, high, above, below, infinite)}, got {shown(value)}")
    return number


def _interval(low: float, high: float, above: bool, below: bool, infinite: bool) -> str:
    if low == -math.inf:
        return "a number" if infinite else "finite"
    if high == math.inf:
        least = "positive" if above and low == 0 else f"{'above' if above else 'at least'} {low:g}"
        return least if infinite else f"{least} and finite"
    return f"in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"


def check_flag(name: str, value: Any) -> bool:
    """``value`` as True or False."""
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} must be True or False, got {shown(value)}")
    return bool(value)


def check_choice(name: str, value: Any, allowed: Sequence[str], besides: str = "") -> str:
    """The one of ``allowed`` that ``value`` is; ``besides`` says what the caller takes as well."""
    for choice in allowed:
        if isinstance(value, str) and value == choice:
            return choice
    names = [repr(choice) for choice in allowed]
    text = " or ".join(names) if len(names) < 3 else f"one of {', '.join(names)}"
    raise ValueError(f"{name} must be {text}{besides and ' '}{besides}, got {shown(value)}")


def check_sequence(name: str, value: Any, what: str, length: int | None = None) -> tuple[Any, ...]:
    """The items of a list, tuple, one-dimensional array or tensor, ``length`` of them; ``what`` they are called."""
    value = check_tensor(name, value).tolist() if isinstance(value, Tensor) and value.ndim == 1 else value
    value = value.tolist() if isinstance(value, np.ndarray) and value.ndim == 1 else value
    if isinstance(value, (str, bytes, bytearray)) or not isinstance(value, Sequence):
        raise TypeError(f"{name} must be {what}, got {shown(value)}")
    if length is not None and len(value) != length:
        raise ValueError(f"{name} must be {what}, got {len(value)}: {shown(value)}")
    return tuple(value)


def check_vector(name: str, value: Any) -> Shaped[np.ndarray, " n"]:
    """A sequence, array or tensor of real numbers as an array; an empty one holds integers."""
    if isinstance(value, (Sequence, range)) and not isinstance(value, (str, bytes, bytearray)):
        try:
            value = np.array(value, None if len(value) else np.int64)
        except (TypeError, ValueError, OverflowError) as error:
            raise TypeError(f"{name} must be a sequence of numbers, got {shown(value)}") from error
    found = check_array(name, value).detach()
    if found.ndim != 1 or found.is_complex() or found.dtype == torch.bool:
        raise ValueError(f"{name} must be a sequence of numbers, got {shown(value)}")
    return found.cpu().numpy()


def check_indices(name: str, value: Any, count: int) -> Int64[np.ndarray, " n"]:
    """A sequence, array or tensor of integers in [0, count), one at least, as int64."""
    found = check_vector(name, value)
    if not len(found) or found.dtype.kind not in "iu":
        raise ValueError(f"{name} must be a non-empty sequence of integers, got {shown(value)}")
    if found.min() < 0 or found.max() >= count:
        raise ValueError(f"{name} must be in [0, {count}), got {found.min()} to {found.max()}")
    return found.astype(np.int64)


def check_field(name: str, array: Any, dtypes: Sequence[np.dtype[Any]], shape: tuple[int, ...]) -> None:
    """Raises unless ``array`` is a NumPy array of one of ``dtypes`` and of ``shape``."""
    if not isinstance(array, np.ndarray) or array.dtype not in dtypes:
        raise TypeError(f"{name} must be a NumPy array of {' or '.join(map(str, dtypes))}, got {shown(array)}")
    if array.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {array.shape}")


def check_numbers(
    name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False, length: int | None = None
) -> tuple[float, ...]:
    """The floats of a sequence, ``length`` of them, each as ``check_number`` wants it."""
    what = "a list of numbers" if length is None else "a pair of numbers" if length == 2 else f"{length} numbers"
    return tuple(check_number(name, item, low, high, above=above) for item in check_sequence(name, value, what, length))


def check_range(name: str, value: Any, low: float = -math.inf, high: float = math.inf, *, above: bool = False) -> Any:
    """``value`` as a pair of floats with low <= first <= second <= high."""
    first, second = check_numbers(name, value, low, high, above=above, length=2)
    if first > second:
        raise ValueError(f"{name} must be a pair that rises, got {shown(value)}")
    return first, second


def check_tensor(name: str, value: Any, what: str = "a torch tensor") -> Tensor:
    """``value``, a dense tensor that has values."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be {what}, got {type(value).__name__}")
    if value.layout != torch.strided or value.is_meta or value.is_quantized:
        raise TypeError(f"{name} must be a dense tensor that has values, got {shown(value)}")
    return value


def check_array(name: str, value: Any) -> Tensor:
    """``value`` as a dense tensor that has values; of an array a view, or a copy where torch could not read its memory.

    Arrays may be read-only, flipped and of foreign byte order. Nothing may be written to the result.
    """
    if isinstance(value, np.ndarray):
        if value.dtype.kind not in _PLAIN:
            raise TypeError(f"{name} must hold numbers, got {shown(value)}")
        if not value.dtype.isnative:
            value = value.astype(value.dtype.newbyteorder("="))
        if any(stride < 0 or stride % value.itemsize for stride in value.strides):
            value = np.ascontiguousarray(value)  # flipped, or a field of records: torch has no such strides
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # read-only arrays are welcome
                return torch.from_numpy(value)
        except TypeError as error:  # long doubles
            raise TypeError(f"{name} must be of a dtype that torch has, got {shown(value)}") from error
    return check_tensor(name, value, "a torch tensor or NumPy array")
