"""The table of the papers on CIFAR: methods x seeds, trained where they are not yet, measured, and set beside the baseline.

    python -m examples.cifar.table cifar10 --unknown cifar100 --out results --jobs 2

The folders have train/ and test/ with a folder a class. Each finished run is one small file in ``out``, so a table that was
cut off goes on where it was, inside a run too, and comes out the same. Runs with one seed share the net that they begin
with, the order of images, the windows and flips: a difference from the baseline is taken seed by seed.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import statistics
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn
from rich.table import Table

from mixstage.loaders.bench.measure import Report, conditions

from .data import load
from .methods import Method, find
from .scores import scores
from .train import Settings, train

BASELINE = "none"
FOR_K = "mixup"
"""Its checkpoints stay: figures draw the gradients of multi-mix from them."""


def run_file(out: Path, method: str, seed: int) -> Path:
    """Where the figures of a run are."""
    name = "".join(c if c.isalnum() else "-" for c in method.lower()).strip("-")
    return out / "runs" / f"{name}.{seed}.json"


def run(name: str, seed: int, settings: Settings, data: Path, unknown: Path | None, out: Path) -> str:
    """Trains and measures one method with one seed, in a process and thread of its own; returns what it is."""
    if settings.device == "cpu":
        torch.set_num_threads(1)
    method, device = find(name)[0], torch.device(settings.device)
    images, test = load(data, "train", out), load(data, "test", out)
    others = None if unknown is None else load(unknown, "test", out)
    file = run_file(out, name, seed)
    checkpoint = file.with_suffix(".pt")
    trained = train(method, seed, settings, images, test, checkpoint)
    figures, bins = scores(trained.net, test, others, device)
    found = {
        "method": name, "seed": seed, "settings": asdict(settings), "scores": figures,
        "losses": trained.losses, "accuracies": trained.accuracies, "reliability": bins,
    }  # fmt: skip
    partial = file.with_suffix(".part")
    partial.write_text(json.dumps(found, indent=1) + "\n")
    os.replace(partial, file)
    if name != FOR_K:
        checkpoint.unlink()
    return f"{name}, seed {seed}"


def finished(out: Path, methods: Sequence[Method], seeds: Sequence[int], settings: Settings) -> dict[str, dict[int, Any]]:
    """The runs that are there, by method and seed. Raises ``ValueError`` for one of other settings."""
    found: dict[str, dict[int, Any]] = {}
    for method in methods:
        for seed in seeds:
            if (file := run_file(out, method.name, seed)).exists():
                one = json.loads(file.read_text())
                if one["settings"] != asdict(settings):
                    raise ValueError(f"out must hold runs of these settings, got {one['settings']} in {file}")
                found.setdefault(method.name, {})[seed] = one
    return found


def summary(found: dict[str, dict[int, Any]]) -> list[dict[str, Any]]:
    """A row a method: mean and standard deviation of each figure, and of its difference from the baseline's, over seeds."""
    rows = []
    for name, runs in found.items():
        row: dict[str, Any] = {"method": name, "seeds": sorted(runs)}
        for key in next(iter(runs.values()))["scores"]:
            row[key] = _spread([one["scores"][key] for one in runs.values()])
            pairs = [one["scores"][key] - found[BASELINE][seed]["scores"][key] for seed, one in runs.items()
                     if seed in found.get(BASELINE, {})]  # fmt: skip
            if pairs and name != BASELINE:
                row[f"{key}, beside the baseline"] = _spread(pairs)
        rows.append(row)
    return rows


def _spread(values: list[float]) -> dict[str, float | None]:
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "deviation": deviation}


def as_text(value: dict[str, Any] | None, digits: int = 1, sign: bool = False) -> str:
    """ "70.1 ± .3", or only the mean of one seed."""
    if value is None:
        return ""
    mean = f"{value['mean']:{'+' if sign else ''}.{digits}f}"
    return mean if value["deviation"] is None else f"{mean} ± {value['deviation']:.{digits}f}"


COLUMNS = ("top-1", "ECE", "NLL", "error, FGSM", "error, PGD", "AUROC", "error, noise", "alignment", "uniformity")
_DIGITS = {"NLL": 3, "alignment": 3, "uniformity": 2}


