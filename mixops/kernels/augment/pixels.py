"""Arithmetic on the three channels of a pixel at once, in vectors that numba alone would not make.

A pixel is loaded as the four bytes that end with it, so that no byte behind an image is read; the first pixel of an image
therefore is not for these functions. It is stored as four bytes that begin with it: who writes pixels from left to right
overwrites the fourth with the next pixel, and the last pixel of an image is not for these functions either.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_INTEGERS, _DOUBLES = ir.VectorType(ir.IntType(32), 4), ir.VectorType(ir.DoubleType(), 4)
_BYTES = ir.VectorType(ir.IntType(8), 4)


class _Pixels:
    """Writes instructions: vectors of four 32-bit integers or doubles, of which three lanes mean something."""

    def __init__(self, context: Any, builder: Any, signature: Any, args: Any) -> None:
        self.builder = builder
        self.source, self.to = (context.make_array(signature.args[i])(context, builder, args[i]).data for i in (0, 1))

    def load(self, at: Any) -> Any:
        """The pixel at a byte offset, as integers."""
        word = self.builder.bitcast(self.builder.gep(self.source, [at]), ir.IntType(32).as_pointer())
        word = self.builder.gep(self.builder.bitcast(word, ir.IntType(8).as_pointer()), [ir.Constant(ir.IntType(64), -1)])
        word = self.builder.load(self.builder.bitcast(word, ir.IntType(32).as_pointer()), align=1)
        word = self.builder.lshr(word, ir.Constant(ir.IntType(32), 8))
        return self.builder.zext(self.builder.bitcast(word, _BYTES), _INTEGERS)

    def store(self, at: Any, value: Any) -> None:
        """Doubles in [0, 256) cut off at whole levels."""
        word = self.builder.trunc(self.builder.fptosi(value, _INTEGERS), _BYTES)
        word = self.builder.bitcast(word, ir.IntType(32))
        to = self.builder.bitcast(self.builder.gep(self.to, [at]), ir.IntType(32).as_pointer())
        self.builder.store(word, to, align=1)

    def double(self, value: Any) -> Any:
        """Integers as doubles."""
        return self.builder.sitofp(value, _DOUBLES)

    def splat(self, value: Any) -> Any:
        """A double in all lanes."""
        one = self.builder.insert_element(ir.Constant(_DOUBLES, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
        return self.builder.shuffle_vector(one, one, ir.Constant(_INTEGERS, [0] * 4))

    def offset(self, at: Any, step: Any, count: int) -> Any:
        """at + count * step"""
        return self.builder.add(at, self.builder.mul(step, ir.Constant(ir.IntType(64), count)))

    def line(self, at: Any, step: Any, t: Any) -> Any:
        """a + (b - a) t, b a step behind a."""
        b = self.builder
        first, second = self.load(at), self.load(b.add(at, step))
        return b.fadd(self.double(first), b.fmul(self.double(b.sub(second, first)), t))

    def cubic(self, at: Any, step: Any, t: Any) -> Any:
        """Pillow's cubic through four pixels, of which ``at`` is the first; t of the way from the second to the third.

        Its coefficients are whole numbers, so that they may be found in integers.
        """
        b = self.builder
        v1, v2, v3, v4 = (self.load(self.offset(at, step, i)) for i in range(4))
        p2 = b.sub(v3, v1)
        turn = b.sub(v1, v2)
        p3 = b.sub(b.add(b.add(turn, turn), v3), v4)
        p4 = b.sub(b.sub(v4, v3), turn)
        return self.horner(self.double(v2), self.double(p2), self.double(p3), self.double(p4), t)

    def cubic_of(self, lines: list[Any], t: Any) -> Any:
        """The same through four doubles, in Pillow's order."""
        b = self.builder
        v1, v2, v3, v4 = lines
        turn = b.fsub(v1, v2)
        p3 = b.fsub(b.fadd(b.fadd(turn, turn), v3), v4)
        p4 = b.fadd(b.fsub(b.fsub(v2, v1), v3), v4)
        return self.horner(v2, b.fsub(v3, v1), p3, p4, t)

    def horner(self, p1: Any, p2: Any, p3: Any, p4: Any, t: Any) -> Any:
        """p1 + t (p2 + t (p3 + t p4))"""
        b = self.builder
        value = b.fadd(p3, b.fmul(t, p4))
        value = b.fadd(p2, b.fmul(t, value))
        return b.fadd(p1, b.fmul(t, value))

    def clip(self, value: Any) -> Any:
        """Cut off at black and white."""
        b = self.builder
        black, white = ir.Constant(_DOUBLES, [0.0] * 4), ir.Constant(_DOUBLES, [255.0] * 4)
        value = b.select(b.fcmp_ordered("<", value, white), value, white)
        return b.select(b.fcmp_ordered(">", value, black), value, black)


def _signature(source: Any, to: Any, floats: int) -> Any:
    return types.void(source, to, *[types.int64] * 3, *[types.float64] * floats)


@intrinsic
def blend_line(_: Any, source: Any, to: Any, at: Any, step: Any, out: Any, t: Any) -> Any:
    """Pixel ``out`` of ``to``: t of the way from pixel ``at`` of ``source`` to that a ``step`` behind it, in bytes."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        p = _Pixels(context, builder, signature, args)
        _, _, at, step, out, t = args
        p.store(out, p.line(at, step, p.splat(t)))
        return context.get_dummy_value()

    return _signature(source, to, 1), generate


@intrinsic
def blend_square(_: Any, source: Any, to: Any, at: Any, down: Any, out: Any, t: Any, s: Any) -> Any:
    """Pixel ``out`` of ``to``: t along and s down the square of four pixels from ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        p = _Pixels(context, builder, signature, args)
        _, _, at, down, out, t, s = args
        pixel, t = ir.Constant(ir.IntType(64), 3), p.splat(t)
        top, low = p.line(at, pixel, t), p.line(builder.add(at, down), pixel, t)
        p.store(out, builder.fadd(top, builder.fmul(builder.fsub(low, top), p.splat(s))))
        return context.get_dummy_value()

    return _signature(source, to, 2), generate


@intrinsic
def cubic_line(_: Any, source: Any, to: Any, at: Any, step: Any, out: Any, t: Any) -> Any:
    """Pixel ``out`` of ``to``: the cubic through four pixels from ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        p = _Pixels(context, builder, signature, args)
        _, _, at, step, out, t = args
        p.store(out, p.clip(p.cubic(at, step, p.splat(t))))
        return context.get_dummy_value()

    return _signature(source, to, 1), generate


@intrinsic
def cubic_square(_: Any, source: Any, to: Any, at: Any, down: Any, out: Any, t: Any, s: Any) -> Any:
    """Pixel ``out`` of ``to``: the cubic through sixteen pixels from ``at`` on."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        p = _Pixels(context, builder, signature, args)
        _, _, at, down, out, t, s = args
        pixel, t = ir.Constant(ir.IntType(64), 3), p.splat(t)
        lines = [p.cubic(p.offset(at, down, i), pixel, t) for i in range(4)]
        p.store(out, p.clip(p.cubic_of(lines, p.splat(s))))
        return context.get_dummy_value()

    return _signature(source, to, 2), generate
