"""Compiled code is not used for sources that have changed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
CALLER = """
from mixops.runtime.jit import INNER, njit
from inner.numbers import value
@njit()
def twice(x):
    return value(x) * 2
print(twice(1), len(twice.stats.cache_hits))
"""


def run(folder: Path, kernels: Path) -> list[str]:
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}:{folder}", "NUMBA_CACHE_DIR": str(kernels)}
    command = [sys.executable, "-c", "import inner.caller"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.split()


@pytest.mark.nightly
def test_who_calls_a_changed_kernel_of_another_file_is_compiled_anew(tmp_path: Path) -> None:
    package = tmp_path / "inner"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "caller.py").write_text(CALLER)
    value = "from mixops.runtime.jit import INNER, njit\n@njit(**INNER)\ndef value(x):\n    return x + {}\n"
    (package / "numbers.py").write_text(value.format(10))
    kernels = tmp_path / "kernels"
    assert run(tmp_path, kernels) == ["22", "0"]
    assert run(tmp_path, kernels) == ["22", "1"]  # kept
    (package / "numbers.py").write_text(value.format(20))
    assert run(tmp_path, kernels) == ["42", "0"]
