"""The CPU kernels read and write within their arrays, whatever a plan says that the checks let pass."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[2]


@pytest.mark.nightly
def test_kernels_under_bounds_checks(tmp_path: Path) -> None:
    environment = {
        **os.environ, "NUMBA_BOUNDSCHECK": "1", "NUMBA_CACHE_DIR": str(tmp_path),
        "PYTHONPATH": f"{TESTS.parent}{os.pathsep}{TESTS}",
    }  # fmt: skip
    command = [sys.executable, str(TESTS / "support" / "bounds.py")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    assert int(done.stdout or 0) > 500, "bounds are not checked"
