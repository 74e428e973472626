"""Functions that ``torch.compile`` must call, not trace.

A plan is drawn with NumPy's Philox and 64-bit words, which Dynamo would rewrite as torch operations that have no kernel or
round differently. A traced caller breaks its graph around such a call and stays compiled on both sides of it.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import torch

Parameters = ParamSpec("Parameters")
Result = TypeVar("Result")


def uncompiled(function: Callable[Parameters, Result]) -> Callable[Parameters, Result]:
    """``torch.compiler.disable``, but the seconds that importing the compiler takes are spent only by who compiles."""

    @functools.wraps(function)
    def call(*args: Parameters.args, **kwargs: Parameters.kwargs) -> Result:
        if torch.compiler.is_compiling():
            run: Callable[Parameters, Result] = torch.compiler.disable(function)
            return run(*args, **kwargs)
        return function(*args, **kwargs)

    return call
