"""Pillow's resize in vectors: its bytes, at a seventh to a fourth of its time.

Pillow's filters widen with the reduction. Their weights are in fixed point with 22 fractional bits, and each of two passes,
across and down, is rounded and clipped to 8 bits:

    out = clip8((2^21 + sum_j weight_j in_(first + j)) >> 22),    weight_j = round(2^22 filter_j / sum of the filter)

The same integers here give the same bytes. (OpenCV's area filter, which FFCV calls, is off by one to two grey levels.)

A vector holds 96 neighbouring bytes of a row on the way down. On the way across it holds one pixel of 32 rows, so that one
weight serves all of it and no byte is gathered: 32 rows at a time are turned on their side, 16 x 16 bytes by four rounds of
unpacking, and turned back behind the sums. Both ways are then one step, ``_weigh``, whose sums stay in registers.

Instructions limit it, not memory: all but the image itself lies in the L1 and L2 caches. Counted in the code for AVX2, a
byte of a pass takes .42 instructions a weight (eight products are a load that widens, a multiplication, an addition) and .65
for rounding and packing; turning takes .31 a byte, turning back .40. With 2.5 weights, as for windows that are drawn from
photographs of ImageNet, that is 4.8 a byte of the result: 46 % products, 29 % rounding and packing, 18 % turning, 7 % the
table of weights. Products of 16 bits, which other resizers use, come out the same: a weight of 22 bits has two halves.
LLVM keeps to 256-bit registers on machines with AVX-512; with SSE4.1 it takes twice the instructions, and SSE2 has no
multiplication of 32 bits.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from jaxtyping import Float64, Int32, UInt8
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from mixops.runtime.address import address
from mixops.runtime.jit import INNER, njit

FILTERS = {"nearest": 0, "lanczos": 1, "bilinear": 2, "bicubic": 3, "box": 4, "hamming": 5}  # Pillow's numbers
NEAREST, LANCZOS, BILINEAR, BICUBIC, BOX, HAMMING = FILTERS.values()
_SUPPORT = (0.0, 3.0, 1.0, 2.0, 0.5, 1.0)
_HAMMING = tuple(float(np.float32(x)) for x in (0.54, 0.46))  # Pillow's constants are of single precision
_BITS = 22  # Pillow's PRECISION_BITS for 8-bit images: 32 - 8 - 2
ACROSS_FIRST, DOWN_FIRST_IF_TALL, DOWN_FIRST_IF_LESS = range(3)  # the orders of Pillow before 12.2, before 13, and since

_LANES = 32
_PIXEL = 3 * _LANES  # bytes of one step of weighing: a pixel of 32 rows, or 32 pixels of a row
_STRIP = 16  # pixels of 32 rows that are turned back at once
_BYTE, _INT, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_BYTES, _SUMS, _HALF = ir.VectorType(_BYTE, _LANES), ir.VectorType(_INT, _LANES), ir.VectorType(_BYTE, 16)


# Functions for the compiler. Who passes on an address holds the array with ``_keep`` or as an argument (``address``).


@intrinsic
def _keep(_: Any, arrays: Any) -> Any:
    """Uses arrays, and does nothing with them."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return context.get_dummy_value()

    return types.void(arrays), generate


