"""The CUDA kernels of augmentation as they are compiled for a device, executed without one: the CPU executor's bytes.

The tables of levels are filled in from the CPU here: their threads share memory, and the interpreter runs that kernel.
"""

from __future__ import annotations

from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from support.augmentations import ERASING, images, magnitudes, plan_of
from torch import Tensor

pytest.importorskip("triton")
from support.emulated import Emulated

from mixops import Key
from mixops.augment import Augmentation, AugMix, ColorJitter, GaussianBlur, TrivialAugmentWide, augment_images
from mixops.augment.operations import WARPS, Filter, Op
from mixops.augment.plan import AugmentPlan
from mixops.kernels.augment import launch
from mixops.kernels.augment.passes import ARG, OP, SOURCE

_ELEMENTWISE = [name for name in launch.KERNELS if name != "make_tables"]


class Tables:
    """Stands in for ``make_tables``: what the CPU makes of the levels that an image has."""

    def __getitem__(self, grid: tuple[int, ...]) -> Any:
        return self._run

    @staticmethod
    def _run(
        images: Tensor,
        out: Tensor,
        spare: Tensor,
        tables: Tensor,
        record: Tensor,
        b: int,
        first: int,
        h: int,
        w: int,
        **_: Any,
    ) -> None:
        slots = torch.cat([images.reshape(-1, h, w, 3), out.reshape(-1, h, w, 3), spare.reshape(-1, h, w, 3)]).numpy()
        lines = record.reshape(-1, 11).numpy()[first:]
        for line, table in zip(lines, tables.reshape(-1, 3, 256).numpy(), strict=False):
            source = slots[line[SOURCE]]
            done = augment_images(source[None], plan_of(Op(line[OP]), [float(line[ARG].view(np.float32))], h, w))[0]
            for c in range(3):
                table[c, source[..., c]] = done[..., c]


def differing(plan: AugmentPlan) -> list[str]:
    """The rows whose bytes are not the CPU executor's, in words."""
    source = images(plan.batch_size, plan.height, plan.width)
    out = torch.empty(source.shape, dtype=torch.uint8)
    emulated = {name: Emulated(launch.KERNELS[name], 90, alone=True) for name in _ELEMENTWISE}
    with (
        mock.patch.dict(launch.KERNELS, {**emulated, "make_tables": Tables()}),
        mock.patch.object(launch, "_INTERPRETED", 256),
    ):
        launch.augment(torch.from_numpy(source), plan, out)
    wrong = (out.numpy() != augment_images(source, plan)).any((1, 2, 3))
    return [str(plan.rows(np.array([i]))) for i in np.flatnonzero(wrong)]


CASES = [
    *((op, filter) for op in WARPS for filter in Filter),
    *((op, Filter.NEAREST) for op in (Op.BRIGHTNESS, Op.COLOR, Op.SHARPNESS, Op.EQUALIZE, Op.GRAYSCALE, Op.BLUR, Op.HUE)),
]


@pytest.mark.parametrize(("op", "filter"), CASES, ids=lambda x: x.name)
def test_operations(op: Op, filter: Filter) -> None:
    args = magnitudes(op)
    args = args[:: max(len(args) // 3, 1)][:4]
    assert differing(plan_of(op, args, 13, 21, filter, (9, 99, 199) if op in WARPS else (0, 0, 0))) == []


@pytest.mark.parametrize("mixture", [AugMix(mixture_width=2, chain_depth=2), None], ids=str)
def test_operations_behind_one_another(mixture: Any) -> None:
    members = [ColorJitter(0.4, 0.4, 0.4, 0.2), TrivialAugmentWide(), GaussianBlur(p=0.5), *ERASING]
    plan = Augmentation([mixture, *members] if mixture else members).draw(Key(2), np.arange(4), (12, 15))
    assert differing(plan) == []
