"""Vectors of eight numbers in LLVM's instructions, for the CPU kernels: read, spread, cast, stored.

They are emitted for eight elements and, for what is left of a row, for one: the same operations in the same order, so that
an element has the same bits wherever it lies. LLVM by itself makes no vectors of stores past the caches, nor of loops whose
indices might be negative.
"""

from __future__ import annotations

import platform
from collections.abc import Callable, Sequence
from typing import Any

import llvmlite.binding
import numba
import torch
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

FLOAT32, FLOAT16, BFLOAT16, UINT8 = range(4)
KINDS = {torch.float32: FLOAT32, torch.float16: FLOAT16, torch.bfloat16: BFLOAT16, torch.uint8: UINT8}
LANES = 8
_TOGETHER = 4 * LANES  # elements of a turn of the loop
VECTOR = 32  # bytes
# without an instruction for float16, LLVM calls a routine that numba does not link
CONVERTS = numba.config.CPU_NAME is None and (
    platform.machine() != "x86_64" or llvmlite.binding.get_host_cpu_features().get("f16c", False)
)
BYTE, _WORD, _INT, _LONG, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


@intrinsic
def copy(_: Any, to: Any, source: Any, count: Any) -> Any:
    """Copies ``count`` bytes from one address to another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, source, count = args
        cgutils.raw_memcpy(builder, pointer(builder, to, BYTE), pointer(builder, source, BYTE), count, 1)
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.intp), generate


@intrinsic
def fence(_: Any) -> Any:
    """Lets other threads see what was stored past the caches."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def move(_: Any, to: Any, source: Any, octets: Any) -> Any:
    """Copies a byte, or a float, from one address to another."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        to, source, octets = args
        for element, asked in ((BYTE, octets), (FLOAT, builder.not_(octets))):
            with builder.if_then(asked):
                builder.store(
                    builder.load(pointer(builder, source, element), align=1), pointer(builder, to, element), align=1
                )
        return context.get_dummy_value()

    return types.void(types.intp, types.intp, types.boolean), generate


@intrinsic
def deal(_: Any, pixels: Any, planes: Any, reach: Any, count: Any, octets: Any, back: Any) -> Any:
    """Copies ``count`` pixels of three bytes, or floats, to three planes that begin ``reach`` bytes apart; or ``back``.

    Since 3 has no factor in common with the lanes of a vector, what one plane has of three vectors of pixels lies in lanes
    of its own: lanes are chosen, which is cheap, and then permuted once.
    """

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        pixels, planes, reach, count, octets, back = args
        for element, lanes, asked in ((BYTE, 16, octets), (FLOAT, LANES, builder.not_(octets))):
            ends = [pointer(builder, builder.add(planes, builder.mul(reach, number(i))), element) for i in range(3)]
            start = pointer(builder, pixels, element)
            for backwards in (False, True):

                def body(
                    i: Any,
                    step: int,
                    element: Any = element,
                    ends: Any = ends,
                    start: Any = start,
                    backwards: bool = backwards,
                ) -> None:
                    vector = ir.VectorType(element, step).as_pointer()
                    mine = builder.gep(start, [builder.mul(i, number(3))])
                    of_pixels = [builder.bitcast(builder.gep(mine, [number(q * step)]), vector) for q in range(3)]
                    of_planes = [builder.bitcast(builder.gep(end, [i]), vector) for end in ends]
                    given, taken = (of_planes, of_pixels) if backwards else (of_pixels, of_planes)
                    values = [builder.load(place, align=1) for place in given]
                    for value, place in zip(_dealt(builder, values, step, backwards), taken, strict=True):
                        builder.store(value, place, align=1)

                with builder.if_then(builder.and_(asked, back if backwards else builder.not_(back))):
                    each(builder, count, (lanes, 1), body)
        return context.get_dummy_value()

    return types.void(*[types.intp] * 4, types.boolean, types.boolean), generate


def whole_of(kind: int) -> int:
    """How many elements of a kind a store past the caches has at least."""
    return _TOGETHER if kind == UINT8 else LANES


# What the functions below emit is emitted where their caller is: they are called by intrinsics.


def _dealt(builder: Any, values: Sequence[Any], lanes: int, backwards: bool) -> list[Any]:
    """Three vectors of pixels as one of each plane, or ``backwards``."""
    if lanes == 1:
        return list(values)

    def permuted(value: Any, order: Sequence[int]) -> Any:
        return builder.shuffle_vector(value, value, constant_of(order))

    def constant_of(order: Sequence[int]) -> Any:
        return ir.Constant(ir.VectorType(_INT, lanes), list(order))

    def chosen(values: Sequence[Any], which: Sequence[int]) -> Any:
        value = values[0]
        for i in (1, 2):
            mask = ir.Constant(ir.VectorType(ir.IntType(1), lanes), [w == i for w in which])
            value = builder.select(mask, values[i], value)
        return value

    place = [[(3 * pixel + i) % lanes for pixel in range(lanes)] for i in range(3)]  # the lane of a pixel's i-th element
    if backwards:
        values = [permuted(value, [place[i].index(lane) for lane in range(lanes)]) for i, value in enumerate(values)]
        return [chosen(values, [(q * lanes + lane) % 3 for lane in range(lanes)]) for q in range(3)]
    return [
        permuted(
            chosen(values, [next(q for q in range(3) if (q * lanes + lane) % 3 == i) for lane in range(lanes)]), place[i]
        )
        for i in range(3)
    ]


def number(value: int) -> Any:
    return ir.Constant(_LONG, value)


def constant(value: float, lanes: int, element: Any = FLOAT) -> Any:
    return ir.Constant(ir.VectorType(element, lanes), [value] * lanes)


def each(builder: Any, count: Any, steps: Sequence[int], body: Callable[[Any, int], None]) -> None:
    """Emits ``body(i, step)`` for i = 0, step, 2 * step, .. up to ``count``, in the first of ``steps`` as far as it goes.

    Steps are powers of 2 and fall; what is left by the last is left out.
    """
    begin = number(0)
    for step in steps:
        end = builder.and_(count, number(-step))
        with cgutils.for_range_slice(builder, begin, end, number(step)) as (i, _):
            body(i, step)
        begin = end


def pointer(builder: Any, address: Any, element: Any = FLOAT) -> Any:
    return builder.inttoptr(address, element.as_pointer())


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """A float in all lanes."""
    one = builder.insert_element(ir.Constant(ir.VectorType(FLOAT, lanes), ir.Undefined), value, ir.Constant(_INT, 0))
    return builder.shuffle_vector(one, one, constant(0, lanes, _INT))


def read(builder: Any, first: Any, i: Any, lanes: int) -> Any:
    """Elements i, i + 1, .. from the pointer ``first`` on, bytes or floats, as floats."""
    first = builder.gep(first, [i])
    element = first.type.pointee
    value = builder.load(builder.bitcast(first, ir.VectorType(element, lanes).as_pointer()), align=1)
    if element == BYTE:
        value = builder.sitofp(builder.zext(value, ir.VectorType(_INT, lanes)), ir.VectorType(FLOAT, lanes))
    return value


def write(builder: Any, value: Any, address: Any, *, past: int = 0) -> None:
    """Stores a vector at any address, or, past the caches, at a multiple of so many bytes."""
    store = builder.store(value, pointer(builder, address, value.type), align=past or 1)
    if past:
        store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(_INT, 1)]))


def put(
    builder: Any, value_at: Callable[[Any, int], Any], count: Any, kind: Any, past: Any, out: Any
) -> None:  # fmt: skip
    """Emits the stores of ``value_at(i, lanes)``, floats, as ``count`` elements of ``kind`` at the address ``out``.

    ``past`` the caches go multiples of ``whole_of(kind)`` elements, to an address that is a multiple of their size.
    """
    for one, (cast, size, together) in _CASTS.items():
        for streamed in (False, True):
            smallest = whole_of(one) if streamed else 1

            def body(
                i: Any, elements: int, cast: Any = cast, size: int = size, together: int = together,
                past: int = smallest * size if streamed else 0,
            ) -> None:  # fmt: skip
                lanes = min(elements, together)
                for first in range(0, elements, lanes):
                    at = builder.add(i, number(first))
                    to = builder.add(out, builder.mul(at, number(size)))
                    write(builder, cast(builder, value_at(at, lanes)), to, past=past)

            asked = builder.and_(builder.icmp_unsigned("==", kind, number(one)), past if streamed else builder.not_(past))
            with builder.if_then(asked):
                each(builder, count, [step for step in (_TOGETHER, LANES, 1) if step >= smallest], body)


def _narrow(builder: Any, value: Any) -> Any:
    words = ir.VectorType(_WORD, value.type.count)
    if not CONVERTS:  # never asked for: LLVM would call a routine
        return ir.Constant(words, ir.Undefined)
    return builder.bitcast(builder.fptrunc(value, ir.VectorType(ir.HalfType(), value.type.count)), words)


def _brain(builder: Any, value: Any) -> Any:
    """To bfloat16, rounding half to even."""
    integers = ir.VectorType(_INT, value.type.count)
    one, half, high, nan = (ir.Constant(integers, [n] * value.type.count) for n in (1, 0x7FFF, 16, 0x7FC0))
    u = builder.bitcast(value, integers)
    rounded = builder.lshr(builder.add(builder.add(u, half), builder.and_(builder.lshr(u, high), one)), high)
    rounded = builder.select(builder.fcmp_ordered("==", value, value), rounded, nan)
    return builder.trunc(rounded, ir.VectorType(_WORD, value.type.count))


def _level(builder: Any, value: Any) -> Any:
    """To uint8, rounding half to even: adding 2**23 leaves the integer in the low bits."""
    lanes = value.type.count
    shifted = builder.bitcast(builder.fadd(value, constant(2.0**23, lanes)), ir.VectorType(_INT, lanes))
    return builder.trunc(shifted, ir.VectorType(BYTE, lanes))


_CASTS: dict[int, tuple[Callable[[Any, Any], Any], int, int]] = {
    FLOAT32: (lambda _, value: value, 4, LANES),
    FLOAT16: (_narrow, 2, LANES),
    BFLOAT16: (_brain, 2, 2 * LANES),
    UINT8: (_level, 1, 4 * LANES),
}  # by kind, how, to how many bytes, and how many together: integers are packed two vectors into one
