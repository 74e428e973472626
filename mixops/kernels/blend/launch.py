"""Launches the fused CUDA kernels: which of them, over which tiles, with the plan sent ahead by one copy.

Nothing here waits for the device: a plan goes through pinned memory, which torch keeps until the device has read it.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Any

import numpy as np
import torch
import triton
from jaxtyping import Float32, Int32, Int64, UInt8
from torch import Tensor

from ...masks import DV, FLOATS, X0, X1, Y0, Y1, A, spread
from ...plan import MixPlan
from ...runtime.devices import current_device, to_device
from ...runtime.jit import njit
from .cuda import BELL, BITS, BOTH, BOX, DENSE, FLAT, chunks, planes, strides
from .cuda_insets import INSET, PAST, insets


@dataclass(frozen=True)
class Tile:
    """``block`` chunks, quads or pixels in each of ``rows`` strips, for a program of ``warps`` warps.

    Neighbouring programs take neighbouring tiles of an image or, ``across``, the same tile of neighbouring images.
    """

    block: int
    rows: int
    warps: int
    across: bool = False


# by kernel, bytes of an element of the result, and whether a pair has several: the best on an H200
# (benchmarks/results/kernel-tiles-cuda.md); those for uint8 are float16's
TILES = {
    ("chunks", 1, False): Tile(32, 4, 1, across=True), ("chunks", 1, True): Tile(128, 2, 4),
    ("chunks", 2, False): Tile(32, 4, 1, across=True), ("chunks", 2, True): Tile(128, 2, 4),
    ("chunks", 4, False): Tile(128, 2, 2, across=True), ("chunks", 4, True): Tile(128, 2, 2),
    ("planes", 1, False): Tile(64, 2, 1, across=True), ("planes", 1, True): Tile(64, 2, 2),
    ("planes", 2, False): Tile(64, 2, 1, across=True), ("planes", 2, True): Tile(64, 2, 2),
    ("planes", 4, False): Tile(128, 2, 4, across=True), ("planes", 4, True): Tile(64, 2, 1),
}  # fmt: skip
_STRIDES = Tile(128, 2, 4)
_KERNELS = {"chunks": chunks, "planes": planes, "strides": strides, "insets": insets}
_INTERPRETED = Tile(512, 2, 4)  # the interpreter takes long for a program, however large
_STORE = 16  # bytes
_MOST = 65535  # programs along the second axis of a grid
_NARROW = 46340  # the longest side whose square is below 2**31


@dataclass(frozen=True)
class Work:
    """What a kernel is asked for: the source as it reads it, an image in ``rows`` rows of ``in_row`` items, and the sizes
    and constants that are its own.
    """

    kernel: str
    source: Tensor
    rows: int
    in_row: int
    sizes: tuple[Any, ...]
    constants: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Uploaded:
    """A plan on the device, with the scale and the bias of the result; a field that is not read holds any tensor."""

    floats: Float32[Tensor, " b*k*9"]
    pairs: Int32[Tensor, " 2*b"]
    dense: Tensor
    scale: Float32[Tensor, " c+16"]
    bias: Float32[Tensor, " c+16"]
    batch: int
    constants: dict[str, Any]


def mix(
    images: Tensor, plan: MixPlan, scale: Tensor | None, bias: Tensor | None, out: Tensor, history: Tensor | None = None
) -> None:
    """Runs a fused kernel on the current stream; ``images`` (b, c, ...) and ``out`` (b * k, c, ...) are dense in memory.

    Each is contiguous or channels-last. ``history`` holds the partners of the past, where the plan has any.
    """
    plain = plan.inset is None and plan.past is None
    work = choose(images, out) if plain else choose_insets(images, images if history is None else history, out)
    launch(work, upload(plan, scale, bias, images.device), out)


def launch(work: Work, plan: Uploaded, out: Tensor, tile: Tile | None = None) -> None:
    """Runs the kernel of ``work`` over all tiles of all images; ``tile`` is by default what was measured to be best."""
    if tile is None:
        several = plan.constants["K"] > 1
        tile = TILES.get((work.kernel, out.element_size(), several), _STRIDES) if out.is_cuda else _INTERPRETED
    strip = triton.cdiv(work.rows, tile.rows) * work.in_row
    tiles = triton.cdiv(strip, tile.block)
    pixels = work.kernel in ("strides", "insets")  # which take one a thread
    sizes = work.sizes if pixels else (strip, work.rows * work.in_row, *divisor(work.in_row), *work.sizes)
    fast, slow = (plan.batch, tiles) if tile.across else (tiles, plan.batch)
    with current_device(out.device):
        _KERNELS[work.kernel][(fast, min(slow, _MOST), triton.cdiv(slow, _MOST))](
            work.source, out, plan.floats, plan.pairs, plan.dense, plan.scale, plan.bias, plan.batch, *sizes,
            **plan.constants, **work.constants, BYTES=out.dtype == torch.uint8,
            BLOCK=tile.block, ROWS=tile.rows, ACROSS=tile.across, num_warps=tile.warps,
        )  # fmt: skip


def runs_on(device: torch.device) -> bool:
    """Whether the kernels run there: compiled ones on CUDA, those of Triton's interpreter anywhere."""
    return device.type == "cuda" or not any(isinstance(kernel, triton.JITFunction) for kernel in _KERNELS.values())


