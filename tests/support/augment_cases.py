"""Plans whose bytes by Triton's kernels are compared with the CPU executor's, wherever the kernels run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from support.augmentations import ERASING, MEMBERS, MIXTURES, POLICIES, VARIANTS, images, magnitudes, plan_of

from mixops import Key
from mixops.augment import Augmentation, augment_images
from mixops.augment.operations import WARPS, Op
from mixops.augment.plan import AugmentPlan

SIZES = ((7, 5), (33, 40), (1, 9))


def operations(most: int) -> Iterator[AugmentPlan]:
    """Every operation and filter at every size, each with ``most`` magnitudes at most, which differ from size to size."""
    for (op, filter), (i, (height, width)) in ((v, size) for v in VARIANTS for size in enumerate(SIZES)):
        args = magnitudes(op)
        args = [args[(i + j * len(args) // most) % len(args)] for j in range(min(most, len(args)))]
        yield plan_of(op, args, height, width, filter, (9, 99, 199) if op in WARPS else (0, 0, 0))


def policies(rows: int) -> Iterator[AugmentPlan]:
    """Every augmentation alone, and several behind one another with each mixture of chains in another place."""
    for i, member in enumerate(MEMBERS):
        yield Augmentation([member]).draw(Key(i), np.arange(rows), SIZES[i % 3 - 1])
    for i, mixture in enumerate(MIXTURES):
        members = [*POLICIES[i : 2 * i], mixture, *POLICIES[2 * i : 2 * i + 2], *ERASING]
        yield Augmentation(members).draw(Key(i), np.arange(rows), (17, 23))


def differing(plan: AugmentPlan, device: str) -> list[str]:
    """The rows whose bytes are not the CPU executor's, in words."""
    source = images(plan.batch_size, plan.height, plan.width)
    there = torch.from_numpy(source).to(device)
    found = augment_images(there, plan, backend="triton").cpu().numpy()
    assert (there.cpu().numpy() == source).all(), "the input was written to"
    wrong = (found != augment_images(source, plan)).any((1, 2, 3))
    return [str(plan.rows(np.array([i]))) for i in np.flatnonzero(wrong)]


def check(device: str, most: int, rows: int) -> list[str]:
    """What differs, over all plans; every operation takes part in some."""
    plans = [*operations(most), *policies(rows)]
    done = {Op(op) for plan in plans for op in np.unique(plan.op).tolist()}
    assert done == set(Op), set(Op) - done
    return [text for plan in plans for text in differing(plan, device)]
