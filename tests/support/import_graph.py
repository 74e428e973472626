"""Who imports whom, module by module, read from the source: also inside functions and under ``TYPE_CHECKING``.

An import that only a type checker or a call runs is a dependence like any other: the two modules cannot be read, moved or
tested apart. Only names written as text and handed to ``importlib`` are not seen.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Graph = dict[str, set[str]]  # module -> the modules that it imports


def module_files(root: Path, packages: Iterable[str]) -> dict[str, Path]:
    """The modules of the packages under ``root`` by their dotted names; a package is its ``__init__``."""
    found = {}
    for package in packages:
        for file in sorted((root / package).rglob("*.py")):
            parts = file.relative_to(root).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return found


def imported_names(source: str, module: str, *, is_package: bool = False) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Each import of a module, anywhere in it: the absolute name of what is imported from, and the names taken from it."""
    for node in ast.walk(ast.parse(source, module)):
        if isinstance(node, ast.Import):
            yield from ((alias.name, ()) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parts = module.split(".")
                parts = parts[: len(parts) - node.level + (1 if is_package else 0)]
                base = ".".join([*parts, base] if base else parts)
            yield base, tuple(alias.name for alias in node.names)


def import_graph(root: Path, packages: Iterable[str]) -> Graph:
    """The graph of the packages: ``from a import b`` is an edge to ``a.b`` where that is a module, else to ``a``."""
    files = module_files(root, packages)
    graph: Graph = {}
    for module, file in files.items():
        graph[module] = set()
        for base, names in imported_names(file.read_text(), module, is_package=file.name == "__init__.py"):
            targets = {f"{base}.{name}" if f"{base}.{name}" in files else base for name in names} or {base}
            graph[module] |= {target for target in targets if target in files and target != module}
    return graph


def circles(graph: Mapping[str, set[str]]) -> set[frozenset[str]]:
    """The sets of modules that import one another, one circle of each."""
    left, found = {module: set(targets) for module, targets in graph.items()}, set()
    while True:
        try:
            TopologicalSorter(left).prepare()
            return found
        except CycleError as error:  # noqa: PERF203 - one circle is found at a time
            circle = error.args[1][:-1]
            found.add(frozenset(circle))
            for module in circle:  # the next circle must have a module outside of this one
                left[module] -= set(circle)
