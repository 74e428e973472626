"""A plan as passes over images in memory, and which passes a device may do together.

    pass    one image -> one image: a copy, a table, a filter, a warp ...; an operation is one pass, a blur six boxes
    level   passes of different images that wait for nothing but the levels before

Images lie in slots: the batch's, which are only read, the result's, and spare ones. A pass on single pixels works in place,
one that looks at neighbours goes to another slot, and the first pass of a row, which leaves the batch's slot, goes where
the last one then ends in the result. So nothing is copied that an operation does not write anyway, and a row whose
operations are few does not wait for others. A chain of AugMix is a row of its own, from where its row's image is to a spare
slot.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float64, Int32
from numba import float64, int32, int64

from ...augment.operations import Filter, Op, warp_matrices
from ...augment.plan import AugmentPlan
from ...runtime.jit import INNER, njit
from .filters import box_shares

# kinds of passes, in the order in which a level does them; KEEP is none
TABLE, COPY, GREY, HUE, SHARPEN, ACROSS, DOWN, NEAREST, BILINEAR, BICUBIC, MIX, KEEP = range(12)
KINDS = 16
# columns of a record: slots, operation, bits of its float32 argument, numbers of the kind, the fill as 0xBBGGRR
SOURCE, TARGET, OP, ARG, NUMBERS, FILL, WIDTH = 0, 1, 2, 3, 4, 10, 11

_KEEP, _SHEAR_X, _SHEAR_Y, _TRANSLATE_X, _TRANSLATE_Y, _ROTATE = (int(Op(i)) for i in range(6))
_COLOR, _SHARPNESS, _GRAYSCALE, _BLUR, _HUE = (int(o) for o in (Op.COLOR, Op.SHARPNESS, Op.GRAYSCALE, Op.BLUR, Op.HUE))
_AUGMIX = int(Op.AUGMIX)
_BY_NEAREST, _BY_BILINEAR = int(Filter.NEAREST), int(Filter.BILINEAR)
_BOXES = 6  # of a blur: three across, three down


class Passes(NamedTuple):
    """The passes of a plan in the order in which they are done."""

    record: Int32[np.ndarray, "p 11"]
    matrix: Float64[np.ndarray, "p 6"]  # of warps that interpolate
    mixed: Int32[np.ndarray, "b c"]  # the slots of a row's chains
    runs: list[tuple[int, int, int]]  # kind, first pass, number of passes; each waits for those before
    spare: int  # slots beside the batch's and the result's, which come first


def passes(plan: AugmentPlan) -> Passes:
    """What a device has to do for a plan."""
    size, chains, b = (plan.height, plan.width), plan.chains, plan.batch_size
    none = np.zeros((b, 0, 0), np.int8), np.zeros((b, 0, 0), np.float32), np.zeros((b, 0, 0), np.int8)
    op, arg, filter = none if chains is None else (chains.op, chains.arg, chains.filter)
    colours = np.zeros((op.shape[2], 3), np.uint8)
    if chains is not None:
        colours[:] = chains.fill
    most = _most(plan.op) + b + _most(op)
    record, matrix, key = np.zeros((most, WIDTH), np.int32), np.zeros((most, 6)), np.zeros(most, np.int32)
    mixed = np.zeros((b, op.shape[1]), np.int32)
    own = _ready(plan.op, plan.arg, plan.filter, warp_matrices(plan.op, plan.arg, *size), plan.fill)
    theirs = _ready(op, arg, filter, warp_matrices(op, arg, *size), colours)
    count, spare = _list(own, theirs, record, record.view(np.float32), matrix, key, mixed)
    order = np.argsort(key[:count], kind="stable")
    keys, first, counts = np.unique(key[order], return_index=True, return_counts=True)
    runs = list(zip((keys % KINDS).tolist(), first.tolist(), counts.tolist(), strict=True))
    return Passes(record[order], matrix[order], mixed, runs, spare)


def _most(op: np.ndarray[Any, Any]) -> int:
    """Passes that operations may take."""
    return int((op != _KEEP).sum() + (_BOXES - 1) * (op == _BLUR).sum())


def _ready(*arrays: np.ndarray[Any, Any]) -> tuple[Any, ...]:
    """Another memory layout, or a read-only array, would be compiled for."""
    return tuple(np.require(x, None, ["C", "W"]) for x in arrays)


@njit(**INNER)
def _kind(op, arg, filter):
    """The kind of an operation's passes."""
    if op <= _KEEP or (op == _BLUR and not arg > 0):
        return KEEP
    if op <= _ROTATE:
        whole = op in (_TRANSLATE_X, _TRANSLATE_Y) and arg == math.floor(arg)
        return NEAREST if filter == _BY_NEAREST or whole else BILINEAR if filter == _BY_BILINEAR else BICUBIC
    if op == _SHARPNESS:
        return SHARPEN
    if op == _BLUR:
        return ACROSS
    if op == _HUE:
        return HUE
    return GREY if op in (_COLOR, _GRAYSCALE) else MIX if op == _AUGMIX else TABLE


