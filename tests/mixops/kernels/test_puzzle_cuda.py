"""Puzzle-mix's solvers on CUDA: the bits of what torch computes op by op, in Triton's interpreter and on a device; compiled
ahead of time for real devices.

The interpreter has to be chosen before a kernel is defined, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch

from mixops.mixers.saliency import puzzle_masks, transport
from mixops.mixers.saliency.puzzle_masks import MaskProblem

pytest.importorskip("triton")
from mixops.kernels.auction import auction, bid
from mixops.kernels.relaxation import ascend, fits, relax


def problem(b: int, n: int) -> MaskProblem:
    """Masks that want to be ragged, and edges that mind."""
    generator = torch.Generator().manual_seed(n)
    own, partner, down, right = (
        torch.rand(shape, generator=generator) for shape in ((b, n, n), (b, n, n), (b, n - 1, n), (b, n, n - 1))
    )
    return MaskProblem(own / n**2, partner / n**2, down / (16 * n), right / (16 * n))


def relaxations(device: str, sides: Sequence[int], b: int, sweeps: int) -> list[str]:
    """The cases in which the kernel's u is not that of torch's operations."""
    found = []
    for n, labels in product(sides, (2, 3, 4)):
        u, _, down, right = puzzle_masks.start(problem(b, n), labels, 0.2)
        sent = [x.to(device) for x in (u, down, right)]
        got = relax(*sent, sweeps, puzzle_masks.RELAXATION).cpu()
        with mock.patch.object(puzzle_masks, "SWEEPS", sweeps):
            expected = puzzle_masks.ascend(u.clone(), down, right)
        if torch.equal(expected, u) or not torch.equal(got, expected):
            found.append(f"{n} {labels}: {(got - expected).abs().max()}")
        if not torch.equal(sent[0].cpu(), u):
            found.append(f"{n} {labels}: what it was given changed")
    return found


def auctions(device: str, sides: Sequence[int], p: int) -> list[str]:
    """The cases in which the kernel's places are not those of torch's operations."""
    found = []
    for n, share, t_eps in product(sides, (0.5, 1.0), (0.8, 0.05)):  # where moves cost little, blocks change their owners
        generator = torch.Generator().manual_seed(n)
        saliency = torch.rand(p, n * n, generator=generator).pow_(3)
        saliency /= saliency.sum(1, keepdim=True)
        visible = torch.rand(p, n * n, generator=generator) < share
        expected = transport.auction(saliency, visible, t_eps)
        reach = min(transport.AUCTION_REACH, n - 1)
        step = torch.arange(-reach, reach + 1)
        cost = t_eps * ((step[:, None] ** 2 + step**2).flatten() / max(n - 1, 1) ** 2)
        raised = transport.AUCTION_RAISE / n**2
        got = auction(saliency.to(device), visible.to(device), cost.to(device), reach, raised, 4096).cpu()
        if not torch.equal(got, expected):
            found.append(f"{n} {share} {t_eps}: {int((got != expected).sum())}")
    return found


@pytest.mark.parametrize(
    "cases",
    [
        "relaxations('cpu', (3,), 2, 1), auctions('cpu', (2,), 2)",
        pytest.param("relaxations('cpu', (2, 3, 4), 2, 2), auctions('cpu', (2, 3), 8)", marks=pytest.mark.nightly),
    ],
    ids=["few", "more"],
)
def test_the_interpreted_kernels_have_the_bits_of_torchs_operations(cases: str) -> None:
    folders = [str(Path(__file__).parent), str(Path(__file__).parents[3])]
    code = f"import sys; sys.path[:0] = {folders!r}\nimport json\nfrom test_puzzle_cuda import auctions, relaxations\n"
    code += f"print(json.dumps([{cases}]))"
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [[], []]


@pytest.mark.gpu
def test_the_kernels_have_the_bits_of_torchs_operations() -> None:
    sides = (2, 3, 4, 7, 16)
    assert relaxations("cuda", sides, 8, puzzle_masks.SWEEPS) == [] and auctions("cuda", sides, 8) == []


FLOATS = ("u", "down", "right", "flow", "saliency", "cost", "price", "highest")
TYPES = dict.fromkeys(FLOATS, "*fp32") | dict.fromkeys(("source", "taker", "first"), "*i32") | {
    "visible": "*u8", "half": "fp32", "step": "fp32",
}  # fmt: skip


@pytest.mark.parametrize("capability", [80, 90])
@pytest.mark.parametrize(
    ("kernel", "constants"), [(ascend, {"LAYERS": 2, "BLOCK": 256}), (bid, {"BLOCK": 256})], ids=["ascend", "bid"]
)
def test_the_kernels_compile_and_round_every_operation(kernel: Any, constants: dict[str, int], capability: int) -> None:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = {x: "constexpr" if x in constants else TYPES.get(x, "i32") for x in kernel.arg_names}
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(x),): value for x, value in constants.items()})
    options = {"num_warps": 4, "enable_fp_fusion": False}
    stages = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options).asm
    assert len(stages["cubin"]) > 1000
    assert not re.search(r"\bfma\b", stages["ptx"]) and "bar.sync" in stages["ptx"]


def test_what_is_too_large_for_a_program_is_left_to_torch() -> None:
    assert fits(2, 16) and fits(8, 16) and not fits(9, 4) and not fits(4, 64)
