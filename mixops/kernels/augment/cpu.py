"""Executes augmentation plans on the CPU: uint8 images in place, row by row of the batch, each while it is in the cache.

    for each operation of a row:   warp | filter | blend with grey | blend with a level | table    (some count first)

The bytes are Pillow's. An image of 224 x 224 is 147 kB: with its copy it stays in the second-level cache, so that a pass
costs what it computes. A loader calls ``augment_rows`` for one row right behind the resize that made it, in the same thread.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple
from weakref import WeakKeyDictionary

import numpy as np
from jaxtyping import UInt8
from numba import float32, int32, int64, uint8, uint32, uint64

from ...augment.operations import Filter, Op, warp_matrices
from ...augment.plan import AugmentPlan
from ...runtime.jit import INNER, njit
from ...runtime.threads import run_sliced
from .filters import blur, sharpen
from .hue import turn_hue
from .noise import values
from .points import (
    add_tables,
    blend,
    blend_level,
    equal_tables,
    extremes,
    grey_blend,
    histograms,
    look_up,
    mean_grey,
    posterize,
    solarize,
    stretch_tables,
)
from .warps import ALONG, BOTH, DOWN, interpolated, nearest, shift

# numbers of the operations, as constants that numba can read
_KEEP, _SHEAR_X, _SHEAR_Y, _TRANSLATE_X, _TRANSLATE_Y, _ROTATE = (int(Op(i)) for i in range(6))
_BRIGHTNESS, _COLOR, _CONTRAST, _SHARPNESS, _POSTERIZE, _SOLARIZE = (int(Op(i)) for i in range(6, 12))
_AUTOCONTRAST, _EQUALIZE, _INVERT, _SOLARIZE_ADD, _GRAYSCALE, _BLUR = (int(Op(i)) for i in range(12, 18))
_HUE, _AUGMIX = int(Op.HUE), int(Op.AUGMIX)
_BLOCK = 2048
_NEAREST, _BICUBIC = int(Filter.NEAREST), int(Filter.BICUBIC)


_programs: WeakKeyDictionary[AugmentPlan, Program] = WeakKeyDictionary()
_own = threading.local()


class Program(NamedTuple):
    """The arrays of a plan, as the kernel reads them."""

    op: Any
    arg: Any
    filter: Any
    matrix: Any
    fill: Any
    box: Any
    colour: Any
    noisy: Any
    noise: Any
    values: Any
    chain_op: Any
    chain_arg: Any
    chain_filter: Any
    chain_matrix: Any
    chain_fill: Any
    weight: Any
    blend: bool


class Memory(NamedTuple):
    """What the kernel works with; one thread's."""

    other: Any  # uint8, the image's size
    chains: Any  # uint8 (c, the image's size), for AugMix
    total: Any  # float32, a block of an image
    words: Any  # uint16 and uint32, the longer side's bytes
    sums: Any
    ends: Any  # uint8 (2, 96)
    counts: Any  # uint32 (2, 3, 256)
    tables: Any  # uint8 (3, 256)
    lines: Any  # float64 (4,)
    places: Any  # int32, a row's pixels
    across: Any  # float64, a row's pixels
    down: Any


def program(plan: AugmentPlan) -> Program:
    """A plan, made ready for any of its rows; kept while the plan is, since FFCV's rows come one by one."""
    ready = _programs.get(plan)
    if ready is None:
        ready = _programs[plan] = _program(plan)
    return ready


def _program(plan: AugmentPlan) -> Program:
    chains, size = plan.chains, (plan.height, plan.width)
    b = plan.batch_size
    none = np.zeros((b, 0, 0), np.int8), np.zeros((b, 0, 0), np.float32), np.zeros((b, 0, 0), np.int8)
    chain_op, chain_arg, chain_filter = none if chains is None else (chains.op, chains.arg, chains.filter)
    arrays: dict[str, Any] = {
        "op": plan.op, "arg": plan.arg, "filter": plan.filter, "matrix": warp_matrices(plan.op, plan.arg, *size),
        "fill": plan.fill, "box": plan.box, "colour": plan.colour, "noisy": plan.noisy, "noise": plan.noise,
        "values": values(plan.mean, plan.std) if plan.noisy.any() else np.zeros((3, 1), np.uint8),
        "chain_op": chain_op, "chain_arg": chain_arg, "chain_filter": chain_filter,
        "chain_matrix": warp_matrices(chain_op, chain_arg, *size),
        "chain_fill": np.zeros(3, np.uint8) if chains is None else chains.fill,
        "weight": np.zeros((b, 1), np.float32) if chains is None else chains.weight,
    }  # fmt: skip
    # another memory layout, or a read-only array, would be compiled for
    ready: dict[str, Any] = {name: np.require(x, None, ["C", "W"]) for name, x in arrays.items()}
    return Program(**ready, blend=chains is not None and chains.blend)


