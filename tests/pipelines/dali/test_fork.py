"""A child forked while DALI's pipelines run ends as it wants to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.images import make_jpeg_folder

pytest.importorskip("nvidia.dali")

CODE = """
import os, sys
from loaders import ImageLoader
loader = ImageLoader(sys.argv[1], batch_size=8, size=24, device="cpu", num_threads=2)
batches = iter(loader)
next(batches)
if not (child := os.fork()):
    sys.exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), sum(1 for _ in batches))
"""


@pytest.mark.nightly
def test_a_child_ends_with_its_own_status_and_the_parent_goes_on(tmp_path: Path) -> None:
    command = [sys.executable, "-c", CODE, str(make_jpeg_folder(tmp_path / "data", 40))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7 4\n", "")
