"""Importing stays light, imports point down, and the three packages are one installation."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("mixops", "pipelines", "loaders")  # a package may import itself and what stands before it
BACKENDS = ("nvidia.dali", "ffcv", "torchvision", "numba", "triton", "matplotlib", "kornia", "timm", "webdataset", "sklearn")


def loaded_by(statement: str) -> list[str]:
    """The backends that running ``statement`` in a fresh interpreter loads."""
    code = f"import sys\n{statement}\nprint(*[m for m in {BACKENDS!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.parametrize("statement", [*(f"import {name}" for name in LAYERS), "from mixstage import HMix, ImageLoader"])
def test_importing_a_package_loads_no_backend(statement: str) -> None:
    assert loaded_by(statement) == []


def test_importing_the_one_name_loads_nothing() -> None:
    code = "import sys, mixstage; print(*{'mixops', 'loaders', 'numpy', 'torch'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def test_that_test_can_fail() -> None:
    assert loaded_by("import mixops, numba") == ["numba"]


def upward_imports(source: str, package: str, name: str) -> list[str]:
    """The absolute imports in a module of ``package`` that point upwards."""
    allowed = LAYERS[: LAYERS.index(package) + 1]
    found = []
    for node in ast.walk(ast.parse(source, name)):
        modules = []
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            modules = [node.module or ""]
        tops = {module.split(".")[0] for module in modules}
        found += [
            f"{name}: {top}" for top in tops if top in (*LAYERS, "tests", "examples", "benchmarks") and top not in allowed
        ]
    return found


def test_imports_point_down() -> None:
    files = [(package, path) for package in LAYERS for path in (ROOT / package).rglob("*.py")]
    assert len(files) > 20
    found = [wrong for package, path in files for wrong in upward_imports(path.read_text(), package, path.name)]
    assert found == []


def test_an_upward_import_is_found() -> None:
    assert upward_imports("from loaders.schedule import Schedule", "mixops", "x.py") == ["x.py: loaders"]
    assert upward_imports("import mixops, tests.images", "loaders", "x.py") == ["x.py: tests"]


def test_the_packages_come_from_one_place() -> None:
    import loaders
    import mixops
    import pipelines

    assert len({Path(module.__file__).parents[1] for module in (loaders, mixops, pipelines)}) == 1
