"""How everything here is timed and told: alternated rounds, medians with quartiles, the machine, one table in four forms.

A shared or throttled machine drifts by more than the differences one looks for. So all contestants run in every round, in
an order that turns from round to round, and are compared by the ratio to a reference *of the same round*; what is reported
is the median of these ratios and their quartiles.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from functools import partial
from importlib import metadata
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from jaxtyping import Float64
from rich.console import Console

from mixstage import __version__

from ..figures import console_for, print_table, write_json

T = TypeVar("T")
Seconds = Mapping[str, Float64[np.ndarray, " rounds"]]


class Quartiles(NamedTuple):
    """The median of some figures and the quartiles about it."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{_short(self.median)} ({_short(self.low)} to {_short(self.high)})"


def alternate(
    cases: Mapping[str, Callable[[], object]],
    *,
    rounds: int = 7,
    at_least: float = 0.0,
    warmup: int = 1,
    synchronize: Callable[[], object] | None = None,
    describe: str = "measuring",
) -> dict[str, Float64[np.ndarray, " rounds"]]:
    """Seconds of one call of each case in each round.

    A case is called often enough that one measurement takes ``at_least`` seconds. ``synchronize`` is called before the
    clock is read, where calls only enqueue work. Shows progress on stderr.
    """

    def timed(call: Callable[[], object]) -> Callable[[], float]:
        for _ in range(max(warmup, 1) + 1):  # the first call compiles; the last says how many calls fill a measurement
            taken = clock(call, 1, synchronize)
        return partial(clock, call, max(1, ceil(at_least / max(taken, 1e-9))), synchronize)

    return take_turns({name: partial(timed, call) for name, call in cases.items()}, rounds=rounds, describe=describe)


def take_turns(
    cases: Mapping[str, Callable[[], Callable[[], float]]], *, rounds: int, describe: str
) -> dict[str, Float64[np.ndarray, " rounds"]]:
    """What the measurement of each case returns in each round; a case first makes its measurement. Shows progress."""
    return last(turns(cases, rounds=rounds, describe=describe))


def turns(
    cases: Mapping[str, Callable[[], Callable[[], float]]], *, rounds: int, describe: str, seconds: float | None = None
) -> Iterator[dict[str, Float64[np.ndarray, " rounds"]]]:
    """``take_turns`` as far as it has come, after each round, so that who is cut off has something.

    After ``seconds``, what comes before the first round included, no round begins but the first.
    """
    from rich.progress import Progress

    if rounds < 1 or not cases:
        raise ValueError(f"rounds and cases must not be empty, got {rounds} rounds of {len(cases)} cases")
    ends = time.monotonic() + (float("inf") if seconds is None else seconds)
    measured: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(describe, total=(rounds + 1) * len(names))
        ready = {}
        for name in names:
            ready[name] = cases[name]()
            progress.advance(task)
        for turn in range(rounds):
            if turn and time.monotonic() > ends:
                return
            first = turn % len(names)
            for name in names[first:] + names[:first]:
                measured[name].append(ready[name]())
                progress.advance(task)
            yield {name: np.array(values) for name, values in measured.items()}


def last(values: Iterable[T]) -> T:
    """The last of ``values``, which must not be empty."""
    (value,) = deque(values, maxlen=1)
    return value


def quartiles(values: Float64[np.ndarray, " rounds"]) -> Quartiles:
    """Median, lower and upper quartile."""
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    return Quartiles(float(median), float(low), float(high))


def relative(seconds: Seconds, name: str, unit: str) -> Quartiles:
    """How many times the seconds of ``unit`` the case ``name`` took, round by round."""
    return quartiles(seconds[name] / seconds[unit])


def rate(seconds: Seconds, name: str, amount: float) -> Quartiles:
    """``amount`` per second, where one call of ``name`` does that amount."""
    return quartiles(amount / seconds[name])


