"""The CUDA kernel: run by Triton's interpreter against float64 loops, and compiled ahead of time for real devices.

The interpreter has to be chosen before the kernel is defined, so both halves run in processes of their own.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys

import pytest

pytest.importorskip("triton")


def run(code: str, *, interpret: bool) -> str:
    """What ``code`` prints in a fresh interpreter."""
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpret else "0"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


INTERPRETED = """
import itertools, numpy as np, torch
from mixops import CutMix, FMix, GMix, HMix, Key, MixUp, Switch, mix_images
from tests.reference import mix_images as reference

torch.manual_seed(0)
mixers = [MixUp(interpolations=5), CutMix(interpolations=2), HMix(), GMix(interpolations=3), FMix()]
mixers.append(Switch([MixUp(), GMix()]))
shapes = [(3, 17, 23, 3), (2, 1, 9, 1), (1, 8, 8, 4)]
tolerance = {torch.uint8: 0.501, torch.float32: 2e-5, torch.float16: 2e-3, torch.bfloat16: 2.0**-7}
formats = (torch.contiguous_format, torch.channels_last)
checked = 0
for mixer, (b, h, w, c) in zip(mixers, 2 * shapes, strict=True):
    bytes_ = torch.randint(0, 256, (b, c, h, w), dtype=torch.uint8)
    plan = mixer.plan(Key(1), batch_size=b, height=h, width=w)
    mean, std = [0.4] * c, [0.25] * c
    plain = reference(bytes_.numpy(), plan)
    normal = (plain / 255 - 0.4) / 0.25
    for source, layout, dtype, result in itertools.product((torch.uint8, torch.float32), formats, tolerance, formats):
        if source == torch.float32 and dtype == torch.uint8:
            continue
        images = (bytes_ if source == torch.uint8 else bytes_ / 255).contiguous(memory_format=layout)
        options = {} if dtype == torch.uint8 else {"mean": mean, "std": std, "dtype": dtype}
        out = torch.full((b * plan.interpolations, c, h, w), 77, dtype=dtype).contiguous(memory_format=result)
        got = mix_images(images, plan, backend="triton", out=out, **options)
        assert got is out
        expected = plain if dtype == torch.uint8 else normal
        error = np.abs(got.double().numpy() - expected)
        # the interpreter cuts float32 to bfloat16 where devices round: one unit in the last place
        allowed = tolerance[dtype] * (1 if dtype == torch.uint8 else np.maximum(1, np.abs(expected)))
        assert (error <= allowed).all(), (mixer, c, source, layout, dtype, result, error.max())
        checked += 1
print(checked)
"""


def test_the_interpreted_kernel_is_the_reference() -> None:
    assert int(run(INTERPRETED, interpret=True)) == 6 * 28


COMPILED = """
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from mixops.kernels.triton import TILES, mix_kernel

def compiled(capability, pixels_in, pixels_out, k=2, out="fp16", flat=False):
    names = mix_kernel.arg_names
    block, warps = TILES[capability]
    constants = dict(K=k, C=3, PIXELS_IN=pixels_in, PIXELS_OUT=pixels_out, FLAT=flat, DENSE=False, AFFINE=True)
    constants |= dict(BYTES=False, BLOCK=block)
    types = dict(images="*u8", out="*" + out, partner="*i32", **dict.fromkeys(["params", "dense", "scale", "bias"], "*fp32"))
    signature = {n: "constexpr" if n in constants else types.get(n, "i32") for n in names}
    # what Triton finds by itself for 224 x 224: pointers and sizes that 16 divides
    aligned = {(i,): [["tt.divisibility", 16]] for i, n in enumerate(names) if n in types or n in ("size", "hw", "width")}
    source = ASTSource(mix_kernel, signature, {(names.index(n),): v for n, v in constants.items()}, aligned)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": warps})
    assert len(built.asm["cubin"]) > 1000
    return built.asm["ptx"]
"""


@pytest.fixture(scope="module", params=[80, 90])
def ptx(request: pytest.FixtureRequest) -> dict[str, str]:
    """The code for a device: by output dtype where the layout is kept, and "planes" from pixels."""
    kept = f"{{out: compiled({request.param}, True, True, out=out) for out in ('fp16', 'bf16', 'fp32')}}"
    code = f"{COMPILED}\nimport json\nprint(json.dumps({kept} | {{'planes': compiled({request.param}, True, False)}}))"
    return json.loads(run(code, interpret=False))


@pytest.mark.parametrize("out", ["fp16", "bf16", "fp32"])
def test_the_compiled_kernel_loads_and_stores_wide(ptx: dict[str, str], out: str) -> None:
    loads = re.findall(r"ld\.global\.v4\.b32", ptx[out])
    assert len(loads) == 2, "16 bytes of both images a thread, each read once for all outputs"
    assert not re.findall(r"ld\.global\.(?:v\d\.)?[bu]8", ptx[out])
    stores = re.findall(r"st\.global(\.v4)?\.b32", ptx[out])
    assert stores and all(stores), "every store is of 16 bytes"
    assert len(stores) == 2 * (4 if out == "fp32" else 2)


def test_planes_from_pixels_are_stored_wide(ptx: dict[str, str]) -> None:
    stores = re.findall(r"st\.global(\.v\d)?\.b(\d+)", ptx["planes"])
    assert stores and set(stores) == {(".v4", "32")}
