"""Every combination that the fused CUDA kernels meet, against float64 loops; run by the interpreter and on devices."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import torch
from support import reference

from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, RecursiveMix, ResizeMix, Switch, mix_images
from mixops.plan import MixPlan

MIXERS = (
    MixUp(interpolations=5),
    CutMix(interpolations=2),
    HMix(),
    GMix(interpolations=3),
    FMix(),
    Switch([HMix(), GMix()]),
    Switch([FMix(interpolations=2), GMix(interpolations=2)]),
    ResizeMix(interpolations=3),
    Switch([RecursiveMix(area=1.0), FMix(), RecursiveMix()]),
    Switch([RecursiveMix(interpolations=2), MixUp(interpolations=2)]),
)
KEY = Key(1, step=1)  # at the first step nothing has been mixed before
# rows of 3, 6, 9, 12, 32, 69, 96 elements, of every greatest common divisor with a store; one channel to five
SHAPES = (
    (3, 17, 23, 3),
    (2, 1, 9, 1),
    (2, 5, 32, 3),
    (1, 8, 8, 4),
    (2, 7, 6, 1),
    (2, 3, 16, 2),
    (2, 4, 4, 5),
    (3, 2, 10, 3),
)
TOLERANCE = {torch.uint8: 0.501, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2.0**-7}
FORMATS = (torch.contiguous_format, torch.channels_last)


def check_kernels(device: str, which: int) -> int:
    """Compares all cases of one mixer and returns how many there were.

    At three shapes, but on the CPU, where an interpreter takes its time, for the others than the first at one.
    """
    from mixops.kernels.blend import launch

    checked = 0
    mixer, tile = MIXERS[which], launch.Tile(256, 2 ** (which % 3), 4, across=which % 2 == 1)
    for shape in (SHAPES[0], SHAPES[2], SHAPES[1 + which % 7])[2 if device == "cpu" and which else 0 :]:
        b, h, w, _ = shape
        plan = mixer.plan(KEY, batch_size=b, height=h, width=w)
        for source, layout, dtype, result in itertools.product((torch.uint8, torch.float32), FORMATS, TOLERANCE, FORMATS):
            if source == torch.float32 and (dtype == torch.uint8 or (dtype != torch.float32 and shape != SHAPES[0])):
                continue
            with mock.patch.object(launch, "_INTERPRETED", tile):
                compare(plan, shape[3], source, layout, dtype, result, device)
            checked += 1
    return checked


def compare(
    plan: MixPlan, channels: int, source: torch.dtype, layout: torch.memory_format, dtype: torch.dtype,
    result: torch.memory_format, device: str = "cpu",
) -> None:  # fmt: skip
    """Mixes random images, and where the plan recalls them those of a step before, by the CUDA kernels into poisoned memory
    and compares with float64 loops.
    """
    b, k, h, w = *plan.weight.shape, plan.height, plan.width
    generator = torch.Generator().manual_seed(0)
    bytes_ = torch.randint(0, 256, (b, channels, h, w), dtype=torch.uint8, generator=generator)
    before = torch.randint(0, 256, (b + 1, channels, h, w), dtype=torch.uint8, generator=generator)
    images = (bytes_ if source == torch.uint8 else bytes_ / 255).to(device).contiguous(memory_format=layout)
    history = (before if source == torch.uint8 else before / 255).to(device)
    mean, std = [0.4 + 0.01 * i for i in range(channels)], [0.25 + 0.01 * i for i in range(channels)]
    normal = () if dtype == torch.uint8 else (mean, std)
    options = {} if dtype == torch.uint8 else {"mean": mean, "std": std, "dtype": dtype}
    out = torch.full((b * k, channels, h, w), 77, dtype=dtype, device=device).contiguous(memory_format=result)
    assert mix_images(images, plan, backend="triton", out=out, history=history, **options) is out
    known = before.double().numpy()
    if normal:
        known = (known / 255 - np.reshape(mean, (-1, 1, 1))) / np.reshape(std, (-1, 1, 1))
    expected = reference.mix_images(bytes_.numpy(), plan, *normal, history=known)
    error = np.abs(out.double().cpu().numpy() - expected)
    # the interpreter cuts float32 to bfloat16 where devices round: one unit in the last place
    allowed = TOLERANCE[dtype] * (1 if dtype == torch.uint8 else np.maximum(1, np.abs(expected)))
    assert (error <= allowed).all(), (plan, channels, source, layout, dtype, result, error.max())
