"""Figures in the README and in docs/, made from the committed results.

    python -m benchmarks.claims        writes them between the marks of the pages

What has not been measured has no row.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

Rows = Iterable[dict[str, Any]]
Figure = dict[str, Any]  # quartiles, or nothing


def _of(column: str, **row: str) -> Callable[[Rows], Figure | None]:
    """The figure in a column of the row that says ``row``."""
    return lambda rows: next((r[column] for r in rows if row.items() <= r.items() and r.get(column)), None)


def _least(column: str, **row: str) -> Callable[[Rows], Figure | None]:
    """The least figure in a column of the rows that say ``row``."""

    def find(rows: Rows) -> Figure | None:
        found = [r[column] for r in rows if row.items() <= r.items() and r.get(column)]
        return min(found, key=lambda figure: figure["median"]) if found else None  # type: ignore[no-any-return]

    return find


_LOADER = {"loader": "mixstage dali, HMix"}
_CLAIMS: dict[str, dict[str, Callable[[Rows], Figure | None]]] = {  # files: what is claimed, and where it stands
    "pipeline-loaders-*.json": {
        "images/s of the DALI loader with mixing, against torchvision `DataLoader` with `v2.RandomChoice([MixUp, CutMix])`":
            _of("x torchvision with mixing", **_LOADER),
        "images/s of the DALI loader with mixing, against the same loader without":
            _of("x same loader without mixing", **_LOADER),
        "images/s of the DALI loader with mixing, against a plain DALI pipeline without": _of("x plain DALI", **_LOADER),
        "images/s of the FFCV loader with mixing, against torchvision":
            _of("x torchvision with mixing", loader="mixstage ffcv, HMix"),
    },
    "kernels-cuda.json": {
        "bandwidth of the fused kernel, the slowest of all mixers, dtypes and layouts, against a copy of as many bytes":
            _least("share of a copy of the same bytes", path="kernel"),
        "GPU time of torchvision's `Normalize` and `v2.MixUp`, against the fused kernel with targets":
            _of("times the GPU time of mixstage", path="torchvision, with targets", mixer="MixUp"),
        "GPU time of kornia's `Normalize` and `RandomMixUpV2`, against the fused kernel with targets":
            _of("times the GPU time of mixstage", path="kornia, with targets", mixer="MixUp"),
    },
    "model-steps-cuda.json": {
        "time of a ResNet-50 step with dense MultiMix, against cross-entropy":
            _of("times the plain step", model="resnet50", step="dense: mixstage"),
    },
    "training-cuda.json": {
        "images/s of training ResNet-50 on the loader's batches with mixing, against one batch that is there":
            _of("x a batch that is there", **{"fed by": "mixstage dali, HMix"}),
    },
}  # fmt: skip


_FRONT = {  # what the first page says of each file
    "pipeline-loaders-cpu": "images/s of the DALI loader with mixing, against torchvision",
    "pipeline-loaders-cuda": "images/s of the DALI loader with mixing, against a plain DALI pipeline without",
    "kernels-cuda": ("bandwidth of the fused kernel", "GPU time of torchvision's"),
}


def claims(results: Path, link: str = "results/", front: bool = False) -> str:
    """The table as Markdown, a row for each figure that ``results`` holds; ``front``: those of the first page."""
    lines = []
    for pattern, claimed in _CLAIMS.items():
        for file in sorted(results.glob(pattern)):
            report = json.loads(file.read_text())
            machine = report["conditions"]
            on = f"{machine['CPU'] if machine['GPU'] == 'none' else machine['GPU']}, {machine['date'].split()[0]}"
            for text, find in claimed.items():
                figure = find(report["rows"])
                if figure is not None and (not front or text.startswith(_FRONT.get(file.stem, "|"))):
                    quartiles = f"{figure['median']:.2f}x ({figure['low']:.2f} to {figure['high']:.2f})"
                    lines.append(f"| {text} | {quartiles} | [{on}]({link}{file.stem}.md) |")
    return "\n".join(["| what | measured | on |", "|---|---|---|", *lines]) if lines else ""


def cifar(results: Path, name: str = "cifar10-cpu", seeds: int = 1) -> str:
    """What came out on CIFAR on two processors: accuracy, what it is beside no mixing, calibration and cost by method.

    Of the methods that were trained with so many seeds.
    """
    file = results / f"{name}.json"
    if not file.exists():
        return ""
    lines = ["| method | top-1, % | beside none | ECE, % | step, x | seeds |", "|---|---|---|---|---|---|"]
    for row in (row for row in json.loads(file.read_text())["rows"] if len(row["seeds"]) >= seeds):
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
    "README.md": {"claims": partial(claims, link="benchmarks/results/", front=True)},
    "benchmarks/README.md": {"claims": claims},
    "docs/evidence.md": {"cifar": cifar, "cifar few": partial(cifar, name="cifar10-few-cpu")},
    "docs/choosing-a-mixer.md": {"cifar": partial(cifar, seeds=3)},
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
