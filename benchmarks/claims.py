"""The table of claims in the README, made from the committed results.

    python -m benchmarks.claims        writes it between the two marks of README.md

A claim that has not been measured has no row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

START, END = "<!-- claims -->", "<!-- /claims -->"
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


def main() -> None:
    """Writes the table into the README."""
    root = Path(__file__).parents[1]
    readme = root / "README.md"
    before, _, rest = readme.read_text().partition(START)
    _, _, after = rest.partition(END)
    readme.write_text(f"{before}{START}\n{claims(root / 'benchmarks' / 'results')}\n{END}{after}")


if __name__ == "__main__":
    main()
