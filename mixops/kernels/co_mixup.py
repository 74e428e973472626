"""The labelling of Co-Mixup: which input each block of each output shows, by exact expansions in turn.

An expansion lets every block of an output keep its label or take one other label, all blocks at once. That is a choice of 0
or 1 a block, and on a grid of n columns its best is found exactly, block by block, with the choices of the last n blocks as
the state: 2^n states, 16 for the usual grid. No cut is needed, and pairs of labels may cost whatever they do.
"""

from __future__ import annotations

from math import inf

import numpy as np

from ..runtime.jit import INNER, njit

MOST_COLUMNS = 8


@njit()
def apart(i, j, k, l):  # noqa: E741 - labels are pairs of inputs (i, j), (k, l)
    """|z - z'|^2 of two labels, each half of one input and half of another."""
    shared = 0.25 * ((i == k) + (i == l) + (j == k) + (j == l))
    return 0.5 * (1 + (i == j)) + 0.5 * (1 + (k == l)) - 2 * shared


@njit(**INNER)
def _cost(cost, i, j, p, bonus):
    return 0.5 * (cost[i, p] + cost[j, p]) - (bonus if i != j else 0.0)


@njit()
def energy(cost, n, beta, bonus, first, second):
    """What the labels of one output cost."""
    total = 0.0
    for p in range(n * n):
        total += _cost(cost, first[p], second[p], p, bonus)
        if p % n:
            total += 0.5 * beta * apart(first[p], second[p], first[p - 1], second[p - 1])
        if p >= n:
            total += 0.5 * beta * apart(first[p], second[p], first[p - n], second[p - n])
    return total


@njit()
def expand(cost, n, beta, bonus, a, b, first, second):
    """Gives the label (a, b) to those blocks of an output that are best off with it; whether any changed."""
    states = 1 << n
    best, after = np.full(states, inf), np.empty(states)
    came = np.zeros((n * n, states), np.int8)
    best[0] = 0.0
    for p in range(n * n):
        y, x = p // n, p % n
        after[:] = inf
        for state in range(states):  # bit c: what column c chose last
            if best[state] == inf:
                continue
            above = (state >> x) & 1
            for choice in range(2):
                i, j = (a, b) if choice else (first[p], second[p])
                value = best[state] + _cost(cost, i, j, p, bonus)
                if y:
                    q = p - n
                    k, m = (a, b) if above else (first[q], second[q])
                    value += 0.5 * beta * apart(i, j, k, m)
                if x:
                    q = p - 1
                    k, m = (a, b) if (state >> (x - 1)) & 1 else (first[q], second[q])
                    value += 0.5 * beta * apart(i, j, k, m)
                new = (state & ~(1 << x)) | (choice << x)
                if value < after[new]:
                    after[new] = value
                    came[p, new] = above
        best[:] = after
    state, changed = np.argmin(best), False  # type: ignore[assignment]  # of the loop above
    for p in range(n * n - 1, -1, -1):
        x = p % n
        if (state >> x) & 1 and (first[p] != a or second[p] != b):
            first[p], second[p] = a, b
            changed = True
        state = (state & ~(1 << x)) | (np.int64(came[p, state]) << x)
    return changed


@njit()
def label_output(cost, n, beta, bonus, blends, first, second):
    """Expands every input, and blends of up to three that the output shows, until none changes anything."""
    inputs = len(cost)
    shown = np.zeros(inputs)
    for p in range(n * n):
        shown[first[p]] += 0.5
        shown[second[p]] += 0.5
    best = np.argsort(-shown, kind="mergesort")
    for _ in range(8):
        changed = False
        for i in range(inputs):
            changed = expand(cost, n, beta, bonus, i, i, first, second) or changed
        if blends:
            for u in range(min(3, inputs)):
                for v in range(u):
                    i, j = min(best[u], best[v]), max(best[u], best[v])
                    if shown[i] > 0 and shown[j] > 0:
                        changed = expand(cost, n, beta, bonus, i, j, first, second) or changed
        if not changed:
            return


@njit()
def label_part(cost, compatible, n, beta, gamma, threshold, bonus, passes, first, second):
    """Labels all outputs of a part in turn, ``passes`` times; ``first`` and ``second`` (outputs, blocks) hold the start.

    ``cost`` (inputs, blocks); an input that ``compatible`` others' outputs show in more than ``threshold`` blocks costs
    2 ``gamma`` times as many in each block.
    """
    inputs, blocks = cost.shape
    outputs = len(first)
    count = np.zeros(inputs)
    for o in range(outputs):
        for p in range(blocks):
            count[first[o, p]] += 0.5
            count[second[o, p]] += 0.5
    charged = np.empty_like(cost)
    for turn in range(passes):
        for o in range(outputs):
            for p in range(blocks):
                count[first[o, p]] -= 0.5
                count[second[o, p]] -= 0.5
            for i in range(inputs):
                others = 0.0
                for j in range(inputs):
                    others += compatible[i, j] * count[j]
                charge = 2 * gamma * others if others > threshold else 0.0
                for p in range(blocks):
                    charged[i, p] = cost[i, p] + charge
            label_output(charged, n, beta, bonus, turn > 0, first[o], second[o])
            for p in range(blocks):
                count[first[o, p]] += 0.5
                count[second[o, p]] += 0.5
