"""Where an array lies, for compiled code that reads and writes by addresses.

numba frees an array after its last use, and taking its address is no use: whoever passes on an address holds the array.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic


@intrinsic
def address(_: Any, array: Any) -> Any:
    """Where the memory of an array begins."""

    def generate(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, builder, args[0]).data
        return builder.ptrtoint(data, ir.IntType(64))

    return types.intp(array), generate
