"""The learning rate as a function of the epoch, a pure function of the recipe.

    cosine    min_lr + (lr - min_lr) (1 + cos(pi t)) / 2
    step      lr decay_rate^(milestones reached)
    linear    between points lr@epoch; two points of one epoch are a jump

A linear warm-up from ``warmup_lr`` to ``lr`` takes the place of the first ``warmup_epochs`` of cosine and step.
"""

from __future__ import annotations

import math
from itertools import pairwise

from recipe import Recipe


def learning_rate(recipe: Recipe, epoch: float) -> float:
    """The learning rate at a moment of the run, in epochs."""
    now = math.floor(epoch) if recipe.lr_by == "epoch" else epoch
    if recipe.schedule == "linear":
        return _linear(recipe.points, now)
    if now < recipe.warmup_epochs:
        return recipe.warmup_lr + (recipe.lr - recipe.warmup_lr) * now / recipe.warmup_epochs
    if recipe.schedule == "step":
        return recipe.lr * recipe.decay_rate ** sum(float(milestone) <= now for milestone in recipe.milestones.split())
    begin = recipe.warmup_epochs if recipe.warmup_prefix else 0
    done = min((now - begin) / (recipe.epochs - begin), 1)
    return recipe.min_lr + (recipe.lr - recipe.min_lr) * (1 + math.cos(math.pi * done)) / 2


def _linear(points: list[tuple[float, float]], now: float) -> float:
    for (start, low), (end, high) in reversed(list(pairwise(points))):  # of a jump, what is behind it
        if start <= now < end:
            return low + (high - low) * (now - start) / (end - start)
    return points[0][1] if now < points[0][0] else points[-1][1]
