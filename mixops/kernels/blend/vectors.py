"""Vectors of eight numbers in LLVM's instructions, for the CPU kernels: read, spread, cast, stored.

They are emitted for eight elements and, for what is left of a row, for one: the same operations in the same order, so that
an element has the same bits wherever it lies. LLVM by itself makes no vectors of stores past the caches, nor of loops whose
indices might be negative.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from .cpu import _BFLOAT16, _CONVERTS, _FLOAT16, _FLOAT32, _LANES, _UINT8

BYTE, _WORD, _INT, _LONG, FLOAT = ir.IntType(8), ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()


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


def write(builder: Any, value: Any, address: Any, *, past: bool = False) -> None:
    """Stores a vector at any address, or, past the caches, at one of its own size."""
    size = value.type.count * (4 if value.type.element == FLOAT else value.type.element.width // 8)
    store = builder.store(value, pointer(builder, address, value.type), align=size if past else 1)
    if past:
        store.set_metadata("nontemporal", _past(builder))


def put(
    builder: Any, value_at: Callable[[Any, int], Any], count: Any, kind: Any, past: Any, out: Any
) -> None:  # fmt: skip
    """Emits the stores of ``value_at(i, lanes)``, floats, as ``count`` elements of ``kind`` at the address ``out``.

    ``past`` the caches go floating ones alone, whole vectors to an address of their size.
    """
    for one, (cast, size) in _CASTS.items():
        for streamed in (False, True):
            if streamed and one == _UINT8:
                continue

            def body(i: Any, lanes: int, cast: Any = cast, size: int = size, streamed: bool = streamed) -> None:
                to = builder.add(out, builder.mul(i, number(size)))
                write(builder, cast(builder, value_at(i, lanes)), to, past=streamed)

            asked = builder.and_(builder.icmp_unsigned("==", kind, number(one)), past if streamed else builder.not_(past))
            with builder.if_then(asked):
                each(builder, count, (_LANES,) if streamed else (_LANES, 1), body)


def _past(builder: Any) -> Any:
    return builder.module.add_metadata([ir.Constant(_INT, 1)])


def _narrow(builder: Any, value: Any) -> Any:
    words = ir.VectorType(_WORD, value.type.count)
    if not _CONVERTS:  # never asked for: LLVM would call a routine
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


_CASTS: dict[int, tuple[Callable[[Any, Any], Any], int]] = {
    _FLOAT32: (lambda _, value: value, 4),
    _FLOAT16: (_narrow, 2),
    _BFLOAT16: (_brain, 2),
    _UINT8: (_level, 1),
}  # by kind, how and to how many bytes
