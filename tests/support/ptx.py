"""Executes compiled Triton kernels without a GPU: the PTX, one instruction after the other, for all threads at once.

Registers are NumPy arrays with one element a thread, memory is one array of bytes, and an access to bytes that nobody has
allocated is an error. Threads go the same way and share no memory in the kernels that this is for, so the order among them
does not matter; where their programs part, each is run ``alone``. Rounding is that of a device but for ``fma``, which rounds
twice, and ``ex2``, which is exact here.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

WIDTHS = {"%rd": np.uint64, "%rs": np.uint16, "%r": np.uint32, "%p": np.bool_}
KINDS = {"f": "f", "s": "i", "u": "u", "b": "u"}


class Memory:
    """Tensors at addresses, with room between them that belongs to none."""

    def __init__(self, tensors: list[torch.Tensor]) -> None:
        self.tensors = tensors
        self.raw = [_bytes(x) for x in tensors]
        sizes = [-(-len(raw) // 256) * 256 + 256 for raw in self.raw]
        self.address = np.cumsum([256, *sizes])[:-1]
        self.cells = np.zeros(256 + sum(sizes), np.uint8)
        self.owned = np.zeros(len(self.cells), np.bool_)
        for start, raw in zip(self.address, self.raw, strict=True):
            self.cells[start : start + len(raw)], self.owned[start : start + len(raw)] = raw, True

    def at(self, address: np.ndarray, size: int) -> np.ndarray:
        """Cells (threads, size), all of them owned."""
        cells = address.astype(np.int64)[:, None] + np.arange(size)
        assert (cells >= 0).all() and (cells < len(self.cells)).all() and self.owned[cells].all(), "outside all tensors"
        assert (address % size == 0).all(), "not aligned"
        return cells

    def write_back(self) -> None:
        """Copies what the kernel wrote into the tensors."""
        for start, raw in zip(self.address, self.raw, strict=True):
            raw[:] = self.cells[start : start + len(raw)]


def _bytes(x: torch.Tensor) -> np.ndarray:
    return x.as_strided((x.numel(),), (1,)).view(torch.uint8).numpy()  # dense in memory, in whatever order


class Threads:
    """The registers of all threads of a grid."""

    def __init__(
        self, grid: tuple[int, ...], threads: int, arguments: list[int], memory: Memory, program: int | None = None
    ) -> None:
        z, y, x, t = (i.reshape(-1) for i in np.indices((*grid[::-1], threads)))
        some = slice(None) if program is None else slice(program * threads, (program + 1) * threads)
        places = (i[some] for i in (x, y, z, t))
        self.special = dict(zip(("%ctaid.x", "%ctaid.y", "%ctaid.z", "%tid.x"), places, strict=True))
        t = self.special["%tid.x"]
        self.special |= {f"%nctaid.{axis}": np.full(len(t), n) for axis, n in zip("xyz", grid, strict=True)}
        self.count, self.arguments, self.memory = len(t), arguments, memory
        self.registers: dict[str, np.ndarray] = {}

    def read(self, name: str, dtype: Any) -> np.ndarray:
        """A register's or a constant's value for each thread; the lower half of a register if ``dtype`` is narrower."""
        dtype = np.dtype(dtype)
        if name in self.special:
            return self.special[name].astype(dtype)
        if name.startswith("%"):
            held = self.registers[name]
            if held.dtype.itemsize > dtype.itemsize:
                held = held.astype(f"u{dtype.itemsize}")
            return held.view(dtype)
        if name.startswith(("0f", "0d")):
            return np.full(self.count, int(name[2:], 16), np.uint32 if name[1] == "f" else np.uint64).view(dtype)
        bits = 8 * dtype.itemsize
        return np.full(self.count, int(name.rstrip("U"), 0) % 2**bits, f"u{dtype.itemsize}").view(dtype)

    def write(self, name: str, value: np.ndarray, where: np.ndarray | None = None) -> None:
        """Sets a register, in some threads or in all; a narrower value is extended by zeros."""
        width = WIDTHS[re.match(r"%[a-z]+", name)[0]]  # type: ignore[index]
        if value.dtype != np.bool_:
            value = value.view(f"u{value.dtype.itemsize}").astype(width)
        self.registers[name] = value if where is None else np.where(where, value, self.registers[name])


def execute(
    ptx: str, grid: tuple[int, ...], threads: int, arguments: list[int], memory: Memory, *, alone: bool = False
) -> None:
    """Runs a kernel; ``arguments`` are numbers and the addresses of tensors, in order."""
    grid = (*grid, 1, 1)[:3]
    for program in range(int(np.prod(grid))) if alone else (None,):
        _run(ptx, Threads(grid, threads, arguments, memory, program))
    memory.write_back()


def _run(ptx: str, state: Threads) -> None:
    body = re.sub(r"//[^\n]*", "", ptx[ptx.index("{") : ptx.rindex("ret;")])
    lines = [line.strip() for line in re.split(r"[;\n]", body)]
    labels = {line[:-1]: i for i, line in enumerate(lines) if line.endswith(":")}
    at = 0
    with np.errstate(all="ignore"):  # threads that store nothing may compute anything
        while at < len(lines):
            found = re.fullmatch(r"(?:@(!?)(%p\d+)\s+)?([a-z][\w.]*)\s+(.+)", lines[at])
            at += 1
            if found:
                where = None if found[2] is None else state.registers[found[2]] ^ (found[1] == "!")
                if found[3].startswith("bar"):
                    pass  # threads run side by side
                elif found[3].startswith("bra"):
                    assert where is None or where.all() or not where.any(), "threads part"
                    at = labels[found[4]] if where is None or where.all() else at
                else:
                    _step(state, found[3], re.findall(r"\{[^}]*\}|\[[^\]]*\]|[^\s,{}]+", found[4]), where)


def _step(state: Threads, opcode: str, operands: list[str], where: np.ndarray | None) -> None:
    name, *modifiers = opcode.split(".")
    if name in ("ld", "st"):
        _access(state, name, modifiers, operands, where)
        return
    assert where is None, opcode
    if name == "mov" and "{" in "".join(operands):
        _repack(state, int(modifiers[0][1:]) // 8, *operands)
        return
    target, *sources = operands
    kind = modifiers[-1]
    if name == "cvt":
        state.write(target, _convert(state, modifiers, sources))
        return
    if kind.endswith("16x2"):  # two lanes of a register
        lanes = [np.ascontiguousarray(state.read(s, np.uint32)).view(f"{KINDS[kind[0]]}2") for s in sources]
        state.write(target, INSTRUCTIONS[".".join([name, *modifiers[:-1]])](*lanes).view(np.uint32))
        return
    dtype = np.bool_ if kind == "pred" else np.dtype(f"{KINDS[kind[0]]}{int(kind[1:]) // 8}")
    if name in ("shl", "shr", "selp", "bfe"):
        types = {"shl": [dtype, np.uint32], "shr": [dtype, np.uint32], "selp": [dtype, dtype, np.bool_]}
        values = [state.read(*pair) for pair in zip(sources, types.get(name, [dtype, np.uint32, np.uint32]), strict=True)]
    elif name == "mad" and modifiers[0] == "wide":
        wide = f"{dtype.kind}{2 * dtype.itemsize}"  # type: ignore[union-attr]
        values = [*(state.read(s, dtype) for s in sources[:2]), state.read(sources[2], wide)]
    else:
        values = [state.read(s, dtype) for s in sources]
    state.write(target, INSTRUCTIONS[".".join([name, *modifiers[:-1]])](*values))


def _repack(state: Threads, size: int, target: str, source: str) -> None:
    """Takes a register apart, or puts one together, lowest part first."""
    parts = (target if "{" in target else source).strip("{} ").replace(" ", "").split(",")
    width = size // len(parts)
    if "{" in target:
        whole = np.ascontiguousarray(state.read(source, f"u{size}")).view(f"u{width}").reshape(-1, len(parts))
        for part, value in zip(parts, whole.T, strict=True):
            if part != "_":
                state.write(part, np.ascontiguousarray(value))
    else:
        values = np.stack([state.read(part, f"u{width}") for part in parts], 1)
        state.write(target, np.ascontiguousarray(values).view(f"u{size}")[:, 0])


def _access(state: Threads, name: str, modifiers: list[str], operands: list[str], where: np.ndarray | None) -> None:
    target, source = operands if name == "ld" else operands[::-1]
    registers = target.strip("{} ").replace(" ", "").split(",")
    place = source.strip("[] ")
    size = int(modifiers[-1][1:]) // 8
    if modifiers[0] == "param":
        value = np.full(state.count, state.arguments[int(place.rsplit("_", 1)[1])]).astype(f"u{size}")
        state.write(registers[0], value)
        return
    base, *offset = re.split(r"\s*\+\s*", place)
    active = np.ones(state.count, np.bool_) if where is None else where
    address = state.read(base, np.uint64)[active] + np.uint64(int(offset[0]) if offset else 0)
    cells = state.memory.at(address, size * len(registers)).reshape(-1, len(registers), size)
    for i, register in enumerate(registers):
        if name == "ld":
            value = np.zeros(state.count, f"u{size}")
            value[active] = state.memory.cells[cells[:, i]].view(f"u{size}")[:, 0]
            state.write(register, value, where)
        else:
            value = state.read(register, f"u{size}")[active]
            state.memory.cells[cells[:, i]] = np.ascontiguousarray(value)[:, None].view(np.uint8)


def _convert(state: Threads, modifiers: list[str], sources: list[str]) -> np.ndarray:
    to, of = modifiers[-2:]
    values = [state.read(s, f"{KINDS[of[0]]}{int(of[1:]) // 8}") for s in sources]
    if to == "f16x2":
        high, low = (v.astype(np.float16).view(np.uint16).astype(np.uint32) for v in values)
        return high << 16 | low
    if to == "bf16x2":
        high, low = (_bfloat16(v).astype(np.uint32) for v in values)
        return high << 16 | low
    if to == "bf16":
        return _bfloat16(values[0])
    whole = {"rmi": np.floor, "rpi": np.ceil, "rni": np.rint}.get(modifiers[0])
    value = values[0] if whole is None else whole(values[0])
    return value.astype(f"{KINDS[to[0]]}{int(to[1:]) // 8}")


def _bfloat16(x: np.ndarray) -> np.ndarray:
    bits = x.view(np.uint32)
    return ((bits + (np.uint32(0x7FFF) + (bits >> 16 & 1))) >> 16).astype(np.uint16)


def _wide(x: np.ndarray) -> np.ndarray:
    return x.astype(f"{x.dtype.kind}{2 * x.dtype.itemsize}")


def _fma(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return (a.astype(np.float64) * b + c).astype(np.float32)


def _prmt(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    pool = b.astype(np.uint64) << 32 | a
    found = np.zeros_like(a)
    for i in range(4):
        nibble = selector >> 4 * i & 15
        assert (nibble < 8).all(), "the sign of a byte"
        found |= ((pool >> (8 * nibble).astype(np.uint64) & 255) << 8 * i).astype(np.uint32)
    return found


def _bits_of(x: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """Bits ``position`` to ``position + length``, the highest of them the sign of a signed number."""
    left = (32 - position - length).astype(x.dtype)
    return x << left >> (32 - length).astype(x.dtype)


def _shift(x: np.ndarray, by: np.ndarray, operator: Callable[..., np.ndarray]) -> np.ndarray:
    assert (by < 8 * x.dtype.itemsize).all()
    return operator(x, by.astype(x.dtype))


INSTRUCTIONS: dict[str, Callable[..., np.ndarray]] = {
    "mov": lambda a: a,
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "mul.lo": np.multiply,
    "mad.lo": lambda a, b, c: a * b + c,
    "mul.wide": lambda a, b: _wide(a) * _wide(b),
    "mad.wide": lambda a, b, c: _wide(a) * _wide(b) + c,
    "mul.hi": lambda a, b: (_wide(a) * _wide(b) >> 8 * a.dtype.itemsize).astype(a.dtype),
    "div": lambda a, b: np.trunc(a.astype(np.float64) / b).astype(a.dtype),
    "rem": lambda a, b: np.fmod(a, b),
    "add.rn": np.add, "sub.rn": np.subtract, "mul.rn": np.multiply, "div.rn": np.divide, "neg": np.negative,
    "fma.rn": _fma, "min": np.minimum, "max": np.maximum,
    "ex2.approx.ftz": np.exp2, "ex2.approx": np.exp2,
    "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor, "not": np.bitwise_not,
    "shl": lambda a, b: _shift(a, b, np.left_shift), "shr": lambda a, b: _shift(a, b, np.right_shift),
    "bfe": _bits_of, "prmt": _prmt,
    "selp": lambda a, b, p: np.where(p, a, b),
    "setp.eq": np.equal, "setp.ne": np.not_equal, "setp.neu": np.not_equal, "setp.lt": np.less, "setp.le": np.less_equal,
    "setp.gt": np.greater, "setp.ge": np.greater_equal,
}  # fmt: skip
