"""The fused kernels as they are compiled for a device, executed without one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from support.ptx import Memory, execute

from benchmarks.instructions import compiled

TYPES = {
    torch.uint8: "u8", torch.int32: "i32", torch.float32: "fp32", torch.float16: "fp16", torch.bfloat16: "bf16",
    torch.float64: "fp64",
}  # fmt: skip


class Emulated:
    """Takes a kernel's place: ``kernel[grid](*arguments, **constants)``."""

    def __init__(self, kernel: Any, capability: int, *, alone: bool = False) -> None:
        self.kernel, self.capability, self.alone = kernel, capability, alone

    def __getitem__(self, grid: tuple[int, ...]) -> Callable[..., None]:
        return partial(self._run, grid)

    def _run(
        self, grid: tuple[int, ...], *arguments: Any, num_warps: int, enable_fp_fusion: bool = True, **constants: Any
    ) -> None:
        types = tuple(_type(value) for value in arguments)
        ptx = compiled(self.kernel, self.capability, types, num_warps, enable_fp_fusion, **constants)["ptx"]
        memory = Memory([value for value in arguments if isinstance(value, torch.Tensor)])
        addresses = iter(memory.address.tolist())
        values = [next(addresses) if isinstance(value, torch.Tensor) else value for value in arguments]
        execute(ptx, grid, 32 * num_warps, values, memory, alone=self.alone)


def _type(value: torch.Tensor | int) -> str:
    if isinstance(value, torch.Tensor):
        return "*" + TYPES[value.dtype]
    return "i32" if value < 2**31 else "i64"
