"""Calibration: whether a model that is 80 % sure is right 80 % of the time.

    ECE = sum_m |B_m| / n * |accuracy(B_m) - confidence(B_m)|,    B_m: answers with confidence in ((m - 1) / M, m / M]

(Guo et al., arXiv 1706.04599, eq. 3; M = 10 in multi-mix, arXiv 2406.01417, section IV-H). Confidence is the largest
softmax.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from ..runtime.checks import check_count, check_tensor


@dataclass(frozen=True, eq=False)
class Reliability:
    """Answers by confidence: ``count``, mean ``confidence`` and ``accuracy`` of each bin, NaN where it is empty."""

    count: Int64[np.ndarray, " bins"]
    confidence: Float64[np.ndarray, " bins"]
    accuracy: Float64[np.ndarray, " bins"]

    @property
    def error(self) -> float:
        """The expected calibration error, in [0, 1]."""
        gaps = np.where(self.count > 0, np.abs(self.accuracy - self.confidence), 0)
        return float((self.count * gaps).sum() / self.count.sum())


def reliability(confidence: Float[Tensor, " n"], right: Tensor, *, bins: int = 10) -> Reliability:
    """Counts answers by ``confidence`` in [0, 1]; ``right`` (n,) says which are. A bin has its upper border, not its lower.

    Raises ``ValueError`` or ``TypeError`` naming the argument.
    """
    bins = check_count("bins", bins)
    sure = check_tensor("confidence", confidence).detach().cpu().double().numpy()
    truth = check_tensor("right", right).detach().cpu().double().numpy()
    if sure.ndim != 1 or sure.shape != truth.shape or not len(sure):
        raise ValueError(
            f"confidence and right must have one shape (n,) with n at least 1, got {sure.shape} and {truth.shape}"
        )
    if not (sure.min() >= 0 and sure.max() <= 1):
        raise ValueError(f"confidence must be in [0, 1], got {sure.min()} to {sure.max()}")
    edges = np.arange(1, bins) / bins
    place = np.searchsorted(edges, sure, side="left")  # of equal ones before: a border belongs to the bin below it
    count = np.bincount(place, minlength=bins)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place, values, minlength=bins) / count for values in (sure, truth)]
    return Reliability(count, *means)


def expected_calibration_error(logits: Float[Tensor, "n classes"], labels: Int64[Tensor, " n"], *, bins: int = 10) -> float:
    """ECE of logits against class numbers, in [0, 1] (arXiv 1706.04599, eq. 3). Raises ``ValueError`` or ``TypeError``."""
    scores = check_tensor("logits", logits)
    if scores.ndim != 2 or len(check_tensor("labels", labels)) != len(scores):
        raise ValueError(f"logits must be (n, classes) for {len(labels)} labels, got shape {tuple(scores.shape)}")
    confidence, guess = torch.softmax(scores.detach().double(), 1).max(1)
    return reliability(confidence.clamp(max=1), guess == labels, bins=bins).error
