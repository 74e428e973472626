"""The ImageNet example as modules of a test: its script's folder is on the path, as it is when the script runs."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import typer
from typer.testing import CliRunner

FOLDER = Path(__file__).parents[2] / "examples" / "imagenet"
SCRIPT = FOLDER / "train.py"
RECIPES = sorted(path.stem for path in (FOLDER / "recipes").glob("*.ini"))
SMALL = ["--device", "cpu", "--no-amp", "--no-compile", "--warmup-epochs", "0.5", "--log-every", "3"]


def module(name: str) -> ModuleType:
    """A module of the example."""
    if str(FOLDER) not in sys.path:
        sys.path.append(str(FOLDER))
    return importlib.import_module(name)


def invoke(*options: str) -> str:
    """Runs train.py with options; what it prints. Its exceptions are raised."""
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(module("train").main)
    result = CliRunner().invoke(app, options)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def read(name: str, *options: str) -> Any:
    """The recipe that train.py makes of a file of ``recipes/``, or of a path, and further options."""
    seen: list[Any] = []
    app = typer.Typer(pretty_exceptions_enable=False)

    def main(**given: Any) -> None:
        seen.append(module("recipe").Recipe(**given))

    main.__signature__ = module("train").main.__signature__  # type: ignore[attr-defined]
    app.command()(main)
    result = CliRunner().invoke(app, ["--train", "train", "--val", "val", "--config", name, *options])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return seen[0]
