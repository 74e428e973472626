"""Cases of a parametrized test that ``make nightly`` runs, beside one or some that every run has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def nightly(cases: Iterable[Any]) -> list[Any]:
    """The cases, marked; a tuple is a case of several arguments."""
    return [pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.nightly) for case in cases]
