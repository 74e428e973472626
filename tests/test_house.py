"""The house: files and functions of a size that can be read, and folders that say what belongs in them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = ("mixops", "pipelines", "loaders")
MODULES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))
FILE, FUNCTION = 300, 60  # lines; kernels are exempt: a kernel cannot be cut at will


def is_kernel(path: Path) -> bool:
    """Whether numba or Triton compiles what is in a file."""
    return "kernels" in path.relative_to(ROOT).parts or path.name in ("resize_kernel.py", "cuda.py")


def long_functions(source: str, most: int) -> list[str]:
    """The functions with more than ``most`` lines, their signature and docstring not counted."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            body = node.body[1:] if ast.get_docstring(node) is not None else node.body
            if body and (node.end_lineno or 0) - body[0].lineno + 1 > most:
                found.append(node.name)
    return found


def test_files_are_short() -> None:
    assert len(MODULES) > 100
    lines = {path: len(path.read_text().splitlines()) for path in MODULES if not is_kernel(path)}
    assert {str(path.relative_to(ROOT)): n for path, n in lines.items() if n > FILE} == {}


def test_functions_are_short() -> None:
    found = {path: long_functions(path.read_text(), FUNCTION) for path in MODULES if not is_kernel(path)}
    assert {str(path.relative_to(ROOT)): names for path, names in found.items() if names} == {}


def test_a_long_function_is_found() -> None:
    source = "def f():\n    '''Docs.\n\n    More.\n    '''\n" + "    x = 1\n" * 3
    assert long_functions(source, 3) == []
    assert long_functions(source, 2) == ["f"]


@pytest.mark.parametrize("path", [p for p in MODULES if p.name == "__init__.py"], ids=lambda p: str(p.relative_to(ROOT)))
def test_a_folder_says_what_belongs_in_it(path: Path) -> None:
    docs = ast.get_docstring(ast.parse(path.read_text())) or ""
    sentences = [part for part in docs.replace("\n", " ").split(". ") if part.strip()]
    assert len(sentences) >= 2, docs
