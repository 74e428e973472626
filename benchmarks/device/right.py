"""The tests that need a device, in one pytest of as many processes as there is room for.

What passed is counted as it is said. The whole output lies in ``tests-gpu.log`` beside the table, and why a test failed is
there as soon as it has.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from loaders.bench.measure import Report, conditions
from loaders.processors import usable_processors

from .run import Reports, Run

ROOT = Path(__file__).parents[2]
_WITHOUT = ["-p", "no:cacheprovider", "-p", "no:benchmark"]  # which warns of processes side by side
COMMAND = ["-m", "pytest", "-v", "-m", "gpu", "-p", "benchmarks.device.failures", *_WITHOUT]
_OUTCOMES = r"(?P<outcome>PASSED|FAILED|ERROR|SKIPPED)"
_TEST = r"(?P<file>tests/\S+?\.py)::(?P<test>.+?)"
_LINES = (  # of processes side by side, and of one alone; the summary at the end repeats what these say
    re.compile(rf"\[gw\d+\] \[ *\d+%\] {_OUTCOMES} {_TEST}\s*$"),
    re.compile(rf"{_TEST} {_OUTCOMES}(?: \(.*)? +\[ *\d+%\]\s*$"),
)
_MOST = 12  # processes, each of which has a context on the device
_EVERY = 10.0  # seconds between tables


def files() -> list[Path]:
    """The files with tests that are marked."""
    return sorted(path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.gpu" in path.read_text())


def reports(run: Run) -> Reports:
    """A row a file: how many tests passed, failed, were skipped."""
    chosen = [ROOT / "tests/mixops/kernels/test_blend_cuda.py"] if run.tiny else files()
    processes = 0 if run.tiny else min(_MOST, usable_processors())
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    command = [sys.executable, *COMMAND, *(["-n", str(processes)] if find_spec("xdist") else [])]
    told = conditions(("triton", "nvidia-dali-cuda130", "pytest"))
    outcomes: Counter[tuple[str, str]] = Counter()
    failed: list[str] = []
    run.save.mkdir(parents=True, exist_ok=True)
    began = shown = time.monotonic()
    with (run.save / "tests-gpu.log").open("w", buffering=1) as log, subprocess.Popen(
        [*command, *map(str, chosen)], cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as tests:  # fmt: skip
        out_of_time = threading.Timer(run.left(), tests.terminate)
        out_of_time.start()
        for line in tests.stdout or ():
            log.write(line)
            said = next((match for pattern in _LINES if (match := pattern.match(line))), None)
            if said is None:
                continue
            outcomes[said["file"], said["outcome"].lower()] += 1
            if said["outcome"] in ("FAILED", "ERROR"):
                failed.append(f"{said['file']}::{said['test']}")
            if time.monotonic() - shown > _EVERY:
                shown = time.monotonic()
                yield "tests-gpu", _table(outcomes, failed, f"running, {shown - began:.0f} s", told)
        code = tests.wait()
        out_of_time.cancel()
    yield "tests-gpu", _table(outcomes, failed, f"pytest ended with {code} after {time.monotonic() - began:.0f} s", told)


def _table(outcomes: Counter[tuple[str, str]], failed: list[str], how: str, told: dict[str, str]) -> Report:
    rows: list[list[Any]] = [
        [file, outcomes[file, "passed"], outcomes[file, "failed"] + outcomes[file, "error"], outcomes[file, "skipped"]]
        for file in sorted({file for file, _ in outcomes})
    ]
    notes = [f"{how[0].upper()}{how[1:]}.", *(f"Failed: {name}" for name in failed)]
    return Report("Tests on a device", ("file", "passed", "failed", "skipped"), rows, told, notes)
