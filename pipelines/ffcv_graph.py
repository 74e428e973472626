"""What a ``MixLoader`` changes in the graph of stages that FFCV builds: their order, their memory, their compiled code.

FFCV walks sets of nodes, so that label stages run before or behind image stages by chance; a matching needs the images
first. FFCV compiles every stage anew in every process (13 s for decode, crop and flip on two cores); numba can keep most of
that code, but FFCV does not ask it to.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.graph import Graph, Node
from numba.core.dispatcher import Dispatcher

from mixops.kernels.jit import njit

from .ffcv_memory import slot_memory
from .ffcv_stages import MixImage, MixLabel

_compiled: dict[tuple[Any, ...] | None, list[Any]] = {}  # None: all that have a closure


def ordered_stages(graph: Graph) -> list[list[int]]:
    """The nodes in the order they run in: groups, compiled and not in turn, all images mixed before any label."""
    images = {node for node in graph.nodes if isinstance(operation(node), MixImage)}
    waiting: list[Node] = list(graph.root_nodes)
    placed: set[Node] = set()
    stages: list[list[int]] = []
    while waiting:
        compiled = len(stages) % 2 == 0
        stage: list[int] = []
        while ready := [
            node
            for node in waiting
            if node.is_jitted in (None, compiled) and (images <= placed or not isinstance(operation(node), MixLabel))
        ]:
            for node in ready:
                waiting.remove(node)
                waiting.extend(graph.adjacency_list[node])
                placed.add(node)
                stage.append(node.id)
        stages.append(stage)
    return stages


def allocate(graph: Graph, batch_size: int, slots: int) -> dict[str, dict[int, Any]]:
    """Memory for the stages of an epoch, in FFCV's form."""
    queries, _ = graph.collect_requirements()
    return {
        kind: {node: slot_memory(query, batch_size, slots) for node, query in nodes.items()}
        for kind, nodes in queries.items()
    }


def operation(node: Node) -> Any:
    """The stage of a node, None for decoders and references."""
    return getattr(node, "operation", None)


def pipeline_of(node: Node) -> list[Any]:
    """The stages whose result a node hands on, first to last."""
    stages: list[Any] = []
    step: Node | None = node
    while step is not None:
        if operation(step) is not None:
            stages.insert(0, operation(step))
        step = step.parent
    return stages


@contextmanager
def compiled_code_kept() -> Iterator[None]:
    """While this lasts, what FFCV compiles stays in memory, and of FFCV's own stages on disk for the next process.

    In memory, since numba raises a ``KeyError`` where compiled code is garbage-collected in a cycle, as in a loader.
    Functions without a closure are compiled once a process.
    """
    plain = Compiler.__dict__["compile"]

    def compile_and_keep(cls: type[Compiler], code: Callable[..., Any], signature: Any = None) -> Any:
        if not cls.is_enabled:
            return code
        parallel = getattr(code, "is_parallel", False) and cls.num_threads > 1
        known = None if code.__closure__ else (code, signature, parallel)
        if known is not None and known in _compiled:
            return _compiled[known][0]
        if _can_be_kept(code):
            function = njit(signature_or_function=signature, fastmath=True, parallel=parallel)(code)
        else:
            function = plain.__get__(None, cls)(code, signature)
        _compiled.setdefault(known, []).append(function)
        return function

    Compiler.compile = classmethod(compile_and_keep)
    try:
        yield
    finally:
        Compiler.compile = plain


def _can_be_kept(code: Callable[..., Any]) -> bool:
    """Only FFCV's own code, for numba looks at the date of one file and would miss changes in what a user's stage calls.

    Code with C pointers cannot be kept, and code that closes over other compiled code would be kept once a process.
    """
    if not code.__module__.startswith("ffcv.") or code.__module__ == "ffcv.libffcv":
        return False
    return not any(isinstance(cell.cell_contents, Dispatcher) for cell in code.__closure__ or ())
