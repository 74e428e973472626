"""The exact assignment of blocks to visible places, for the CPU: shortest augmenting paths (Jonker and Volgenant, 1987).

A place gains s_i - move * d^2 from showing block i at distance d. Against nobody moving, a best assignment is a set of
paths that each bring an invisible block in and drop a visible one, and a path gains s_in - s_out - move * sum d^2 > 0, so
no move is longer than that allows and only blocks inside that window are looked at. Prices of blocks nobody has taken stay
0, which lets there be more blocks than places.
"""

from __future__ import annotations

import numpy as np

from ..runtime.jit import njit


@njit()
def assign(start, stop, saliency, visible, n, move, source):  # type: ignore[no-untyped-def]
    """Problems start .. stop: ``source[p, j]`` is the block at place j, -1 where ``visible[p, j]`` is false.

    ``saliency`` float64 (p, n * n), ``visible`` bool (p, n * n), ``source`` int64 (p, n * n), written.
    """
    blocks = n * n
    price = np.empty(blocks)
    taker = np.empty(blocks, np.int64)
    free = np.empty(blocks, np.int64)
    distance = np.empty(blocks)
    before = np.empty(blocks, np.int64)
    scanned = np.empty(blocks, np.bool_)
    for p in range(start, stop):
        s, show, take = saliency[p], visible[p], source[p]
        hidden_most, shown_least = -np.inf, np.inf
        for i in range(blocks):
            take[i] = i if show[i] else -1
            if show[i]:
                shown_least = min(shown_least, s[i])
            else:
                hidden_most = max(hidden_most, s[i])
        if hidden_most - shown_least <= move:
            continue  # nothing hidden is worth the shortest move
        reach = n - 1 if move <= 0 else min(n - 1, int(np.sqrt((hidden_most - shown_least) / move)))
        waiting = 0
        for i in range(blocks):
            price[i] = 0.0
            taker[i] = -1
            if show[i]:
                free[waiting] = i
                waiting += 1
        # augmenting row reduction: each place outbids the taker of its best block by the margin to its second best
        for _ in range(2):
            k, rejected, bids, last = 0, 0, 0, waiting
            while k < last and bids < 16 * blocks:
                bids += 1
                place = free[k]
                k += 1
                best, second, block, other = -np.inf, -np.inf, -1, -1
                y, x = place // n, place % n
                for v in range(max(y - reach, 0), min(y + reach + 1, n)):
                    for u in range(max(x - reach, 0), min(x + reach + 1, n)):
                        i = v * n + u
                        value = s[i] - move * ((v - y) ** 2 + (u - x) ** 2) - price[i]
                        if value > best:
                            second, other = best, block
                            best, block = value, i
                        elif value > second:
                            second, other = value, i
                loser = taker[block]
                if best > second:
                    price[block] += best - second
                elif loser >= 0:
                    block = other
                    loser = taker[block]
                taker[block] = place
                take[place] = block
                if loser >= 0:
                    if best > second:
                        k -= 1
                        free[k] = loser
                    else:
                        free[rejected] = loser
                        rejected += 1
            while k < last:  # out of bids
                free[rejected] = free[k]
                rejected += 1
                k += 1
            waiting = rejected
        # each place still waiting takes a block along a shortest path of reassignments
        for w in range(waiting):
            root = free[w]
            distance[:] = np.inf
            scanned[:] = False
            place, length, end = root, 0.0, -1
            slack = -np.inf  # value of the block that `place` holds
            while True:
                y, x = place // n, place % n
                if place == root:
                    slack = 0.0
                else:
                    i = take[place]
                    slack = s[i] - move * ((i // n - y) ** 2 + (i % n - x) ** 2) - price[i]
                for v in range(max(y - reach, 0), min(y + reach + 1, n)):
                    for u in range(max(x - reach, 0), min(x + reach + 1, n)):
                        i = v * n + u
                        if not scanned[i]:
                            cost = length + slack - (s[i] - move * ((v - y) ** 2 + (u - x) ** 2) - price[i])
                            if cost < distance[i]:
                                distance[i] = cost
                                before[i] = place
                least, end = np.inf, -1
                for i in range(blocks):
                    if not scanned[i] and distance[i] < least:
                        least, end = distance[i], i
                scanned[end] = True
                length = least
                if taker[end] < 0:
                    break
                place = taker[end]
            for i in range(blocks):
                if scanned[i]:
                    price[i] += length - distance[i]
            while True:
                place = before[end]
                given_up = take[place]
                take[place] = end
                taker[end] = place
                if place == root:
                    break
                end = given_up