@intrinsic
def _move(_: Any, to: Any, source: Any, count: Any) -> Any:
    """Copies ``count`` bytes from one address to another; they may overlap."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, source = (builder.inttoptr(address, _BYTE.as_pointer()) for address in args[:2])
        cgutils.raw_memmove(builder, to, source, args[2], 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


def _constant(kind: Any, value: int) -> Any:
    return ir.Constant(kind, [value] * kind.count)


def _at(builder: Any, address: Any, offset: Any, kind: Any) -> Any:
    """The pointer to a ``kind`` at ``address`` + ``offset``."""
    offset = ir.Constant(_LONG, offset) if isinstance(offset, int) else offset
    return builder.inttoptr(builder.add(address, offset), kind.as_pointer())


def _shuffle(builder: Any, one: Any, other: Any, order: list[int]) -> Any:
    return builder.shuffle_vector(one, other, ir.Constant(ir.VectorType(_INT, len(order)), order))


@intrinsic
def _weigh(_: Any, source: Any, step: Any, weights: Any, count: Any, out: Any) -> Any:
    """96 sums of ``count`` bytes, ``step`` apart, times int32 ``weights``; rounded and clipped they go to ``out``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, step, weights, count, out = args
        sums = [cgutils.alloca_once(builder, _SUMS) for _ in range(_PIXEL // _LANES)]  # LLVM puts them into registers
        for total in sums:
            builder.store(_constant(_SUMS, 1 << (_BITS - 1)), total)
        with cgutils.for_range(builder, count) as loop:
            weight = builder.load(builder.gep(_at(builder, weights, 0, _INT), [loop.index]))
            weight = builder.insert_element(ir.Constant(_SUMS, ir.Undefined), weight, ir.Constant(_INT, 0))
            weight = _shuffle(builder, weight, weight, [0] * _LANES)
            row = builder.add(source, builder.mul(loop.index, step))
            for i, total in enumerate(sums):
                values = builder.zext(builder.load(_at(builder, row, i * _LANES, _BYTES), align=1), _SUMS)
                builder.store(builder.add(builder.load(total), builder.mul(values, weight)), total)
        low, high = _constant(_SUMS, 0), _constant(_SUMS, 255)
        for i, total in enumerate(sums):
            value = builder.ashr(builder.load(total), _constant(_SUMS, _BITS))
            value = builder.select(builder.icmp_signed("<", value, low), low, value)
            value = builder.select(builder.icmp_signed(">", value, high), high, value)
            builder.store(builder.trunc(value, _BYTES), _at(builder, out, i * _LANES, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 5), generate


def _turned(builder: Any, rows: list[Any]) -> list[Any]:
    """The columns of 16 x 16 bytes, in the lower and the upper halves of 16 vectors alike.

    In each of four rounds the bytes of vector i and vector i + 8 are taken by turns. On x86 that is one instruction for the
    lower bytes of both halves, and one for the upper.
    """
    lower = [half + i // 2 + i % 2 * _LANES for half in (0, 16) for i in range(16)]
    upper = [i + 8 for i in lower]
    for _ in range(4):
        rows = [_shuffle(builder, rows[i // 2], rows[i // 2 + 8], upper if i % 2 else lower) for i in range(16)]
    return rows


@intrinsic
def _turn(_: Any, source: Any, step: Any, out: Any) -> Any:
    """16 bytes of each of 32 rows, ``step`` apart, to 16 vectors of 32 rows at ``out``."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, step, out = args

        def row(i: int) -> Any:
            return builder.load(_at(builder, source, builder.mul(step, ir.Constant(_LONG, i)), _HALF), align=1)

        rows = [_shuffle(builder, row(i), row(i + 16), list(range(_LANES))) for i in range(16)]
        for i, column in enumerate(_turned(builder, rows)):
            builder.store(column, _at(builder, out, i * _LANES, _BYTES), align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def _turn_back(_: Any, source: Any, out: Any, step: Any) -> Any:
    """16 vectors of 32 rows at ``source`` to 16 bytes of each of 32 rows, ``step`` apart."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        source, out, step = args
        columns = [builder.load(_at(builder, source, i * _LANES, _BYTES), align=1) for i in range(16)]
        for i, rows in enumerate(_turned(builder, columns)):
            for half in (0, 16):
                to = _at(builder, out, builder.mul(step, ir.Constant(_LONG, half + i)), _HALF)
                builder.store(_shuffle(builder, rows, rows, list(range(half, half + 16))), to, align=1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@njit(**INNER)
def _filter(kind: int, x: float) -> float:
    """Pillow's filters, in the order of its operations; Lanczos with one sine for two, sin(3t) = (3 - 4 sin(t)^2) sin(t)."""
    if kind == BOX:
        return 1.0 if -0.5 < x <= 0.5 else 0.0
    x = abs(x)
    if x >= _SUPPORT[kind]:
        return 0.0
    if kind == BILINEAR:
        return 1.0 - x
    if kind == BICUBIC:
        return (1.5 * x - 2.5) * x * x + 1.0 if x < 1.0 else (((x - 5.0) * x + 8.0) * x - 4.0) * -0.5
    if x == 0.0:
        return 1.0
    if kind == LANCZOS:
        sine = math.sin(x * math.pi / 3.0)
        return (9.0 - 12.0 * sine * sine) * sine * sine / (x * math.pi) ** 2
    x *= math.pi
    return math.sin(x) / x * (_HAMMING[0] + _HAMMING[1] * math.cos(x))


@njit(**INNER)
def _weights(
    kind: int, start: float, scale: float, skipped: int, size: int, limit: int
) -> Int32[np.ndarray, "size columns"]:
    """A row for each of ``size`` output pixels: its first source pixel, their number, and their weights.

    An output pixel covers ``scale`` of ``limit`` pixels, the first one those after ``skipped`` others from ``start``.
    """
    support = _SUPPORT[kind] * max(scale, 1.0)
    shrink = 1.0 / max(scale, 1.0)
    table = np.empty((size, 2 * math.ceil(support) + 3), np.int32)
    raw = np.empty(table.shape[1])
    for i in range(size):
        centre = start + (skipped + i + 0.5) * scale
        first = max(int(centre - support + 0.5), 0)
        count = min(int(centre + support + 0.5), limit) - first
        total = 0.0
        for j in range(count):
            raw[j] = _filter(kind, (j + first - centre + 0.5) * shrink)
            total += raw[j]
        for j in range(count):
            weight = raw[j] / total if total != 0.0 else raw[j]
            table[i, 2 + j] = int(weight * (1 << _BITS) + (0.5 if weight >= 0.0 else -0.5))
        table[i, 0] = first
        table[i, 1] = count
    return table


@njit(**INNER)
def _cropped(table: Int32[np.ndarray, "size columns"]) -> tuple[int, int]:
    """Lets a table of weights begin with the first pixel that is read, and returns that and the number of pixels read."""
    last = table.shape[0] - 1
    first = table[0, 0]
    count = table[last, 0] + table[last, 1] - first
    for i in range(last + 1):
        table[i, 0] -= first
    return first, count


@njit(**INNER)
def _down(source, step, size, down, y, out):
    """Row y of the pass down: ``size`` bytes, 96 at least, from rows ``step`` apart."""
    weights = address(down) + 4 * (down.shape[1] * y + 2)
    for i in range((size + _PIXEL - 1) // _PIXEL):
        x = min(i * _PIXEL, size - _PIXEL)
        _weigh(source + down[y, 0] * step + x, step, weights, down[y, 1], out + x)


@njit(**INNER)
def _across(source, step, size, across, mirrored, turned, strip, out, out_step):
    """The pass across of 32 rows of ``size`` bytes to strips of 16 pixels, the last one whole, too."""
    for i in range((size + 15) // 16):
        x = min(i * 16, size - 16)
        _turn(source + x, step, turned + x * _LANES)
    ow = across.shape[0]
    for begin in range(0, ow, _STRIP):
        for i in range(begin, min(begin + _STRIP, ow)):
            row = ow - 1 - i if mirrored else i
            weights = address(across) + 4 * (across.shape[1] * row + 2)
            _weigh(turned + _PIXEL * across[row, 0], _PIXEL, weights, across[row, 1], strip + _PIXEL * (i - begin))
        for i in range(3):
            _turn_back(strip + i * 16 * _LANES, out + 3 * begin + i * 16, out_step)


@njit(**INNER)
def _across_first(source, step, size, rows, across, down, mirrored, upside_down, out):
    """32 source rows at a time, as far as an output row needs them; those that the next one needs again are held."""
    oh, length = down.shape[0], 3 * across.shape[0]
    pitch = (length + _PIXEL - 1) // _PIXEL * _PIXEL
    turned, strip = np.empty(size * _LANES, np.uint8), np.empty(_STRIP * _PIXEL, np.uint8)
    held, short = np.empty((down.shape[1] + _LANES) * pitch, np.uint8), np.empty(_PIXEL, np.uint8)
    at = address(held)
    first, end = 0, 0
    for y in range(oh):
        while end < down[y, 0] + down[y, 1]:
            begin = min(max(end, down[y, 0]), rows - _LANES)
            kept = min(begin, down[y, 0])
            _move(at, at + (kept - first) * pitch, (begin - kept) * pitch)
            first, end = kept, begin + _LANES
            to = at + (begin - first) * pitch
            _across(source + begin * step, step, size, across, mirrored, address(turned), address(strip), to, pitch)
        to = out + (oh - 1 - y if upside_down else y) * length
        if length < _PIXEL:
            _down(at - first * pitch, pitch, _PIXEL, down, y, address(short))
            _move(to, address(short), length)
        else:
            _down(at - first * pitch, pitch, length, down, y, to)
    _keep((turned, strip, held, short))


@njit(**INNER)
def _down_first(source, step, size, across, down, mirrored, upside_down, out):
    """32 output rows at a time."""
    oh, length = down.shape[0], 3 * across.shape[0]
    pitch = (length + _PIXEL - 1) // _PIXEL * _PIXEL
    turned, strip = np.empty(size * _LANES, np.uint8), np.empty(_STRIP * _PIXEL, np.uint8)
    lowered, ready = np.empty(size * _LANES, np.uint8), np.empty(pitch * _LANES, np.uint8)
    for begin in range(0, oh, _LANES):
        rows = min(_LANES, oh - begin)
        for i in range(rows):
            _down(source, step, size, down, begin + i, address(lowered) + i * size)
        to = address(ready)
        _across(address(lowered), size, size, across, mirrored, address(turned), address(strip), to, pitch)
        for i in range(rows):
            y = oh - 1 - begin - i if upside_down else begin + i
            _move(out + y * length, to + i * pitch, length)
    _keep((turned, strip, lowered, ready))


@njit(**INNER)
def _grid(start: float, side: float, size: int, limit: int) -> tuple[float, int, int]:
    """The resize of all ``limit`` pixels of which the window is a crop: pixels an output, outputs skipped, and in all.

    If there is none, the scale is 0.
    """
    outputs = limit * size / side
    if outputs > 1 << 20:
        return 0.0, 0, 0
    full = int(outputs + 0.5)
    scale = limit / full
    skipped = int(start / scale + 0.5)
    slack = 1e-9 * limit
    if abs(scale * size - side) > slack or abs(skipped * scale - start) > slack:
        return 0.0, 0, 0
    return scale, skipped, full


@njit(**INNER)
def _nearest(source, step, height, width, rows, columns, mirrored, upside_down, out, oh, ow):
    """Pillow's filter "nearest", which adds up its positions; ``rows``, ``columns`` are start, scale and outputs skipped."""
    starts = np.empty(ow, np.int64)
    x = columns[0] + columns[1] * 0.5
    for _ in range(columns[2]):
        x += columns[1]
    for i in range(ow):
        starts[ow - 1 - i if mirrored else i] = 3 * min(int(x), width - 1)
        x += columns[1]
    y = rows[0] + rows[1] * 0.5
    for _ in range(rows[2]):
        y += rows[1]
    last = -1
    for i in range(oh):
        at = min(int(y), height - 1)
        row, to = source + at * step, out + (oh - 1 - i if upside_down else i) * 3 * ow
        if at == last:
            _move(to, to + (3 * ow if upside_down else -3 * ow), 3 * ow)
        else:
            quick = ow - 1 if at < height - 1 else 0  # a fourth byte is the next pixel's first, or in the next row
            for j in range(quick):
                _move(to + 3 * j, row + starts[j], 4)
            for j in range(quick, ow):
                _move(to + 3 * j, row + starts[j], 3)
        last = at
        y += rows[1]


@njit(**INNER)
def _placed(height, width, window, spill, oh, ow):
    """Rows and columns as (start, scale, outputs skipped), and the size that Pillow resizes the whole image to."""
    top, left, high, wide = window
    if not spill:
        return (0.0, high / oh, 0), (0.0, wide / ow, 0), (oh, ow)
    rows, columns = _grid(top, high, oh, height), _grid(left, wide, ow, width)
    if rows[0] > 0.0 and columns[0] > 0.0:
        return (0.0, rows[0], rows[1]), (0.0, columns[0], columns[1]), (rows[2], columns[2])
    # Pillow keeps the edges of a box in single precision
    top, left, bottom, right = np.float32(top), np.float32(left), np.float32(top + high), np.float32(left + wide)
    return (float(top), float(bottom - top) / oh, 0), (float(left), float(right - left) / ow, 0), (oh, ow)


@njit(**INNER)
def _resize(source, step, height, width, window, spill, mirrored, upside_down, kind, order, out, oh, ow):
    """``resized_crop`` from rows at the address ``source``, ``step`` bytes apart, to ``oh`` x ``ow`` pixels at ``out``."""
    if not spill:
        source += int(window[0]) * step + 3 * int(window[1])
        height, width = int(window[2]), int(window[3])
    vertical, horizontal, full = _placed(height, width, window, spill, oh, ow)
    if kind == NEAREST:
        _nearest(source, step, height, width, vertical, horizontal, mirrored, upside_down, out, oh, ow)
        return
    down = _weights(kind, vertical[0], vertical[1], vertical[2], oh, height)
    across = _weights(kind, horizontal[0], horizontal[1], horizontal[2], ow, width)
    (first, pixels), (upper, rows) = _cropped(across), _cropped(down)
    source += upper * step + 3 * first
    padded = np.empty((0, 0), np.uint8)
    if pixels < _LANES or rows < _LANES:  # less than a vector
        padded = np.empty((max(rows, _LANES), 3 * max(pixels, _LANES)), np.uint8)
        for y in range(rows):
            _move(address(padded) + y * padded.shape[1], source + y * step, 3 * pixels)
        source, step = address(padded), padded.shape[1]
        rows, pixels = max(rows, _LANES), max(pixels, _LANES)
    lost = height - full[0]
    tall = order == DOWN_FIRST_IF_TALL and height > 100 * width
    if lost > 0 and (tall or (order == DOWN_FIRST_IF_LESS and lost > 2 * (width - full[1]))):
        _down_first(source, step, 3 * pixels, across, down, mirrored, upside_down, out)
    else:
        _across_first(source, step, 3 * pixels, rows, across, down, mirrored, upside_down, out)
    _keep(padded)


@njit()
def resized_crop(
    image: UInt8[np.ndarray, "h w 3"],
    window: Float64[np.ndarray, " sides"],
    spill: bool,
    mirrored: bool,
    upside_down: bool,
    kind: int,
    order: int,
    out: UInt8[np.ndarray, "oh ow 3"],
) -> None:
    """Writes the window of an image to ``out``, for compiled loops; as ``resize_rows``, but nothing is checked.

    ``kind`` is a value of ``FILTERS``, ``order`` that of ``pillow_order``; ``image`` and ``out`` are dense in memory.
    """
    height, width = image.shape[:2]
    edges = window[0], window[1], window[2], window[3]
    to = address(out)
    oh, ow = out.shape[:2]
    # constants in the caller are types of their own, for which numba would compile everything again
    flags = np.bool_(spill), np.bool_(mirrored), np.bool_(upside_down)
    _resize(address(image), 3 * width, height, width, edges, *flags, np.int64(kind), np.int64(order), to, oh, ow)


@njit()
def resize_slice(start, stop, places, windows, flips, kinds, spill, order, out):
    oh, ow = out.shape[1], out.shape[2]
    for i in range(start, stop):
        source, step, height, width = places[i, 0], places[i, 1], places[i, 2], places[i, 3]
        window = windows[i, 0], windows[i, 1], windows[i, 2], windows[i, 3]
        to = address(out) + i * oh * ow * 3
        _resize(source, step, height, width, window, spill, flips[i, 0], flips[i, 1], kinds[i], order, to, oh, ow)
