"""The fused kernels as they are compiled for a device, executed without one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import torch
import triton
from ptx import Memory, execute
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TYPES = {
    torch.uint8: "u8", torch.int32: "i32", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.float64: "fp64",
}  # fmt: skip


class Emulated:
    """Takes a kernel's place: ``kernel[grid](*arguments, **constants)``."""

    def __init__(self, kernel: Any, capability: int) -> None:
        self.kernel, self.capability = kernel, capability

    def __getitem__(self, grid: tuple[int, int, int]) -> Callable[..., None]:
        return partial(self._run, grid)

    def _run(self, grid: tuple[int, int, int], *arguments: Any, num_warps: int, **constants: Any) -> None:
        types = tuple(_type(value) for value in arguments)
        ptx = compiled(self.kernel, self.capability, types, num_warps, **constants)
        memory = Memory([value for value in arguments if isinstance(value, torch.Tensor)])
        addresses = iter(memory.address.tolist())
        values = [next(addresses) if isinstance(value, torch.Tensor) else value for value in arguments]
        execute(ptx, grid, 32 * num_warps, values, memory)


def _type(value: torch.Tensor | int) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "i32" if value < 2**31 else "i64"


def compiled(kernel: Any, capability: int, types: tuple[str, ...], num_warps: int, **constants: Any) -> str:
    """A kernel's PTX; memory of images is taken to be aligned, as that of whole batches is."""
    return _compiled(kernel, capability, types, num_warps, tuple(constants.items()))


@cache
def _compiled(kernel: Any, capability: int, types: tuple[str, ...], num_warps: int, constants: tuple[Any, ...]) -> str:
    signature = dict(zip(kernel.arg_names, (*types, *["constexpr"] * len(constants)), strict=True))
    aligned = {
        (p.num,): [["tt.divisibility", 16]]
        for p in kernel.params
        if signature[p.name][0] == "*" and not p.do_not_specialize_on_alignment
    }
    source = ASTSource(kernel, signature, {(kernel.arg_names.index(name),): value for name, value in constants}, aligned)
    built = triton.compile(source, target=GPUTarget("cuda", capability, 32), options={"num_warps": num_warps})
    assert len(built.asm["cubin"]) > 1000
    return str(built.asm["ptx"])