def cells(row: dict[str, Any]) -> list[str]:
    """A row as text: the columns, top-1 beside the baseline after the first, and the time of a step last."""
    shown = [as_text(row.get(name), _DIGITS.get(name, 1)) for name in COLUMNS]
    beside = as_text(row.get("top-1, beside the baseline"), sign=True)
    time = "" if row["step"] is None else f"{row['step']:.2f}"
    return [row["method"], str(len(row["seeds"])), shown[0], beside, *shown[1:], time]


HEAD = ["method", "seeds", "top-1, %", "beside none", "ECE, %", "NLL", "error FGSM, %", "error PGD, %", "AUROC, %",
        "error noise, %", "alignment", "uniformity", "step, x"]  # fmt: skip


def write(out: Path, name: str, found: dict[str, dict[int, Any]], settings: Settings) -> list[list[str]]:
    """Writes NAME.json and NAME.md into ``out``; returns the table's cells."""
    times = out / "step-times.json"
    step = json.loads(times.read_text())["ratio"] if times.exists() else {}
    rows = [{**row, "step": step.get(row["method"])} for row in summary(found)]
    where = conditions(("nvidia-dali-cuda130", "numba"))
    record = {"title": f"Methods on {name}", "settings": asdict(settings), "rows": rows, "conditions": where}
    (out / f"{name}.json").write_text(json.dumps(record, indent=1) + "\n")
    table = [cells(row) for row in rows]
    notes = [
        "Mean and standard deviation over seeds, of the last epoch's net; nothing was chosen by the test images. FGSM "
        "is of 8/255 and PGD of ten steps of 2/255 within 4/255, on every 20th test image; noise is Gaussian, 0.1 of the "
        "pixels' range; ECE has ten bins; AUROC tells the test images from those of other classes by the top softmax. The "
        "last column is the time of a training step over the baseline's.",
        "Settings: " + ", ".join(f"{key} {value}" for key, value in asdict(settings).items()) + ".",
    ]
    (out / f"{name}.md").write_text(Report(record["title"], HEAD, table, where, notes).markdown())
    return table


def main(
    data: Annotated[Path, typer.Argument(help="A folder with train/ and test/.", exists=True, file_okay=False)],
    unknown: Annotated[Path | None, typer.Option(help="Another such folder, of other classes.", exists=True)] = None,
    out: Annotated[Path, typer.Option(help="Folder for the runs and the table.")] = Path("cifar"),
    methods: Annotated[str, typer.Option(help='Names parted by ";", or all.')] = "all",
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    epochs: int = Settings.epochs,
    network: Annotated[str, typer.Option(help="small or preact18.")] = Settings.network,
    per_class: Annotated[int, typer.Option(help="Training images a class; 0 for all.")] = 1000,
    device: str = Settings.device,
    jobs: Annotated[int, typer.Option(min=1, help="Runs at the same time; on the CPU each takes one core.")] = 1,
) -> None:
    """Trains what is missing and prints the table."""
    settings = Settings(network, epochs, per_class=per_class or None, device=device)
    chosen, all_seeds = find(methods), range(seeds)
    (out / "runs").mkdir(parents=True, exist_ok=True)
    done = finished(out, chosen, all_seeds, settings)
    missing = [(method.name, seed) for seed in all_seeds for method in chosen if seed not in done.get(method.name, {})]
    for folder, part in ((data, "train"), (data, "test"), *(() if unknown is None else ((unknown, "test"),))):
        load(folder, part, out)  # decoded once, not by every process
    columns = (*Progress.get_default_columns(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("runs", total=len(missing))
        with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn"), max_tasks_per_child=1) as pool:
            running = [pool.submit(run, name, seed, settings, data, unknown, out) for name, seed in missing]
            for future in as_completed(running):
                progress.update(task, advance=1, description=future.result())
    found = finished(out, chosen, all_seeds, settings)
    shown = Table(*HEAD)
    for row in write(out, data.absolute().name, found, settings):
        shown.add_row(*row)
    Console(width=None if Console().is_terminal else 200).print(shown)


if __name__ == "__main__":
    typer.run(main)
