"""Launches the CUDA kernels of augmentation: level after level on the current stream, the plan sent ahead by one copy.

Nothing here waits for the device: a plan goes through pinned memory, which torch keeps until the device has read it. The
host knows from the plan which kernels a level needs; no other is launched.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import triton
from jaxtyping import UInt8
from torch import Tensor

from ...augment.plan import AugmentPlan
from ...runtime.devices import current_device
from .cuda import boxes, erase, greys, hues, interpolate, make_tables, mix, nearest, points, sharpen
from .noise import values
from .passes import ACROSS, BICUBIC, BILINEAR, COPY, DOWN, GREY, HUE, MIX, NEAREST, SHARPEN, TABLE, passes

KERNELS = {
    "make_tables": make_tables, "points": points, "greys": greys, "hues": hues, "sharpen": sharpen, "boxes": boxes,
    "nearest": nearest, "interpolate": interpolate, "mix": mix, "erase": erase,
}  # fmt: skip
# the kernel of a kind of passes, the uploaded arrays that it reads beside the records, and its constants
_KINDS: dict[int, tuple[str, tuple[str, ...], dict[str, Any]]] = {
    TABLE: ("points", (), {"TABLE": True}), COPY: ("points", (), {"TABLE": False}),
    GREY: ("greys", (), {}), HUE: ("hues", (), {}), SHARPEN: ("sharpen", (), {}),
    ACROSS: ("boxes", (), {"DOWN": False}), DOWN: ("boxes", (), {"DOWN": True}), NEAREST: ("nearest", (), {}),
    BILINEAR: ("interpolate", ("matrix",), {"CUBIC": False}), BICUBIC: ("interpolate", ("matrix",), {"CUBIC": True}),
    MIX: ("mix", ("mixed", "weight"), {}),
}  # fmt: skip
_BYTES = ("points", "sharpen", "boxes", "mix", "erase")  # kernels whose items are bytes; those of the others are pixels
_BYTES_BLOCK, _PIXELS_BLOCK = 1024, 256  # items of a program; of pixels that interpolate, few fill the registers
_INTERPRETED = 1024  # the interpreter takes long for a program, however large
_OPTIONS: dict[str, Any] = {"num_warps": 4, "enable_fp_fusion": False}
_ALIGNMENT = 16  # bytes


@dataclass(frozen=True, eq=False)
class Sent:
    """A plan on a device: its passes, of which ``runs`` says what they are, and the arrays that the kernels read."""

    plan: AugmentPlan
    runs: list[tuple[int, int, int]]
    spare: int
    arrays: dict[str, Tensor]


def augment(images: UInt8[Tensor, "b h w 3"], plan: AugmentPlan, out: UInt8[Tensor, "b h w 3"]) -> None:
    """Writes to ``out`` what ``plan`` makes of ``images``; both are contiguous and share no memory."""
    if plan.batch_size:
        run(images, send(plan, out.device), out)


def send(plan: AugmentPlan, device: torch.device) -> Sent:
    """Sends what a plan of at least one row needs to a device."""
    todo = passes(plan)
    sent = {"record": todo.record, "mixed": todo.mixed}
    if any(kind in (BILINEAR, BICUBIC) for kind, _, _ in todo.runs):
        sent["matrix"] = todo.matrix
    if plan.chains is not None:
        sent["weight"] = plan.chains.weight
    if plan.box[..., 2:].all(-1).any():
        sent |= {"box": _boxes(plan), "seed": plan.noise.view(np.int32)}
        sent["values"] = values(plan.mean, plan.std) if plan.noisy.any() else np.zeros((3, 1), np.uint8)
    return Sent(plan, todo.runs, todo.spare, upload(sent, device))


def run(images: UInt8[Tensor, "b h w 3"], sent: Sent, out: UInt8[Tensor, "b h w 3"]) -> None:
    """``augment`` of a plan that is on the device."""
    plan, there = sent.plan, sent.arrays
    b, h, w = plan.batch_size, plan.height, plan.width
    most = max((count for kind, _, count in sent.runs if kind == TABLE), default=0)
    with current_device(out.device):
        spare, tables = (torch.empty(n, dtype=torch.uint8, device=out.device) for n in (sent.spare * h * w * 3, most * 768))
        for kind, first, count in sent.runs:
            name, reads, constants = _KINDS[kind]
            look_up = (tables,) if name == "points" else ()
            if kind == TABLE:
                KERNELS["make_tables"][(3 * count,)](
                    images, out, spare, tables, there["record"], b, first, h, w, BLOCK=_BYTES_BLOCK, **_OPTIONS
                )
            if kind == MIX and plan.chains is not None:
                constants = {"CHAINS": plan.chains.op.shape[1], "BLENDED": plan.chains.blend}
            block, blocks = _blocks(name, h * w, out.device)
            KERNELS[name][(count * blocks,)](
                images, out, spare, *look_up, there["record"], *(there[x] for x in reads), b, first, blocks, h, w,
                **constants, BLOCK=block, **_OPTIONS,
            )  # fmt: skip
        if "box" in there:
            block, blocks = _blocks("erase", h * w, out.device)
            KERNELS["erase"][(b * blocks,)](
                out, there["box"], there["seed"], there["values"], blocks, h, w, plan.box.shape[1], BLOCK=block, **_OPTIONS
            )


def _blocks(name: str, pixels: int, device: torch.device) -> tuple[int, int]:
    """Items of a program of a kernel, and programs of an image."""
    items = pixels * (3 if name in _BYTES else 1)
    block = _INTERPRETED if device.type == "cpu" else _BYTES_BLOCK if name in _BYTES else _PIXELS_BLOCK
    return block, triton.cdiv(items, block)


def runs_on(device: torch.device) -> bool:
    """Whether the kernels run there: compiled ones on CUDA, those of Triton's interpreter anywhere."""
    return device.type == "cuda" or not any(isinstance(kernel, triton.JITFunction) for kernel in KERNELS.values())


def upload(arrays: dict[str, np.ndarray[Any, Any]], device: torch.device) -> dict[str, Tensor]:
    """Sends arrays to a device in one copy; there they are flat."""
    begin = np.cumsum([0, *(-(-x.nbytes // _ALIGNMENT) * _ALIGNMENT for x in arrays.values())]).tolist()
    host = torch.empty(begin[-1], dtype=torch.uint8, pin_memory=device.type == "cuda")
    found = host.numpy()
    for at, x in zip(begin, arrays.values(), strict=False):
        found[at : at + x.nbytes] = np.ascontiguousarray(x).reshape(-1).view(np.uint8)
    there = host.to(device, non_blocking=True)
    dtypes = {name: torch.from_numpy(np.empty(0, x.dtype)).dtype for name, x in arrays.items()}
    return {
        name: there[at : at + x.nbytes].view(dtypes[name])
        for at, (name, x) in zip(begin, arrays.items(), strict=False)
    }  # fmt: skip


def _boxes(plan: AugmentPlan) -> np.ndarray[Any, Any]:
    """Boxes as ``erase`` reads them."""
    r, g, b = np.moveaxis(plan.colour.astype(np.int32), -1, 0)
    noisy = np.broadcast_to(plan.noisy.astype(np.int32), r.shape)
    return np.concatenate([plan.box, np.stack([r | g << 8 | b << 16, noisy], -1)], -1)
