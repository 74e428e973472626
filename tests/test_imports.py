"""Importing stays light, imports point down, and the three packages are one installation."""

import json
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from support.import_graph import circles, import_graph, imported_names, module_files

ROOT = Path(__file__).parents[1]
LAYERS = ("mixops", "pipelines", "loaders")  # a package may import itself and what stands before it
BACKENDS = ("nvidia.dali", "ffcv", "torchvision", "numba", "triton", "matplotlib", "kornia", "timm", "webdataset", "sklearn")


# each statement in a child of one interpreter, which all would have to import torch
FORKED = """
import json, os, sys
import torch
backends, *statements = json.loads(sys.argv[1])
assert not {*backends} & {*sys.modules}
for statement in statements:
    if not (child := os.fork()):
        exec(statement)
        print(json.dumps([statement, [m for m in backends if m in sys.modules]]), flush=True)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
"""


def loaded_by(*statements: str) -> dict[str, list[str]]:
    """The backends that each statement loads, in an interpreter that has loaded torch and nothing else."""
    command = [sys.executable, "-c", FORKED, json.dumps([BACKENDS, *statements])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return dict(map(json.loads, done.stdout.splitlines()))


def test_importing_a_package_loads_no_backend() -> None:
    statements = [*(f"import {name}" for name in LAYERS), "from mixstage import HMix, ImageLoader", "import mixops, numba"]
    assert loaded_by(*statements) == {s: ["numba"] if "numba" in s else [] for s in statements}


def test_importing_the_one_name_loads_nothing() -> None:
    code = "import sys, mixstage; print(*{'mixops', 'loaders', 'numpy', 'torch'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ""


def upward_imports(module: str, targets: Iterable[str]) -> list[str]:
    """The imports of a module that point upwards: to a package that stands after its own, or to what uses the packages."""
    package = module.split(".")[0]
    above = {*LAYERS[LAYERS.index(package) + 1 :], "tests", "support", "examples", "benchmarks"}
    return [f"{module} -> {target}" for target in targets if target.split(".")[0] in above]


def test_examples_run_beside_an_ordinary_installation() -> None:
    """Which holds one package: ``loaders`` alone is importable in a checkout only."""
    files = sorted((ROOT / "examples").rglob("*.py"))
    assert len(files) > 20
    for file in files:
        imported = {base.split(".")[0] for base, _ in imported_names(file.read_text(), file.stem, is_package=False)}
        assert not imported & set(LAYERS), file


def test_imports_point_down() -> None:
    files = module_files(ROOT, LAYERS)
    assert len(files) > 100
    found: list[str] = []
    for module, file in files.items():
        imports = imported_names(file.read_text(), module, is_package=file.name == "__init__.py")
        found += upward_imports(module, (base for base, _ in imports))
    assert found == []


def test_an_upward_import_is_found() -> None:
    source = "def f():\n    from loaders.schedule import Schedule\n    import mixops, tests.images"
    targets = [base for base, _ in imported_names(source, "pipelines.dali.x")]
    assert upward_imports("pipelines.dali.x", targets) == [
        "pipelines.dali.x -> loaders.schedule",
        "pipelines.dali.x -> tests.images",
    ]
    assert upward_imports("loaders.x", targets) == ["loaders.x -> tests.images"]


def test_no_two_modules_import_one_another() -> None:
    assert circles(import_graph(ROOT, LAYERS)) == set()


PLANTED = {
    "one/__init__.py": "from .a import f",
    "one/a.py": "from . import b\ndef f():\n    from .deep.c import g",
    "one/b.py": "import two.d",
    "one/deep/__init__.py": "",
    "one/deep/c.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..a import f",
    "two/__init__.py": "",
    "two/d.py": "import two.e",
    "two/e.py": "def f():\n    from . import d",
}


def test_circles_are_found(tmp_path: Path) -> None:
    """One through a function and TYPE_CHECKING, one through ``from . import``; a chain is none."""
    for name, source in PLANTED.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(source)
    graph = import_graph(tmp_path, ("one", "two"))
    assert graph["one"] == {"one.a"} and graph["one.a"] == {"one.b", "one.deep.c"} and graph["one.deep.c"] == {"one.a"}
    assert graph["one.b"] == {"two.d"}
    assert circles(graph) == {frozenset({"one.a", "one.deep.c"}), frozenset({"two.d", "two.e"})}


def test_the_packages_come_from_one_place() -> None:
    import loaders
    import mixops
    import pipelines

    assert len({Path(module.__file__).parents[1] for module in (loaders, mixops, pipelines)}) == 1
