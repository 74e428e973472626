"""The CUDA kernels: run by Triton's interpreter, and on a device where there is one, against float64 loops; compiled ahead
of time for real devices.

The interpreter has to be chosen before a kernel is defined, so it runs in a process of its own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from itertools import product
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from support import reference
from support.kernel_cases import FORMATS, KEY, MIXERS, TOLERANCE, check_kernels, compare
from support.nightly import nightly

from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, Switch, mix_images

pytest.importorskip("triton")
from support.emulated import Emulated

from benchmarks.instructions import MASKS, compiled, from_bytes, issued
from mixops.kernels.blend import launch
from mixops.kernels.blend.cuda import BELL, BITS, BOTH, BOX, DENSE, FLAT
from mixops.kernels.blend.launch import _KERNELS, Tile, chain, divisor, mask_kind, pack


def run(code: str, *, interpret: bool) -> str:
    """What ``code`` prints in a fresh interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("which", range(len(MIXERS)))
@pytest.mark.parametrize(
    ("source", "layout", "dtype", "result"),
    [
        *((torch.uint8, FORMATS[1], dtype, FORMATS[1]) for dtype in TOLERANCE),
        (torch.uint8, FORMATS[1], torch.float16, FORMATS[0]),
        (torch.uint8, FORMATS[0], torch.float32, FORMATS[0]),
        (torch.float32, FORMATS[0], torch.bfloat16, FORMATS[1]),
    ],
)
def test_the_compiled_kernels_are_the_reference(which, source, layout, dtype, result) -> None:
    """What a device would execute: compiled kernels take bytes apart by instructions that the interpreter does not know."""
    emulated = {name: Emulated(kernel, 90) for name, kernel in _KERNELS.items()}
    plan = MIXERS[which].plan(KEY, batch_size=3, height=9, width=8)
    tile = Tile(32, 4, 1, across=which % 2 == 1)
    with mock.patch.dict(_KERNELS, emulated), mock.patch.object(launch, "_INTERPRETED", tile):
        compare(plan, 3, source, layout, dtype, result)


@pytest.mark.nightly
def test_the_interpreted_kernels_are_the_reference() -> None:
    path = f"import sys; sys.path.insert(0, {str(Path(__file__).parents[2])!r})"
    checks = f"print([check_kernels('cpu', i) for i in range({len(MIXERS)})])"
    script = f"{path}\nfrom support.kernel_cases import check_kernels\n{checks}"
    assert json.loads(run(script, interpret=True)) == [28 + 2 * 20] + [20] * (len(MIXERS) - 1)


@pytest.mark.gpu
@pytest.mark.parametrize("which", range(len(MIXERS)))
def test_the_kernels_are_the_reference(which: int) -> None:
    assert check_kernels("cuda", which) == 28 + 2 * 20


@pytest.mark.gpu
def test_more_elements_than_32_bits_count() -> None:
    b, k = 2900, 5
    images = torch.randint(0, 256, (b, 3, 224, 224), dtype=torch.uint8, device="cuda").contiguous(
        memory_format=torch.channels_last
    )
    plan = HMix(interpolations=k).plan(Key(), batch_size=b, height=224, width=224)
    mixed = mix_images(images, plan)
    assert mixed.numel() > 2**31
    for i in (0, 2852, 2853, b - 1):
        rows = torch.stack([images[i], images[plan.partner[i]]]).cpu().numpy()
        two = replace(
            plan, partner=np.array([1, 0]), **{name: getattr(plan, name)[[i, i]] for name in ("weight", "lam", "params")}
        )
        error = np.abs(mixed[i * k : (i + 1) * k].double().cpu().numpy() - reference.mix_images(rows, two)[:k])
        assert error.max() <= 0.501


