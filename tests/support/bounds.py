"""Runs the CPU kernels with numba's bounds checks over hostile plans; run by ``tests/mixops/kernels/test_bounds.py``.

A process of its own, since numba reads NUMBA_BOUNDSCHECK when it compiles. Prints how many batches were made.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numba
import numpy as np
import torch
from support import reference
from support.augmentations import images, plan_of

from mixops import CutMix, Key, MixPlan, MixUp, OptimalMatching, augment_images, mix_images
from mixops.augment.operations import LIMITS, Filter, Op
from mixops.masks import CX, CY, X0, X1, Y0, Y1
from mixops.mixers.registry import examples
from mixops.runtime.checks import MOST

SHAPES = [(1, 1), (1, 9), (7, 1), (5, 33), (31, 3)]
PLACES = [-MOST, -1.0, -0.5, 0.0, 0.5, 1.0, 8.0, MOST]


@numba.njit  # type: ignore[untyped-decorator]
def beyond(x):  # type: ignore[no-untyped-def]
    """Reads behind the end, which must be seen."""
    return x[len(x)]


def hostile(plan: MixPlan, step: int) -> MixPlan:
    """The plan with borders and centres anywhere that a plan allows: outside, in the wrong order, on the last pixel."""
    rng = np.random.default_rng(step)
    params = plan.params.copy()
    for place in (Y0, Y1, X0, X1, CY, CX):
        params[..., place] = rng.choice([*PLACES, plan.height, plan.width, plan.height - 1], params.shape[:2])
    if plan.inset is not None:  # plans refuse to show an image whole in any box that is not inside
        for low, high, side in ((Y0, Y1, plan.height), (X0, X1, plan.width)):
            params[..., [low, high]] = np.sort(rng.integers(0, side + 1, (*params.shape[:2], 2)), 2)
    return replace(plan, params=params)


def blend() -> int:
    """Every mixer, and boxes that no mixer draws, into images of awkward sizes."""
    count = 0
    for (height, width), k in product(SHAPES, (1, 3)):
        given = images(5, height, width)
        for mixer in examples():
            plan = mixer.replace(interpolations=k).plan(Key(2), batch_size=5, height=height, width=width)
            plans = [plan] if plan.dense is not None else [plan, *(hostile(plan, step) for step in range(6))]
            for one in plans:
                mixed = mix_images(given, one, layout="NHWC", backend="numba")
                expected = reference.mix_images(given.transpose(0, 3, 1, 2), one)
                assert np.abs(mixed.transpose(0, 3, 1, 2) - expected).max() <= 0.501
                mix_images(torch.from_numpy(given).permute(0, 3, 1, 2).float(), one, backend="numba")
                count += 2
    return count


def augment() -> int:
    """Every operation at both ends of its argument, under every filter."""
    count = 0
    for (height, width), op in product(SHAPES, Op):
        if op == Op.AUGMIX:
            continue
        for value, kind in product(LIMITS[op], (Filter.NEAREST, Filter.BICUBIC)):
            plan = plan_of(op, np.full(2, value, np.float32), height, width, kind, (1, 2, 3))
            augment_images(images(2, height, width), plan, backend="numba")
            count += 1
    return count


def match() -> int:
    """Matchings of blocks that the batch is no multiple of."""
    for b, k in product((2, 5, 9, 13), (1, 2, 4)):
        mixer = (MixUp if b % 2 else CutMix)(matching=OptimalMatching(k).shortened(b))
        mixer.plan(Key(1), batch_size=b, height=5, width=33, images=images(b, 5, 33).transpose(0, 3, 1, 2))
    return 12


if __name__ == "__main__":
    try:
        beyond(np.zeros(3))
    except IndexError:
        print(blend() + augment() + match())
