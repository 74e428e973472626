"""Machine instructions of the fused CUDA kernels for each element that they write: ``python -m benchmarks.instructions``.

Needs no GPU: kernels are compiled ahead of time and disassembled. All threads take the same way, so what is there is what is
executed. What counts is how many there are for each byte that is moved: on an H200, kernels with up to 5.2 reached 0.87 to
0.89 of a copy's bandwidth, and one with 5.6, whose last loads also came late, 0.81 (results/kernel-tiles-cuda.md).
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from itertools import product
from pathlib import Path
from typing import Annotated, Any

import typer

from loaders.bench.measure import Report, conditions
from mixops.kernels.blend.cuda import BELL, BITS, BOTH, BOX, FLAT, chunks, planes
from mixops.kernels.blend.launch import TILES

MASKS = {"constant": FLAT, "box": BOX, "bell": BELL, "box and bell": BOTH, "a bit a pixel": BITS}
RESULTS = {"float16": ("fp16", 2), "float32": ("fp32", 4)}
SIZES = ("i32",) * 4 + ("i64",) + ("i32",) * 3  # of chunks and planes


def compiled(
    kernel: Any, capability: int, types: tuple[str, ...], num_warps: int, fused: bool = True, **constants: Any
) -> dict[str, Any]:
    """What Triton makes of a kernel for a device of some compute capability, by stage: "ptx", "sass" and others.

    ``types`` are those of the arguments before the ``constants``, as Triton writes them; ``fused`` says whether products and
    sums may be. Memory of images is taken to be
    aligned, as that of whole batches is.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    signature = dict(zip(kernel.arg_names, (*types, *["constexpr"] * len(constants)), strict=True))
    aligned = {
        (p.num,): [["tt.divisibility", 16]]
        for p in kernel.params
        if signature[p.name][0] == "*" and not p.do_not_specialize_on_alignment
    }
    source = ASTSource(
        kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants.items()}, aligned
    )
    found: dict[str, Any] = triton.compile(
        source, target=GPUTarget("cuda", capability, 32), options={"num_warps": num_warps, "enable_fp_fusion": fused}
    ).asm
    return found


def from_bytes(result: str, layout: str, mask: int, k: int, capability: int = 90) -> tuple[dict[str, Any], int]:
    """The compiled kernel for normalised ``result`` ("fp16") from uint8 RGB pixels, and how many elements a thread reads."""
    width = {"fp16": 2, "bf16": 2, "fp32": 4}[result]
    name, kernel, own, each = (
        ("chunks", chunks, {"C": 3, "PIXELS": True}, 16 // width) if layout == "NHWC" else ("planes", planes, {}, 12)
    )
    tile = TILES[name, width, k > 1]
    source, dense = "*u8" if name == "chunks" else "*i32", "*i32" if mask == BITS else "*fp32"
    types = (source, "*" + result, "*fp32", "*i32", dense, "*fp32", "*fp32", *SIZES)
    constants = {"K": k, **own, "MASK": mask, "AFFINE": True, "BYTES": False}
    constants |= {"VECTOR": each} if name == "chunks" else {}
    constants |= {"BLOCK": tile.block, "ROWS": tile.rows, "ACROSS": tile.across}
    return compiled(kernel, capability, types, tile.warps, **constants), each * tile.block * tile.rows // (32 * tile.warps)


def issued(result: str, layout: str, mask: int, k: int, capability: int = 90) -> tuple[list[str], int]:
    """The names of a kernel's instructions in order, and how many elements of the result they make."""
    from triton import knobs

    stages, read = from_bytes(result, layout, mask, k, capability)
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(stages["cubin"])
        file.flush()
        told = subprocess.run([knobs.nvidia.cuobjdump.path, "-sass", file.name], capture_output=True, text=True, check=True)
    names = re.findall(r"/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\d+ )?([A-Z][A-Z0-9_.]*)", told.stdout)
    return [name for name in names if name not in ("NOP", "BRA")], read * k


def run(capability: int) -> Report:
    """Counts them for every path from uint8 RGB pixels."""
    from rich.progress import track

    cases = list(product(RESULTS, ("NHWC", "NCHW"), (1, 5), MASKS))
    rows: list[list[Any]] = []
    for result, layout, k, mask in track(cases, "compiling"):
        name, width = RESULTS[result]
        names, elements = issued(name, layout, MASKS[mask], k, capability)
        each = len(names) / elements
        rows.append([result, layout, k, mask, each, each / (width + 1 / k)])
    columns = ["result", "layout", "K", "masks", "instructions an element", "a byte"]
    title = f"Instructions of the fused CUDA kernels, compute capability {capability / 10}"
    notes = [
        "Counted in the machine code; nothing was executed and nothing was timed. Uint8 RGB images in, normalised ones out; "
        "an element is one of the result, bytes are those of the result and of the source, read once."
    ]
    return Report(title, columns, rows, conditions(("triton",)), notes)


def main(
    capability: Annotated[int, typer.Option(help="90 for Hopper, 80 for Ampere.")] = 90,
    save: Annotated[Path | None, typer.Option(help="Folder for kernel-instructions.md and .json.")] = None,
) -> None:
    """Count the instructions of the fused kernels for each element; needs no GPU."""
    report = run(capability)
    report.show()
    if save is not None:
        report.save(save, "kernel-instructions")


if __name__ == "__main__":
    typer.run(main)
