"""``python -m benchmarks.device``: the parts, most valuable first, each in a process of its own."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer


class Part(str, Enum):
    """The parts, in the order of what they are worth."""

    RIGHT = "right"
    KERNELS = "kernels"
    SEVERAL = "several"
    MODEL = "model"
    LOADER = "loader"
    TUNING = "tuning"
    TRAINING = "training"


_GRACE = 30.0  # seconds beyond its time after which a part is ended


def device(
    parts: Annotated[list[Part] | None, typer.Argument(help="By default all, in this order.")] = None,
    save: Annotated[Path, typer.Option(help="Folder for the tables, as Markdown and JSON.")] = Path("device-results"),
    images: Annotated[
        Path | None, typer.Option(help="Photographs: class folders, or a tar of them; synthetic without.")
    ] = None,
    seconds: Annotated[float, typer.Option(min=1, help="How long a part may take.")] = 200.0,
    tiny: Annotated[bool, typer.Option(help="A trial on the CPU, without a device: figures mean nothing.")] = False,
    commit: Annotated[str, typer.Option(help="What is measured, where the checkout has no history to ask.")] = "",
) -> None:
    """Test and measure on this machine's CUDA device; what is measured is written as it comes."""
    if tiny:
        os.environ["TRITON_INTERPRET"] = "1"  # kernels are interpreted if this is said before they are imported
    chosen = parts or list(Part)
    if len(chosen) > 1:
        options = ["--save", str(save), "--seconds", str(seconds), "--commit", commit, *(["--tiny"] if tiny else [])]
        options += [] if images is None else ["--images", str(images)]
        raise typer.Exit(_each(chosen, options, seconds + _GRACE))
    _run(chosen[0], save, images, seconds, tiny, commit)


def _each(parts: list[Part], options: list[str], seconds: float) -> int:
    """Runs this command once a part, each for ``seconds`` at most; returns 1 if one of them failed."""
    failed = []
    for part in parts:
        began = time.monotonic()
        command = [sys.executable, "-m", "benchmarks.device", part.value, *options]
        try:
            code = subprocess.run(command, timeout=seconds, check=False).returncode
        except subprocess.TimeoutExpired:
            code = -1
        how = "done" if code == 0 else "out of time" if code == -1 else f"failed with {code}"
        typer.echo(f"{part.value}: {how}, {time.monotonic() - began:.0f} s")
        failed += [part.value] if code else []
    return int(bool(failed))


def _run(part: Part, save: Path, images: Path | None, seconds: float, tiny: bool, commit: str) -> None:
    from .run import Run

    module = importlib.import_module(f".{part.value}", __package__)
    reports = {}
    with tempfile.TemporaryDirectory() as scratch:
        for stem, report in module.reports(Run(save, Path(scratch), images, seconds, tiny)):
            report = replace(report, conditions={**report.conditions, **({"commit": commit} if commit else {})})
            report.save(save, f"{stem}-tiny" if tiny else stem)
            reports[stem] = report
    for report in reports.values():
        report.show()


if __name__ == "__main__":
    typer.run(device)
