"""The loaders with some of the processors, each number of them in a process of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .measure import Quartiles, Report
from .peers import Setting
from .pipeline_table import table


def measure_cores(setting: Setting, rounds: int) -> Report:
    """The loaders with 1, 2, 4, ... processors, each number in a process of its own."""
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < setting.cores] + [setting.cores]
    rows: list[list[Any]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "figures.json")
            options = ["--batch-size", str(setting.batch_size), "--size", str(setting.size), "--rounds", str(rounds)]
            options += ["--part", "loaders", "--device", setting.device, "--json", str(file), "--cores", str(count)]
            if run_with_cores(count, ["", str(setting.folder), *options]):
                raise RuntimeError(f"the measurement with {count} processors failed")
            for row in json.loads(file.read_text())[0]["rows"]:
                figure = Quartiles(**row["images/s"])
                rows.append([row["loader"], str(count), figure, Quartiles(*(value / count for value in figure))])
    rows.sort(key=lambda row: row[0])
    notes = ["Each number of processors was measured in a process of its own; within it the rounds alternate."]
    return table("Loaders alone over processors", setting, ["loader", "processors", "images/s", "a processor"], rows, notes)


def run_with_cores(count: int, arguments: list[str]) -> int:
    """Runs ``mixstage bench pipeline`` in a process that has ``count`` processors; returns its exit code.

    Raises ``ValueError`` where the system binds no process to processors.
    """
    if not hasattr(os, "sched_setaffinity"):
        raise ValueError(f"cores must be 0 on {sys.platform}, where no process is bound to processors, got {count}")
    mine = sorted(os.sched_getaffinity(0))[:count]
    code = "import typer; from loaders.bench.pipeline import pipeline; typer.run(pipeline)"
    rest = [word for word in arguments[1:] if word not in ("bench", "pipeline")]
    command = [sys.executable, "-c", code, *rest]
    return subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, mine), check=False).returncode
