"""A plan as JSON text, to keep beside a batch or to look at.

Floats are written so that they read back bit for bit. Fields that came later than the others are written only by plans that
have them, so that older texts can be read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from .plan_sources import PlanSources
from .runtime.checks import check_type, shown

Read = TypeVar("Read")

_VERSION = 1
_DTYPES: dict[str, dict[str, Any]] = {  # of a plan's arrays, by the kind of numbers in JSON
    "partner": {"i": np.int64},
    "weight": {"f": np.float64},
    "lam": {"f": np.float64},
    "params": {"f": np.float32},
    "dense": {"f": np.float32, "i": np.uint8},
    "moves": {"i": np.int32},
}
_MORE: dict[str, dict[str, Any]] = {"rows": {"i": np.int64}, "weight": {"f": np.float64}, "masks": {"f": np.float32}}
FLAGS = ("inset", "past")  # of rows; a plan that has none says None


def written(plan: Any) -> str:
    """The text of a plan."""
    arrays = {name: getattr(plan, name) for name in _DTYPES}
    fields: dict[str, Any] = {name: None if array is None else array.tolist() for name, array in arrays.items()}
    if plan.more is not None:
        fields["more"] = {name: getattr(plan.more, name).tolist() for name in _MORE}
    fields |= {name: flags.astype(int).tolist() for name in FLAGS if (flags := getattr(plan, name)) is not None}
    return json.dumps({"version": _VERSION, "height": plan.height, "width": plan.width, **fields})


def read(text: str, make: Callable[..., Read]) -> Read:
    """What ``make`` makes of the fields that ``written`` wrote. Raises ``ValueError`` for any other text."""
    check_type("text", text, str, "JSON text")
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"text must be a plan written by to_json, got {shown(text)}: {error}") from error
    names = {"version", "height", "width", *_DTYPES}
    if not isinstance(fields, dict) or fields.get("version") != _VERSION:
        raise ValueError(f"text must be a plan of version {_VERSION} written by to_json, got {shown(text)}")
    if fields.keys() - {"more", *FLAGS} != names:
        raise ValueError(f"text must have the keys {', '.join(sorted(names))}, got {shown(sorted(fields))}")
    try:
        arrays: dict[str, Any] = {name: _from_lists(name, fields[name], kinds) for name, kinds in _DTYPES.items()}
        more = None
        if "more" in fields:
            told = fields["more"]
            if not isinstance(told, dict) or told.keys() != _MORE.keys():
                raise ValueError(f"more must have the keys {', '.join(_MORE)}, got {shown(told)}")
            parts: dict[str, Any] = {name: _from_lists(name, told[name], kinds) for name, kinds in _MORE.items()}
            more = PlanSources(**parts)
        for name in fields.keys() & set(FLAGS):
            arrays[name] = _from_lists(name, fields[name], {"i": np.bool_})
        return make(**arrays, height=fields["height"], width=fields["width"], more=more)
    except (ValueError, TypeError) as error:
        raise ValueError(f"text must be a plan written by to_json, but {error}") from error


def _from_lists(name: str, lists: Any, dtypes: dict[str, Any]) -> np.ndarray | None:
    """The array of nested lists of numbers; where no number is lost, as an array of its dtype."""
    if lists is None and name in ("dense", "moves"):
        return None
    try:
        array = np.asarray(lists)
    except ValueError as error:  # rows of several lengths
        raise ValueError(f"{name} must be lists of one length, got {shown(lists)}") from error
    kind = array.dtype.kind
    if not isinstance(lists, list) or kind not in ("if" if "f" in dtypes else "i"):
        raise ValueError(f"{name} must be lists of {'numbers' if 'f' in dtypes else 'integers'}, got {shown(lists)}")
    dtype = dtypes.get(kind, dtypes.get("f"))
    with np.errstate(over="ignore"):  # what is too large becomes infinite, and is refused
        converted = array.astype(dtype)
    if kind == "i" and (converted != array).any():
        raise ValueError(f"{name} must be in the range of {np.dtype(dtype)}, got {array.min()} to {array.max()}")
    return converted
