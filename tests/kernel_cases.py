"""Every combination that the fused CUDA kernels meet, against float64 loops; run by the interpreter and on devices."""

from __future__ import annotations

import itertools
from unittest import mock

import numpy as np
import reference
import torch

from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, Switch, mix_images

MIXERS = (
    MixUp(interpolations=5),
    CutMix(interpolations=2),
    HMix(),
    GMix(interpolations=3),
    FMix(),
    Switch([HMix(), GMix()]),
)
# rows of 3, 6, 9, 12, 32, 69, 96 elements, of every greatest common divisor with a store; one channel to five
SHAPES = ((3, 17, 23, 3), (2, 1, 9, 1), (2, 5, 32, 3), (1, 8, 8, 4), (2, 7, 6, 1), (2, 3, 16, 2), (2, 4, 4, 5))
TOLERANCE = {torch.uint8: 0.501, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2.0**-7}
FORMATS = (torch.contiguous_format, torch.channels_last)


def check_kernels(device: str, which: int) -> int:
    """Compares all cases of one mixer, at three shapes, and returns how many there were."""
    from mixops.kernels import launch  # needs Triton

    generator = torch.Generator().manual_seed(0)
    checked = 0
    mixer, tile = MIXERS[which], launch.Tile(256, 2 ** (which % 3), 4, across=which % 2 == 1)
    for shape in (SHAPES[0], SHAPES[2], SHAPES[1 + which]):
        b, h, w, c = shape
        bytes_ = torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8, generator=generator)
        plan = mixer.plan(Key(1), batch_size=b, height=h, width=w)
        mean, std = [0.4 + 0.01 * i for i in range(c)], [0.25 + 0.01 * i for i in range(c)]
        plain = reference.mix_images(bytes_.numpy(), plan)
        normal = reference.mix_images(bytes_.numpy(), plan, mean, std)
        for source, layout, dtype, result in itertools.product((torch.uint8, torch.float32), FORMATS, TOLERANCE, FORMATS):
            if source == torch.float32 and (dtype == torch.uint8 or (dtype != torch.float32 and shape != SHAPES[0])):
                continue
            images = (bytes_ if source == torch.uint8 else bytes_ / 255).to(device).contiguous(memory_format=layout)
            options = {} if dtype == torch.uint8 else {"mean": mean, "std": std, "dtype": dtype}
            out = torch.full((b * plan.interpolations, c, h, w), 77, dtype=dtype, device=device)
            out = out.contiguous(memory_format=result)
            with mock.patch.object(launch, "_INTERPRETED", tile):
                assert mix_images(images, plan, backend="triton", out=out, **options) is out
            expected = plain if dtype == torch.uint8 else normal
            error = np.abs(out.double().cpu().numpy() - expected)
            # the interpreter cuts float32 to bfloat16 where devices round: one unit in the last place
            allowed = TOLERANCE[dtype] * (1 if dtype == torch.uint8 else np.maximum(1, np.abs(expected)))
            assert (error <= allowed).all(), (mixer, shape, source, layout, dtype, result, error.max())
            checked += 1
    return checked
