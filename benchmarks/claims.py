"""Figures in the README and in docs/, made from the committed results.

    python -m benchmarks.claims        writes them between the marks of the pages

What has not been measured has no row.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_COMPARED = {  # row and column of pipeline-loaders-*.json: what is claimed
    ("mixstage dali, HMix", "x torchvision with mixing"): "images/s of the DALI loader with mixing, against torchvision "
    "`DataLoader` with `v2.RandomChoice([MixUp, CutMix])`",
    ("mixstage dali, HMix", "x same loader without mixing"): "images/s of the DALI loader with mixing, against the same "
    "loader without",
    (
        "mixstage dali, HMix",
        "x plain DALI",
    ): "images/s of the DALI loader with mixing, against a plain DALI pipeline without",
    ("mixstage ffcv, HMix", "x torchvision with mixing"): "images/s of the FFCV loader with mixing, against torchvision",
}


def claims(results: Path) -> str:
    """The table as Markdown, a row for each figure that ``results`` holds."""
    lines = []
    for file in sorted(results.glob("pipeline-loaders-*.json")):
        report = json.loads(file.read_text())
        rows = {row["loader"]: row for row in report["rows"]}
        machine = report["conditions"]
        on = f"{machine['CPU'] if machine['GPU'] == 'none' else machine['GPU']}, {machine['date'].split()[0]}"
        for (name, column), text in _COMPARED.items():
            figure: dict[str, Any] | None = rows.get(name, {}).get(column)
            if figure is not None:
                quartiles = f"{figure['median']:.2f}x ({figure['low']:.2f} to {figure['high']:.2f})"
                lines.append(f"| {text} | {quartiles} | [{on}](benchmarks/results/{file.stem}.md) |")
    return "\n".join(["| what | measured | on |", "|---|---|---|", *lines]) if lines else ""


def cifar(results: Path) -> str:
    """What came out on CIFAR on two processors: accuracy, what it is beside no mixing, calibration and cost by method."""
    file = results / "cifar10-cpu.json"
    if not file.exists():
        return ""
    lines = ["| method | top-1, % | beside none | ECE, % | step, x | seeds |", "|---|---|---|---|---|---|"]
    for row in json.loads(file.read_text())["rows"]:
        shown = [_spread(row["top-1"]), _spread(row.get("top-1, beside the baseline"), sign=True), _spread(row["ECE"])]
        cost = "" if row["step"] is None else f"{row['step']:.2f}"
        lines.append(f"| {row['method']} | {' | '.join(shown)} | {cost} | {len(row['seeds'])} |")
    return "\n".join(lines)


def _spread(value: dict[str, Any] | None, sign: bool = False) -> str:
    """Mean and standard deviation."""
    if value is None:
        return ""
    mean = f"{value['mean']:{'+' if sign else ''}.1f}"
    return mean if value["deviation"] is None else f"{mean} ± {value['deviation']:.1f}"


PLACES: dict[str, dict[str, Callable[[Path], str]]] = {
    "README.md": {"claims": claims},
    "docs/evidence.md": {"cifar": cifar},
    "docs/choosing-a-mixer.md": {"cifar": cifar},
}
"""What stands between which marks of which pages."""


def filled(page: str, text: str, results: Path) -> str:
    """The text of a page with its figures as they are in ``results``."""
    for mark, make in PLACES[page].items():
        start, end = f"<!-- {mark} -->", f"<!-- /{mark} -->"
        before, _, rest = text.partition(start)
        text = f"{before}{start}\n{make(results)}\n{end}{rest.partition(end)[2]}"
    return text


def main() -> None:
    """Writes the figures into the pages."""
    root = Path(__file__).parents[1]
    for page in PLACES:
        text = (root / page).read_text()
        (root / page).write_text(filled(page, text, root / "benchmarks" / "results"))


if __name__ == "__main__":
    main()