def test_division_by_multiplication() -> None:
    rng = np.random.default_rng(0)
    for d in [1, 2, 3, 5, 7, 84, 641, 2**16 - 1, 2**16, 2**30, 2**31 - 1, *rng.integers(1, 2**31, 200).tolist()]:
        same, magic, shift = divisor(d)
        n = np.concatenate([rng.integers(0, 2**31, 200), [0, d - 1, d, 2**31 - 1, max(2**31 // d * d - 1, 0)]]) % 2**31
        assert same == d and magic < 2**32
        assert [(2 * int(v) * magic >> 32) >> shift for v in n] == (n // d).tolist()


def test_a_plan_asks_for_no_more_than_it_needs() -> None:
    kinds = {
        MixUp(): FLAT, CutMix(): BOX, HMix(): BOX, GMix(): BELL, FMix(): BITS, Switch([MixUp(), GMix()]): BELL,
        Switch([CutMix(), GMix()]): BOTH, Switch([FMix(), GMix()]): DENSE,
    }  # fmt: skip
    for mixer, kind in kinds.items():
        assert mask_kind(mixer.plan(Key(), batch_size=64, height=9, width=8)) == kind, mixer


def test_masks_of_a_bit_a_pixel() -> None:
    masks = np.random.default_rng(0).integers(0, 2, (3, 2, 7, 11), dtype=np.uint8)
    words = pack(masks)
    assert words.dtype == np.int32 and words.shape == (3, 2, 3)
    bits = words[..., None] >> np.arange(32) & 1
    assert (bits.reshape(3, 2, 96)[..., :77] == masks.reshape(3, 2, 77)).all()


def test_a_partner_follows_its_row() -> None:
    rng = np.random.default_rng(0)
    for b in (1, 2, 7, 64):
        for partner in (rng.permutation(b), np.roll(np.arange(b), 1), np.zeros(b, np.int64), np.arange(b)):
            order = chain(partner)
            assert sorted(order.tolist()) == list(range(b))
            before = set()
            for row, after in zip(order.tolist(), [*order.tolist()[1:], None], strict=True):
                before.add(row)
                assert after == partner[row] or partner[row] in before


@pytest.fixture(scope="module", params=[80, 90])
def code(request: pytest.FixtureRequest) -> dict[str, tuple[str, int]]:
    """PTX for a device and the elements that a thread reads, by layout, dtype of the result and outputs of a pair."""
    found = {}
    for layout, out, k in product(("NHWC", "NCHW"), ("fp16", "bf16", "fp32"), (1, 5)):
        stages, elements = from_bytes(out, layout, BELL, k, request.param)
        assert len(stages["cubin"]) > 1000
        found[f"{layout} {out} {k}"] = stages["ptx"], elements
    return found


def accesses(ptx: str, kind: str) -> list[tuple[int, int]]:
    """(vector length, bits) of each load or store of global memory that is wider than or as wide as 8 bits."""
    found = re.findall(rf"{kind}\.global[a-z_0-9:.]*?(?:\.v(\d))?\.[bu](\d+)", ptx)
    return [(int(length or 1), int(bits)) for length, bits in found]


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("out", "load"), [("fp16", (2, 32)), ("bf16", (2, 32)), ("fp32", (1, 32))])
def test_kept_layouts_are_stored_16_bytes_at_a_time(code, out, load, k) -> None:
    ptx, elements = code[f"NHWC {out} {k}"]
    chunks = elements * (4 if out == "fp32" else 2) // 16
    assert accesses(ptx, "st") == [(4, 32)] * chunks * k
    loads = accesses(ptx, "ld")
    assert all(bits == 32 for _, bits in loads), "no byte is loaded alone"
    if load[0] > 1:
        assert loads.count(load) == 2 * chunks, "both images, each read once for all outputs"
    assert "shared" not in ptx.replace(".shared .align", ""), "no element changes threads"


@pytest.mark.parametrize("k", [1, 5])
@pytest.mark.parametrize(("out", "store"), [("fp16", (2, 32)), ("bf16", (2, 32)), ("fp32", (4, 32))])
def test_planes_from_pixels_are_read_by_words_and_stored_wide(code, out, store, k) -> None:
    ptx, elements = code[f"NCHW {out} {k}"]
    assert accesses(ptx, "st") == [store] * (elements // 4) * k
    assert all(bits == 32 for _, bits in accesses(ptx, "ld"))


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("layout", ["NHWC", *nightly(["NCHW"])])
def test_the_kernels_have_few_instructions(layout, mask) -> None:
    """As few as kept up with a copy on an H200: 5.2 for each of the three bytes that a float16 element moves."""
    names, elements = issued("fp16", layout, MASKS[mask], 1)
    assert 5 < len(names) / elements < 3 * 5.2


@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize("capability", [*nightly([80]), 90])
def test_all_images_are_asked_for_before_anything_is_computed(capability, mask) -> None:
    """A load that the assembler puts behind the first rows' arithmetic is waited for on its own."""
    names, elements = issued("fp16", "NHWC", MASKS[mask], 1, capability)
    loads = [i for i, name in enumerate(names) if name == "LDG.E.64"]
    assert len(loads) == 2 * elements // 8
    computed = min(i for i, name in enumerate(names) if name in ("FADD", "FFMA"))
    assert max(loads) < computed


@pytest.mark.parametrize("capability", [80, 90])
def test_the_kernel_for_any_strides_compiles(capability) -> None:
    sizes = ("i32",) * 8
    types = ("*u8", "*fp16", "*fp32", "*i32", "*fp32", "*fp32", "*fp32", *sizes)
    options = {"K": 2, "C": 3, "MASK": BELL, "AFFINE": True, "BYTES": False, "BLOCK": 128, "ROWS": 2, "ACROSS": False}
    assert accesses(compiled(_KERNELS["strides"], capability, types, 4, **options)["ptx"], "st")
