"""The planted faults are still where they are planted, and the tests that must notice them exist."""

from __future__ import annotations

import ast
from collections import Counter
from pathlib import Path

from support.faults import FAULTS

ROOT = Path(__file__).parents[1]


def test_every_fault_has_its_place() -> None:
    assert {fault.name: count for fault in FAULTS if (count := (ROOT / fault.file).read_text().count(fault.old)) != 1} == {}


def test_names_are_their_own() -> None:
    assert [name for name, count in Counter(fault.name for fault in FAULTS).items() if count > 1] == []


def test_the_tests_that_must_notice_exist() -> None:
    for name in sorted({name for fault in FAULTS for name in fault.tests}):
        file, _, function = name.partition("::")
        path = ROOT / "tests" / file
        assert path.is_file(), name
        functions = {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}
        assert not function or function in functions, name


def test_every_package_is_planted_in() -> None:
    planted = Counter(fault.file.split("/")[0] for fault in FAULTS)
    assert planted["mixops"] >= 60 and planted["pipelines"] >= 25 and planted["loaders"] >= 25
