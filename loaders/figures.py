"""Where a command's figures go: a table for people, JSON for programs.

A figure that is cut off is a wrong figure. So the columns of a table that hold figures are as wide as these, the words of
the others wrap, and where that is still too wide for the terminal each row becomes lines of its own.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

Json = Annotated[
    Path | None,
    typer.Option("--json", help="Write the figures to this file; - is standard output, which then holds nothing else."),
]
_STDOUT = Path("-")
_FIGURE = re.compile(r"[-+]?\d[\d,.e+-]*%?( \(.*\))?$")
_EMPTY = ("", "—")
_WORDS = 16  # the least width of a column of words
_FRAME = 3  # what a column adds to its width: a line and a space on either side


def console_for(json_file: Path | None) -> Console:
    """The console for people: standard output, or the error stream where standard output is for JSON."""
    return Console(stderr=json_file == _STDOUT)


def write_json(json_file: Path | None, figures: object) -> None:
    """Writes ``figures`` as JSON to a file, with its folders, or for ``-`` to standard output; nothing for None."""
    if json_file is None:
        return
    text = json.dumps(figures, indent=2)
    if json_file == _STDOUT:
        typer.echo(text)
        return
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(text + "\n")


def check_output(name: str, file: Path | None) -> None:
    """Makes the folder of a file that is written at the end of the work; ``ValueError`` if it could not be written then."""
    if file is not None:
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.is_dir() or not os.access(file.parent, os.W_OK):
            raise ValueError(f"{name} must be a file that can be written, got {str(file)!r}")


def print_table(console: Console, columns: Sequence[str], rows: Sequence[Sequence[str | Text]], title: str = "") -> None:
    """Prints rows of text under ``columns``, so that no figure is cut at any width of the terminal."""
    cells = [[cell if isinstance(cell, Text) else Text(cell) for cell in row] for row in rows]
    widths = [_figure_width(column, [row[i] for row in cells]) for i, column in enumerate(columns)]
    least = (_least_width(column, [row[i] for row in cells]) for i, column in enumerate(columns))
    needed = sum(width or low for width, low in zip(widths, least, strict=True)) + _FRAME * len(columns) + 1
    if needed > console.width:
        _print_lines(console, columns, cells, [width is not None for width in widths], title)
        return
    table = Table(title=Text(title, "italic") if title else None, title_justify="left")
    for column, width in zip(columns, widths, strict=True):
        table.add_column(column, width=width, justify="left" if width is None else "right", overflow="fold")
    for row in cells:
        table.add_row(*row)
    console.print(table)


def _figure_width(column: str, cells: Sequence[Text]) -> int | None:
    """The width of a column of figures, None for one of words."""
    figures = [cell.plain for cell in cells if cell.plain not in _EMPTY]
    if not figures or not all(_FIGURE.match(figure) for figure in figures):
        return None
    return max(map(len, [*figures, *column.split()]))


def _least_width(column: str, cells: Sequence[Text]) -> int:
    return min(_WORDS, max(len(column), *[cell.cell_len for cell in cells])) if cells else len(column)


def _print_lines(
    console: Console, columns: Sequence[str], rows: Sequence[Sequence[Text]], figures: Sequence[bool], title: str
) -> None:
    if title:
        console.print(Text(title, "italic"))
    width = max(len(column) for column in columns)
    for row in rows:
        words = [cell for cell, figure in zip(row, figures, strict=True) if not figure and cell.plain not in _EMPTY]
        console.print(Text(", ").join(words))
        for column, cell, figure in zip(columns, row, figures, strict=True):
            if figure and cell.plain not in _EMPTY:
                console.print(Text(f"  {column:{width}}  ").append(cell), soft_wrap=True)