@njit(**INNER)
def _moves(kind):
    """Whether a pass cannot work in place."""
    return SHARPEN <= kind <= BICUBIC


@njit(**INNER)
def _swaps(op, arg, filter):
    """How often an image that begins in another slot changes between two."""
    found, begun = 0, False
    for i in range(len(op)):
        kind = _kind(op[i], arg[i], filter[i])
        if kind == KEEP:
            continue
        if _moves(kind):
            found += (_BOXES if kind == ACROSS else 1) - (0 if begun else 1)
        begun = True
    return found


@njit(**INNER)
def _fix(v):
    """16 fractional bits, halves up."""
    return int32(int64(math.floor(v * 65536.0 + 0.5)))


@njit(**INNER)
def _number(out, op, arg, m, nearest):
    """What a kernel needs beside the argument: the matrix in whole numbers, the shares of a box, the steps of a hue."""
    if nearest and op in (_TRANSLATE_X, _TRANSLATE_Y):
        pixels = int32(math.floor(0.5 - arg)) << 16
        out[0], out[1], out[2] = 1 << 16, 0, pixels if op == _TRANSLATE_X else 0
        out[3], out[4], out[5] = 0, 1 << 16, pixels if op == _TRANSLATE_Y else 0
    elif nearest:
        out[0], out[1], out[2] = _fix(m[0]), _fix(m[1]), _fix(m[2] + m[0] * 0.5 + m[1] * 0.5)
        out[3], out[4], out[5] = _fix(m[3]), _fix(m[4]), _fix(m[5] + m[3] * 0.5 + m[4] * 0.5)
    elif op == _BLUR:
        radius, whole, edge = box_shares(arg)
        out[0], out[1], out[2] = int32(radius), int32(whole), int32(edge)
    elif op == _HUE:
        out[0] = int32(float64(arg) * 255.0)


@njit(**INNER)
def _extend(to, count, level, at, slots, op, arg, filter, matrix, fill):
    """Appends the passes of operations on the image in slot ``at``; returns their number so far, the next level, and where
    the image is then.

    ``slots`` are that in which a row begins, the one of its first pass, and the sum of the two between which it changes.
    """
    record, floats, matrices, key = to
    source, begin, both = slots
    for i in range(len(op)):
        kind = _kind(op[i], arg[i], filter[i])
        if kind == KEEP:
            continue
        for part in range(_BOXES if kind == ACROSS else 1):
            kind = DOWN if kind == ACROSS and part >= _BOXES // 2 else kind
            next = begin if at == source else both - at if _moves(kind) else at
            line = record[count]
            line[SOURCE], line[TARGET], line[OP], floats[count, ARG] = at, next, op[i], arg[i]
            _number(line[NUMBERS:FILL], op[i], arg[i], matrix[i], kind == NEAREST)
            line[FILL] = int32(fill[i, 0]) | int32(fill[i, 1]) << 8 | int32(fill[i, 2]) << 16
            matrices[count] = matrix[i]
            key[count] = level * KINDS + kind
            at, level, count = next, level + 1, count + 1
    return count, level, at


@njit()
def _list(own, theirs, record, floats, matrices, key, mixed):
    """Fills in the passes of all rows, and ``key``, in whose order they are done; returns their number and that of spare
    slots."""
    op, arg, filter, matrix, fill = own
    chain_op, chain_arg, chain_filter, chain_matrix, chain_fill = theirs
    b, n = op.shape
    to, count, slot = (record, floats, matrices, key), 0, 2 * b
    for row in range(b):
        middle = n
        for i in range(n):
            middle = i if op[row, i] == _AUGMIX else middle
        home, other, swaps = b + row, 0, _swaps(op[row], arg[row], filter[row])
        if swaps:
            other, slot = slot, slot + 1
        slots = (row, other if swaps % 2 else home, home + other)
        count, level, at = _extend(to, count, 0, row, slots, op[row, :middle], arg[row, :middle], filter[row, :middle],
                                   matrix[row, :middle], fill[:middle])  # fmt: skip
        if middle < n:
            last = level
            for c in range(chain_op.shape[1]):
                chain = chain_op[row, c], chain_arg[row, c], chain_filter[row, c]
                swaps, first, second = _swaps(*chain), slot, slot + 1
                slot += 2 if swaps else 1
                ways = (at, second if swaps % 2 else first, first + second)
                count, end, mixed[row, c] = _extend(to, count, level, at, ways, *chain, chain_matrix[row, c], chain_fill)
                last = max(last, end)
            next = slots[1] if at == row else at
            line = record[count]
            line[SOURCE], line[TARGET], line[OP], line[NUMBERS] = at, next, _AUGMIX, row
            key[count] = last * KINDS + MIX
            at, level, count = next, last + 1, count + 1
            count, level, at = _extend(to, count, level, at, slots, op[row, middle + 1 :], arg[row, middle + 1 :],
                                       filter[row, middle + 1 :], matrix[row, middle + 1 :], fill[middle + 1 :])  # fmt: skip
        if at == row:
            record[count, SOURCE], record[count, TARGET], key[count] = row, home, COPY
            count += 1
    return count, slot - 2 * b