def conditions(packages: Sequence[str] = ()) -> dict[str, str]:
    """Date, machine, threads, GPU and versions: what has to be known to read a figure."""
    import torch

    told = {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _output("git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--exclude=*"),
        "CPU": f"{_cpu()}, {os.cpu_count()} cores",
        "torch threads": str(torch.get_num_threads()),
        "load before": f"{os.getloadavg()[0]:.2f}",
        "system": platform.platform(),
        "Python": platform.python_version(),
    }
    if torch.cuda.is_available():
        driver = _output("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "--id=0")
        told["GPU"] = f"{torch.cuda.get_device_name()}, driver {driver}, CUDA {torch.version.cuda}"
    else:
        told["GPU"] = "none"
    return {**told, **{package: _version(package) for package in ("mixstage", "torch", "numpy", *packages)}}


@dataclass(frozen=True)
class Report:
    """One table of figures: ``rows`` under ``columns``; a cell is text, a number, ``Quartiles``, or None where it is empty.

    ``notes`` are sentences under the table: what the unit is, why cells are empty, who lost.
    """

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    conditions: Mapping[str, str]
    notes: Sequence[str] = ()

    def markdown(self) -> str:
        """The report as a Markdown page."""
        lines = [" | ".join(_cell(cell) for cell in row) for row in self.rows]
        table = [" | ".join(self.columns), " | ".join("---" for _ in self.columns), *lines]
        machine = [f"- {name}: {value}" for name, value in self.conditions.items()]
        return "\n".join([
            f"# {self.title}", "", *[f"| {line} |" for line in table], "", *[f"{note}\n" for note in self.notes],
            "## Conditions", "", *machine, "",
        ])  # fmt: skip

    def json(self) -> str:
        """The report as JSON; quartiles are {median, low, high}."""
        return json.dumps(self.figures(), indent=1)

    def figures(self) -> dict[str, Any]:
        """The report as JSON values."""
        return {**asdict(self), "rows": [dict(zip(self.columns, map(_plain, row), strict=True)) for row in self.rows]}

    def show(self, console: Console | None = None) -> None:
        """Prints the table, by default to standard output."""
        console = console or Console()
        print_table(console, self.columns, [[_cell(cell) for cell in row] for row in self.rows], self.title)
        for note in self.notes:
            console.print(note, markup=False, highlight=False)

    def tell(self, json_file: Path | None) -> None:
        """Prints the table, and writes the figures where ``json_file`` says."""
        self.show(console_for(json_file))
        write_json(json_file, self.figures())

    def chart(self, path: Path, column: str, *, label: str = "", marker: float | None = None) -> None:
        """A bar chart of one column as PNG, a bar a row that has a figure, a whisker the quartiles, a line at ``marker``."""
        try:
            import matplotlib
        except ImportError as error:
            raise ImportError("a chart needs matplotlib: pip install 'mixstage[bench]'") from error
        matplotlib.use("Agg")
        from matplotlib import pyplot

        at = list(self.columns).index(column)
        rows = [row for row in self.rows if row[at] is not None]
        values = [row[at] if isinstance(row[at], Quartiles) else Quartiles(row[at], row[at], row[at]) for row in rows]
        names = ["  ".join(str(cell) for cell in row[:at] if isinstance(cell, str)) for row in rows]
        figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.28 * len(rows)), layout="constrained")
        spread = np.array([[v.median - v.low, v.high - v.median] for v in values]).T if values else None
        axes.barh(names, [v.median for v in values], xerr=spread, color="#4878a8", ecolor="#303030")
        if marker is not None:
            axes.axvline(marker, color="#b03030", linewidth=1)
        axes.invert_yaxis()
        axes.set(title=self.title, xlabel=label or column)
        figure.savefig(path, dpi=110)
        pyplot.close(figure)

    def save(self, directory: Path, stem: str) -> None:
        """Writes ``stem``.md and ``stem``.json into ``directory``."""
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"{stem}.md").write_text(self.markdown())
        (directory / f"{stem}.json").write_text(self.json() + "\n")


def clock(function: Callable[[], object], calls: int, synchronize: Callable[[], object] | None) -> float:
    """Seconds of one of ``calls`` calls; ``synchronize`` is called before the clock is read."""
    if synchronize is not None:
        synchronize()
    began = time.perf_counter()
    for _ in range(calls):
        function()
    if synchronize is not None:
        synchronize()
    return (time.perf_counter() - began) / calls


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _cell(cell: Any) -> str:
    if cell is None:
        return "—"
    return _short(cell) if isinstance(cell, float) else str(cell)


def _plain(cell: Any) -> Any:
    return cell._asdict() if isinstance(cell, Quartiles) else cell


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return f"{__version__}, from source" if package == "mixstage" else "not installed"


def _cpu() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor() or platform.machine()


def _output(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "unknown"