def choose(images: Tensor, out: Tensor) -> Work:
    """The kernel for two memory layouts."""
    c, h, w = _sides(images)
    pixels_in, pixels_out = _pixels(images, out)
    if pixels_in == pixels_out:
        row = c * w if pixels_in else w
        vector = gcd(row, _STORE // out.element_size())
        constants = {"C": c, "PIXELS": pixels_in, "VECTOR": vector}
        return Work("chunks", images, c * h * w // row, row // vector, (h, w), constants)
    if pixels_in and c == 3 and w % 4 == 0 and images.dtype == torch.uint8 and images.data_ptr() % 4 == 0:
        words = images.as_strided((images.numel(),), (1,)).view(torch.int32)
        return Work("planes", words, h, w // 4, (h, w), {})
    return Work("strides", images, h, w, (c * h * w, h, w, *_steps(c, h * w, pixels_in, pixels_out)), {"C": c})


def choose_insets(images: Tensor, history: Tensor, out: Tensor) -> Work:
    """The kernel for partners that are shown whole in a box or were mixed before, which is one for all layouts."""
    c, h, w = _sides(images)
    pixels_in, pixels_out = _pixels(images, out)
    history = history.contiguous(memory_format=torch.channels_last if pixels_in else torch.contiguous_format)
    sizes = (history, c * h * w, h, w, *_steps(c, h * w, pixels_in, pixels_out))
    return Work("insets", images, h, w, sizes, {"C": c, "WIDE": max(h, w) > _NARROW})


def _sides(images: Tensor) -> tuple[int, int, int]:
    """Channels, height and width; a signal, or what masks of one value mix, is one row."""
    c = images.shape[1]
    h, w = tuple(images.shape[2:]) if images.ndim == 4 else (1, images[0, 0].numel())
    if c * h * w >= 2**31:
        raise ValueError(f"images must have fewer than 2**31 elements each, got {c * h * w}")
    return c, h, w


def _pixels(images: Tensor, out: Tensor) -> tuple[bool, bool]:
    """Whether both have the channels of a pixel side by side. Where both layouts are one, that is planes."""
    if images.shape[1] == 1 or images[0, 0].numel() == 1:
        return False, False
    return not images.is_contiguous(), not out.is_contiguous()


def _steps(c: int, area: int, pixels_in: bool, pixels_out: bool) -> tuple[int, int, int, int]:
    """Of pixels and channels, in and out."""
    planes, pixels = (1, area), (c, 1)
    return *(pixels if pixels_in else planes), *(pixels if pixels_out else planes)


def divisor(d: int) -> tuple[int, int, int]:
    """``d``, magic and shift: ``2 n * magic >> 32 + shift`` is ``n // d`` for 0 <= n < 2**31."""
    shift = (d - 1).bit_length()
    return d, -(-(1 << 31 + shift) // d), shift


def mask_kind(plan: MixPlan) -> int:
    """Which of the nine floats the kernels have to look at, or what dense masks are."""
    if plan.dense is not None:
        return BITS if plan.dense.dtype in (np.uint8, np.bool_) else DENSE
    p = plan.params
    if not p[..., DV].any():
        return FLAT
    if not p[..., A].any():
        return BOX
    whole = (p[..., Y0] <= 0) & (p[..., X0] <= 0) & (p[..., Y1] >= plan.height) & (p[..., X1] >= plan.width)
    return BELL if (whole | (p[..., DV] == 0)).all() else BOTH


def pack(masks: UInt8[np.ndarray, "b k h w"]) -> Int32[np.ndarray, "b k words"]:
    """A bit for each pixel, the lowest first, and each mask in words of its own."""
    b, k, h, w = masks.shape
    packed = np.zeros((b, k, -(-h * w // 32) * 4), np.uint8)
    bits = np.packbits(masks.reshape(b, k, h * w), axis=2, bitorder="little")
    packed[:, :, : bits.shape[2]] = bits
    return packed.view(np.int32)


def upload(plan: MixPlan, scale: Tensor | None, bias: Tensor | None, device: torch.device) -> Uploaded:
    """Sends a plan to a device: one copy, and another for dense masks.

    Scale and bias go on, repeated, beyond the channels, as far as a chunk may.
    """
    b, k = plan.weight.shape
    masks = b * k * FLOATS
    channels = 0 if scale is None else len(scale) + _STORE
    packed = torch.empty(masks + 2 * b + 2 * channels, dtype=torch.float32, pin_memory=device.type == "cuda")
    host = packed.numpy()
    host[:masks] = plan.params.reshape(-1)
    order = chain(np.require(plan.partner, requirements=["C", "W"]))
    host[masks : masks + 2 * b].view(np.int32)[:] = np.concatenate([order, _numbers(plan)[order]])
    if scale is not None and bias is not None:
        c = np.arange(channels) % len(scale)
        host[masks + 2 * b :] = np.concatenate([scale.numpy()[c], bias.numpy()[c]])
    there = packed.to(device, non_blocking=True)
    kind, dense = mask_kind(plan), there
    if plan.dense is not None:
        size = plan.height, plan.width
        if kind == BITS:
            dense = to_device(pack(spread(plan.dense, *size)), device)
        else:  # blocks are made pixels over there
            dense = spread(to_device(np.ascontiguousarray(plan.dense, np.float32), device), *size)
    affine = there[masks + 2 * b :]
    return Uploaded(
        floats=there[:masks],
        pairs=there[masks : masks + 2 * b].view(torch.int32),
        dense=dense,
        scale=affine[:channels] if channels else there,
        bias=affine[channels:] if channels else there,
        batch=b,
        constants={"K": k, "MASK": kind, "AFFINE": scale is not None},
    )


def _numbers(plan: MixPlan) -> Int64[np.ndarray, " b"]:
    """The partners, with a bit each for those that are shown whole and those of the past."""
    found = plan.partner
    for flag, bit in ((plan.inset, INSET), (plan.past, PAST)):
        found = found if flag is None else found | bit * flag
    return found


@njit()
def chain(partner):  # type: ignore[no-untyped-def]
    """The rows of a batch, each followed by its partner wherever that has not come before: int64 (b,) -> int64 (b,)."""
    order, seen, n = np.empty_like(partner), np.zeros(len(partner), np.bool_), 0
    for start in range(len(partner)):
        row = start
        while not seen[row]:
            seen[row], order[n] = True, row
            row, n = partner[row], n + 1
    return order
