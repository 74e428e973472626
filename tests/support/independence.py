"""Whether numbers that were drawn together are independent of one another, and of those of the row before."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from scipy.stats import chi2_contingency

BINS = 4
LEAST = 1e-5  # the draws are fixed by their key, so a test either always passes or never does


def dependent(columns: Mapping[str, np.ndarray]) -> list[str]:
    """The pairs of columns (n,) that depend on each other, row by row or from one row to the next; none if all is well.

    A chi-square test of each pair's table of quarters: unlike a correlation it also sees what is not linear.
    """
    quarters = {name: _quarters(values) for name, values in columns.items()}
    found = []
    for (a, x), (b, y) in product(quarters.items(), repeat=2):
        if a < b and _related(x, y):
            found.append(f"{a} and {b}")
        if _related(x[:-1], y[1:]):
            found.append(f"{a} and the next {b}")
    return found


def _quarters(values: np.ndarray) -> np.ndarray:
    """Which quarter of the sorted values each one lies in; booleans and other few values stay as they are."""
    kinds, index = np.unique(values, return_inverse=True)
    return index if len(kinds) <= BINS else np.argsort(np.argsort(values, kind="stable")) * BINS // len(values)


def _related(x: np.ndarray, y: np.ndarray) -> bool:
    table = np.zeros((x.max() + 1, y.max() + 1), int)
    np.add.at(table, (x, y), 1)
    return bool(chi2_contingency(table[table.any(1)][:, table.any(0)]).pvalue < LEAST)