def memory(plan: AugmentPlan) -> Memory:
    """This thread's memory for executing a plan; kept for the next plan of the same size and number of chains."""
    chains = 0 if plan.chains is None else plan.chains.op.shape[1]
    kind = plan.height, plan.width, chains
    if getattr(_own, "kind", None) != kind:
        _own.kind, _own.memory = kind, new_memory(*kind)
    kept: Memory = _own.memory
    return kept


@njit()
def new_memory(height, width, chains):
    """Memory for one thread, for images of this size and chains of AugMix."""
    size, side = height * width * 3, max(height, width) * 3
    return Memory(
        np.empty(size, np.uint8), np.empty((chains, size), np.uint8), np.empty(_BLOCK, np.float32),
        np.empty(side, np.uint16), np.empty(side, np.uint32), np.empty((2, 96), np.uint8),
        np.empty((2, 3, 256), np.uint32), np.empty((3, 256), np.uint8), np.empty(4), np.empty(width, np.int32),
        np.empty(width), np.empty(width),
    )  # fmt: skip


def augmenter(
    images: UInt8[np.ndarray, "b h w 3"], plan: AugmentPlan, first: int = 0
) -> Callable[[], Callable[[int, int], None]]:
    """For each thread that asks a function that does to rows of ``images`` what ``plan`` says, in place.

    ``images`` are contiguous in memory, and are row ``first`` of the plan and those that follow.
    """
    ready, flat, size = program(plan), images.reshape(len(images), -1), (plan.height, plan.width)

    def begin() -> Callable[[int, int], None]:
        own = memory(plan)
        return lambda start, stop: augment_rows(first + start, first + stop, flat, first, size, ready, own)

    return begin


def augment(images: UInt8[np.ndarray, "b h w 3"], plan: AugmentPlan) -> None:
    """Does to ``images``, which are contiguous in memory, what ``plan`` says, in place; rows are sliced over threads."""
    begin = augmenter(images, plan)
    run_sliced(lambda start, stop: begin()(start, stop), len(images))


@njit(**INNER)
def _operate(image, other, h, w, op, arg, filter, matrix, fill, memory):
    """One operation of an image; whether its result is in ``other``."""
    tables = memory.tables
    if op <= _ROTATE:
        along, down = op in (_SHEAR_X, _TRANSLATE_X), op in (_SHEAR_Y, _TRANSLATE_Y)
        if op in (_TRANSLATE_X, _TRANSLATE_Y) and (filter == _NEAREST or arg == math.floor(arg)):
            pixels = -int64(math.floor(0.5 - arg))
            shift(image, other, h, w, pixels if along else 0, pixels if down else 0, fill)
        elif filter == _NEAREST:
            nearest(image, other, h, w, matrix, fill)
        else:
            axes = ALONG if along else DOWN if down else BOTH
            interpolated(
                image,
                other,
                h,
                w,
                matrix,
                fill,
                filter == _BICUBIC,
                axes,
                memory.lines,
                memory.places,
                memory.across,
                memory.down,
            )
        return True
    if op == _SHARPNESS:
        if h < 3 or w < 3:
            return False
        sharpen(image, other, h, 3 * w, arg, memory.words)
        return True
    if op in (_BRIGHTNESS, _CONTRAST):
        blend_level(image, mean_grey(image) if op == _CONTRAST else 0, arg)
    elif op in (_COLOR, _GRAYSCALE):
        grey_blend(image, arg)  # grayscale has argument 0
    elif op == _POSTERIZE:
        posterize(image, int64(arg))
    elif op in (_SOLARIZE, _INVERT):
        solarize(image, int64(math.ceil(arg)))  # inversion has argument 0
    elif op == _BLUR:
        if arg > 0:
            blur(image, other, h, w, arg, memory.sums)
    elif op == _HUE:
        turn_hue(image, arg)
    else:
        if op == _AUTOCONTRAST:
            extremes(image, memory.ends)
            stretch_tables(memory.ends, tables)
        elif op == _EQUALIZE:
            histograms(image, memory.counts)
            equal_tables(memory.counts, tables)
        else:
            add_tables(int64(arg), tables)
        look_up(image, tables)
    return False


