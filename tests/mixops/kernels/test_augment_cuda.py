"""The CUDA executor of augmentation plans: the CPU executor's bytes, in Triton's interpreter and on a device where there is
one; compiled ahead of time for real devices.

The interpreter has to be chosen before a kernel is defined, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.augment_cases import check
from support.augmentations import images, plan_of

from mixops import Key
from mixops.augment import Augmentation, AugMix, GaussianBlur, TrivialAugmentWide, augment_images
from mixops.augment.operations import Filter, Op

pytest.importorskip("triton")
from mixops.kernels.augment.launch import _OPTIONS, KERNELS
from mixops.kernels.augment.passes import COPY, MIX, SOURCE, TABLE, TARGET, passes

POINTERS = {
    "images": "*u8", "out": "*u8", "spare": "*u8", "tables": "*u8", "record": "*i32", "matrix": "*fp64", "mixed": "*i32",
    "weight": "*fp32", "box": "*i32", "seed": "*i32", "values": "*u8",
}  # fmt: skip
CONSTANTS: dict[str, list[dict[str, Any]]] = {
    "points": [{"TABLE": True}, {"TABLE": False}],
    "boxes": [{"DOWN": True}, {"DOWN": False}],
    "interpolate": [{"CUBIC": True}, {"CUBIC": False}],
    "mix": [{"CHAINS": 3, "BLENDED": True}, {"CHAINS": 3, "BLENDED": False}],
}


def interpreted(code: str) -> str:
    """What ``code`` prints where Triton's kernels are interpreted."""
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})\n"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", path + code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.nightly
def test_the_interpreted_kernels_have_the_cpus_bytes() -> None:
    code = "import json\nfrom support.augment_cases import check\nprint(json.dumps(check('cpu', 2, 3)))"
    assert json.loads(interpreted(code)) == []


@pytest.mark.nightly
def test_a_wrong_byte_is_found() -> None:
    """The boxes of a blur reach a pixel too far."""
    code = """
import json
from support import augment_cases as cases
from mixops.kernels.augment import passes, launch
from mixops.augment.operations import Op
sent = launch.passes
def off(plan):
    found = sent(plan)
    found.record[:, passes.NUMBERS] += found.record[:, passes.OP] == int(Op.BLUR)
    return found
launch.passes = off
plan = cases.plan_of(Op.BLUR, [1.0, 2.0], 7, 5)
print(json.dumps(len(cases.differing(plan, "cpu"))))
"""
    assert json.loads(interpreted(code)) == 2


@pytest.mark.gpu
def test_the_kernels_have_the_cpus_bytes() -> None:
    assert check("cuda", 12, 16) == []


@pytest.mark.gpu
def test_images_on_a_device_are_augmented_there() -> None:
    plan = Augmentation([TrivialAugmentWide()]).draw(Key(), np.arange(64), (224, 224))
    source = images(64, 224, 224)
    there = torch.from_numpy(source).cuda()
    expected = augment_images(source, plan)
    assert (augment_images(there, plan).cpu().numpy() == expected).all()
    assert augment_images(there, plan, out=there) is there
    assert (there.cpu().numpy() == expected).all()


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize("name", KERNELS)
def test_the_kernels_compile_and_fuse_no_product_with_a_sum(name: str, capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = KERNELS[name]
    for constants in CONSTANTS.get(name, [{}]):
        own = {**constants, "BLOCK": 256}
        signature = {x: "constexpr" if x in own else POINTERS.get(x, "i32") for x in kernel.arg_names}
        source = ASTSource(kernel, signature, {(kernel.arg_names.index(x),): value for x, value in own.items()})
        stages = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=_OPTIONS).asm
        assert len(stages["cubin"]) > 1000
        assert not re.search(r"\bfma\b|div\.(full|approx)", stages["ptx"])


def test_passes_go_from_the_batch_to_the_result_and_write_no_image_of_the_batch() -> None:
    everything = Augmentation([GaussianBlur(), AugMix(), TrivialAugmentWide()])
    for seed in range(5):
        plan = everything.draw(Key(seed), np.arange(9), (20, 30))
        found, b = passes(plan), plan.batch_size
        levels = np.repeat(np.arange(len(found.runs)), [count for _, _, count in found.runs])
        last = {int(line[TARGET]): int(level) for line, level in zip(found.record, levels, strict=True)}
        assert all(b + row in last for row in range(b)), "every row of the result is written"
        assert (found.record[:, TARGET] >= b).all() and (found.record[:, [SOURCE, TARGET]] < 2 * b + found.spare).all()
        written: set[int] = set(range(b))
        for kind, first, count in found.runs:
            run = found.record[first : first + count]
            assert set(run[:, SOURCE].tolist()) <= written, "read before it was written"
            assert kind <= MIX and len(set(run[:, TARGET].tolist())) == count, "one slot, two passes at once"
            if kind not in (TABLE, COPY, MIX):
                moved = run[:, SOURCE] != run[:, TARGET]
                assert moved.all() or kind < 4, "neighbours are read where they are written"
            written |= set(run[:, TARGET].tolist())


def test_rows_without_operations_are_copied_and_nothing_else() -> None:
    plan = plan_of(Op.KEEP, [0, 0, 0], 7, 5)
    found = passes(plan)
    assert found.runs == [(COPY, 0, 3)] and found.spare == 0


def test_a_row_that_moves_once_needs_no_spare_slot() -> None:
    assert passes(plan_of(Op.ROTATE, [10, 20], 7, 5, Filter.BILINEAR)).spare == 0


def test_numpy_images_are_not_for_triton() -> None:
    with pytest.raises(ValueError, match="backend must be 'eager' or 'numba' for NumPy images, got 'triton'"):
        augment_images(images(1, 7, 5), plan_of(Op.KEEP, [0], 7, 5), backend="triton")
