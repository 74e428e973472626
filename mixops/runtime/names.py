"""What functions are called, the same in every process, so that a state that was saved by one is known to another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any


def name_of(function: Callable[..., Any]) -> str:
    """What a function is called, the same in every process: no address, which ``repr`` of a function has."""
    if isinstance(function, partial):
        arguments = [repr(x) for x in function.args] + [f"{name}={x!r}" for name, x in function.keywords.items()]
        return f"partial({', '.join([name_of(function.func), *arguments])})"
    if isinstance(name := getattr(function, "__qualname__", None), str):
        return f"{function.__module__}.{name}"
    text = repr(function)
    return text if " at 0x" not in text else f"{type(function).__module__}.{type(function).__qualname__}"
