"""Planted faults, each of which the default tests must catch: ``python -m tests.support.mutants`` (``make mutants``).

A fault is one replacement in the source of a copy of the repository; the tests it names are run there and have to fail. A
fault whose text is no longer in the source is an error, so that the list cannot rot. Exits with 1 if a fault survives.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from .faults import FAULTS, Fault

ROOT = Path(__file__).parents[2]
COPIED = ("mixstage", "mixops", "pipelines", "loaders", "tests", "examples", "docs", "pyproject.toml")


def copy(source: Path, to: Path) -> None:
    """What the tests need, in the place of what is there."""
    shutil.rmtree(to, ignore_errors=True)
    to.mkdir()
    for name in COPIED:
        if (source / name).is_dir():
            shutil.copytree(source / name, to / name, symlinks=True)
        else:
            shutil.copy2(source / name, to / name)


def run_tests(root: Path, tests: tuple[str, ...], kernels: Path, limit: float) -> tuple[bool, str]:
    """Whether the tests pass in the copy, and the first that did not; ``kernels`` keeps what numba compiles."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-n", "0", "-p", "no:cacheprovider", "--no-header", "--tb=no"]
    environment = {
        **os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1", "NUMBA_CACHE_DIR": str(kernels),
    }  # fmt: skip
    try:
        done = subprocess.run(
            [*command, *[f"tests/{name}" for name in tests]], cwd=root, env=environment, capture_output=True, text=True,
            timeout=limit,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return False, f"no end within {limit:.0f} s"
    if done.returncode not in (0, 1):  # 1: tests failed; all else is not a test's verdict
        first = next((line for line in done.stdout.splitlines() if line.startswith("ERROR")), "")
        if not first:
            raise RuntimeError(f"pytest ended with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        return False, first
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    return done.returncode == 0, failed[0].split(" - ")[0] if failed else ""


class Copies:
    """Copies in folders that are used again: numba knows a kernel by its path, and compiles it once for each folder.

    A fault in a file with kernels compiles into a folder of its own, which nobody else sees. All are copies of what is there
    now, so that the work can go on meanwhile.
    """

    def __init__(self, folder: Path, jobs: int, limit: float) -> None:
        self._kernels, self._limit, self._original = folder / "kernels", limit, folder / "original"
        copy(ROOT, self._original)
        self._free: SimpleQueue[Path] = SimpleQueue()
        for job in range(jobs):
            self._free.put(folder / str(job))

    def attempt(self, fault: Fault | None, tests: tuple[str, ...]) -> tuple[bool, str, float]:
        """Whether ``tests`` pass with a fault planted, or with none; the first that fails, and seconds."""
        began = time.monotonic()
        root = self._free.get()
        try:
            copy(self._original, root)
            kernels = self._kernels
            if fault is not None:
                fault.plant(root)
                if "njit" in (root / fault.file).read_text():
                    kernels = root / "kernels"
            passed, first = run_tests(root, tests, kernels, self._limit)
        finally:
            self._free.put(root)
        return passed, first, time.monotonic() - began


def main(
    only: Annotated[str, typer.Option(help="Plant the faults whose names or files contain this.")] = "",
    jobs: Annotated[int, typer.Option(min=1, help="Copies that run side by side.")] = os.cpu_count() or 1,
    limit: Annotated[float, typer.Option(help="Seconds that the tests may take in one copy.")] = 900.0,
) -> None:
    """Plants faults one by one and says which test caught each."""
    console = Console()
    chosen = [fault for fault in FAULTS if only in fault.name or only in fault.file]
    cases: list[Fault | None] = [None, *chosen]
    all_tests = tuple(dict.fromkeys(name for fault in chosen for name in fault.tests))
    with (
        tempfile.TemporaryDirectory(prefix="mutants-") as folder,
        Progress(console=console, transient=True) as progress,
        ThreadPoolExecutor(jobs) as pool,
    ):
        copies = Copies(Path(folder), jobs, limit)
        task = progress.add_task("planting faults", total=len(cases))

        def try_one(fault: Fault | None) -> tuple[bool, str, float]:
            result = copies.attempt(fault, all_tests if fault is None else fault.tests)
            progress.advance(task)
            return result

        results = list(pool.map(try_one, cases))
    table = Table("fault", "file", "caught by", "seconds")
    survivors = []
    for fault, (passed, first, seconds) in zip(cases, results, strict=True):
        if fault is None:
            table.add_row("none", "", f"[red]{first}" if not passed else "nothing, as it must", f"{seconds:.0f}")
        else:
            table.add_row(
                fault.name, fault.file, "[red]survived" if passed else first.removeprefix("FAILED "), f"{seconds:.0f}"
            )
            survivors += [fault.name] if passed else []
    console.print(table)
    if not results[0][0]:
        console.print("the tests fail without any fault: the verdicts above mean nothing")
        raise typer.Exit(2)
    console.print(f"{len(chosen) - len(survivors)} of {len(chosen)} faults caught")
    if survivors or not chosen:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
