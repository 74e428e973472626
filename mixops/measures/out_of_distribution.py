"""How well a score tells what a model knows from what it does not: detection accuracy, AUROC and AUPR.

    detection accuracy = max_t (P(known >= t) + P(unknown < t)) / 2,    AUROC = P(known > unknown) + P(known = unknown) / 2

(Lee et al., arXiv 1706.02690, section 4; MultiMix, arXiv 2311.05538, A.3). The score is usually the largest softmax. AUPR is
average precision, with the known or the unknown as what is to be found; equal scores are one threshold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64
from scipy.stats import rankdata

from ..runtime.checks import check_array


@dataclass(frozen=True)
class Detection:
    """Shares in [0, 1], higher is better."""

    accuracy: float
    auroc: float
    aupr_in: float
    aupr_out: float


def detection(known: Any, unknown: Any) -> Detection:
    """How well scores, torch or NumPy (n,), tell ``known`` (in distribution, higher) from ``unknown`` ones.

    Raises ``ValueError`` naming the argument for scores that are none, or not finite.
    """
    scores = {name: _scores(name, value) for name, value in (("known", known), ("unknown", unknown))}
    both = np.concatenate([scores["known"], scores["unknown"]])
    inside = np.arange(len(both)) < len(scores["known"])
    ranks = rankdata(both)[inside]  # equal scores share their mean rank
    n, m = len(scores["known"]), len(scores["unknown"])
    auroc = (ranks.sum() - n * (n + 1) / 2) / (n * m)
    hits, false = _counts(both, inside)
    accuracy = max(0.5, ((hits / n + 1 - false / m) / 2).max())
    return Detection(float(accuracy), float(auroc), _average_precision(both, inside), _average_precision(-both, ~inside))


def _scores(name: str, value: Any) -> Float64[np.ndarray, " n"]:
    x = check_array(name, value).detach().cpu().double().numpy()
    if x.ndim != 1 or not len(x) or not np.isfinite(x).all():
        raise ValueError(f"{name} must be finite scores (n,) with n at least 1, got shape {x.shape}")
    return x


def _counts(
    score: Float64[np.ndarray, " n"], wanted: Bool[np.ndarray, " n"]
) -> tuple[Float64[np.ndarray, " t"], Float64[np.ndarray, " t"]]:
    """How many of the wanted and of the others score at least t, for each different score t from the highest down."""
    order = np.argsort(-score, kind="stable")
    last = np.append(np.diff(score[order]) != 0, True)
    return np.cumsum(wanted[order])[last].astype(float), np.cumsum(~wanted[order])[last].astype(float)


def _average_precision(score: Float64[np.ndarray, " n"], wanted: Bool[np.ndarray, " n"]) -> float:
    hits, false = _counts(score, wanted)
    recall = hits / wanted.sum()
    return float((np.diff(recall, prepend=0) * hits / (hits + false)).sum())