@njit(**INNER)
def _scramble(x):
    """``noise.scramble`` of one number."""
    x = uint32(uint32(x ^ (x >> uint32(16))) * uint32(0x7FEB352D))
    x = uint32(uint32(x ^ (x >> uint32(15))) * uint32(0x846CA68B))
    return uint32(x ^ (x >> uint32(16)))


@njit(**INNER)
def _erase(image, w, box, colour, noisy, seed, values):
    """Fills one box."""
    for y in range(box[0], box[0] + box[2]):
        at = 3 * (y * w + box[1])
        for k in range(uint32(at), uint32(at + 3 * box[3])):
            c = k % uint32(3)
            if noisy:
                image[k] = values[c, _scramble(_scramble(uint32(k)) ^ seed) >> uint32(20)]
            else:
                image[k] = colour[c]


@njit(**INNER)
def _copy(source, out):
    for k in range(out.size):
        out[k] = source[k]


@njit(**INNER)
def _mix(image, chains, weight, blended, total):
    """The mixture of chains in the place of the image, by blocks of float32 sums in the order of the chains."""
    for start in range(0, image.size, total.size):
        n = uint64(min(total.size, image.size - start))
        own = float32(0) if blended else weight[0]
        for k in range(n):
            total[k] = own * float32(image[uint64(start) + k])
        for c in range(chains.shape[0]):
            share = weight[c + 1]
            for k in range(n):
                total[k] += share * float32(chains[c, uint64(start) + k])
        rest = float32(float32(1) - weight[0])
        for k in range(n):
            v = total[k] if total[k] < float32(255) else float32(255)
            mixed = uint8(int32(v))
            image[uint64(start) + k] = blend(image[uint64(start) + k], mixed, rest) if blended else mixed


@njit()
def augment_rows(start, stop, images, offset, size, program, memory):
    """Does what rows ``start`` to ``stop`` of the plan say, in place; ``images`` (rows, h * w * 3), ``size`` is (h, w).

    The first of ``images`` is row ``offset`` of the plan. A row is executed in parts: the operations before its AugMix, each
    chain, and the operations behind it.
    """
    h, w = size
    n, chains = program.op.shape[1], program.chain_op.shape[1]
    for b in range(start, stop):
        middle = n
        for i in range(n):
            middle = i if program.op[b, i] == _AUGMIX else middle
        image, spare, moved = images[b - offset], memory.other, False
        for part in range(1 if middle == n else chains + 2):
            chained = 0 < part <= chains
            now, other, swapped = image, spare, False
            first, last = (0, middle) if part == 0 else (middle + 1, n)
            if chained:
                first, last = 0, program.chain_op.shape[2]
                now = memory.chains[part - 1]
                _copy(image, now)
            for i in range(first, last):
                op = program.chain_op[b, part - 1, i] if chained else program.op[b, i]
                if op == _KEEP:
                    continue
                if chained:
                    arg, filter = program.chain_arg[b, part - 1, i], program.chain_filter[b, part - 1, i]
                    matrix, fill = program.chain_matrix[b, part - 1, i], program.chain_fill
                else:
                    arg, filter = program.arg[b, i], program.filter[b, i]
                    matrix, fill = program.matrix[b, i], program.fill[i]
                if _operate(now, other, h, w, op, arg, filter, matrix, fill, memory):
                    now, other, swapped = other, now, not swapped
            if not chained:
                image, spare, moved = now, other, moved != swapped
                continue
            if swapped:
                _copy(now, other)
            if part == chains:
                _mix(image, memory.chains, program.weight[b], program.blend, memory.total)
        for e in range(program.box.shape[1]):
            _erase(image, w, program.box[b, e], program.colour[b, e], program.noisy[e], program.noise[b], program.values)
        if moved:
            _copy(image, images[b - offset])
