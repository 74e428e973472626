"""A long run of everything that goes wrong, each batch compared bit for bit with an undisturbed run.

    python -m tests.support.soak --minutes 10

Each trial draws a backend, a mixer, a world size, a rank, a policy and a data set with or without bad files, then runs its
epochs with interruptions at random batches (``soak_moments``): break, exception, interrupt (a signal at any time), close,
set_epoch, forks, garbage collection, storage that goes and comes back, reads that fail for a time. The state is then loaded
into a new loader with other threads and another prefetch depth. Now and then processes are killed.
Memory, threads and descriptors are sampled after each trial. Results go to benchmarks/results.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from loaders import ImageLoader
from loaders.cli.convert import convert
from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, RandomErasing, Switch, TrivialAugmentWide

sys.path.insert(0, str(Path(__file__).parents[1]))  # the tests are no package
from support.images import DAMAGE, damage, make_folder, make_jpeg_folder
from support.soak_moments import WAYS, digest, some_batches

from loaders.processors import usable_processors

EPOCHS = 2
SETTLE = 5.0  # seconds that joined threads may take to go
MIXERS = (
    None, MixUp(), CutMix(), HMix(r=0.5), GMix(interpolations=3), Switch([MixUp(0.8), CutMix()]),
    MixUp(matching=OptimalMatching(k=2)),
)  # fmt: skip


@dataclass
class Data:
    """A data set in the form that a backend reads, with damage or without."""

    backend: str
    root: Path
    damaged: bool = False


@dataclass
class Tally:
    """What was done and seen."""

    trials: int = 0
    batches: int = 0
    differences: list[str] = field(default_factory=list)
    faults: Counter[str] = field(default_factory=Counter)
    backends: Counter[str] = field(default_factory=Counter)
    worlds: Counter[int] = field(default_factory=Counter)
    samples: list[tuple[float, int, int, int]] = field(default_factory=list)  # seconds, memory, threads, descriptors


def remains(loader: ImageLoader) -> bool:
    state = loader.state_dict()
    return state["epoch"] * len(loader) + state["step"] < EPOCHS * len(loader)


def run_trial(rng: random.Random, data: Data, tally: Tally) -> None:
    world = rng.choice((1, 2, 3))
    options: dict[str, Any] = {
        "backend": data.backend, "rank": rng.randrange(world), "world_size": world, "batch_size": rng.choice((8, 12)),
        "size": rng.choice((16, 24)), "mixer": rng.choice(MIXERS), "drop_last": rng.random() < 0.5,
        "seed": rng.randrange(1000), "device": "cpu", "on_error": "skip", "max_bad": 1000,
        "augment": rng.choice((None, TrivialAugmentWide(), ["rand-m9-mstd0.5-inc1", RandomErasing(value="pixel")])),
        "vertical_flip": rng.choice((0.0, 0.5)),
    }  # fmt: skip

    def new() -> ImageLoader:
        return ImageLoader(data.root, num_threads=rng.choice((1, 2, 3)), prefetch=rng.choice((1, 2, 4)), **options)

    expected = []
    with new() as loader:
        while remains(loader):
            expected += [digest(batch) for batch in loader]
        tally.faults["bad file"] += loader.stats().bad_files
    got: list[str] = []
    state = None
    while len(got) < len(expected):
        loader = new()
        if state is not None:
            loader.load_state_dict(json.loads(json.dumps(state)))
            tally.faults["resume"] += 1
        how = rng.choice(WAYS)
        count = rng.randint(1, max(2, len(expected) // 2))
        more, state = some_batches(loader, data.root, count, how, lambda state: int(state["epoch"]))
        tally.faults[how] += 1
        got += more
        if how != "dropped":
            loader.close()
        del loader
    for i, (one, two) in enumerate(zip(got, expected, strict=True)):
        if one != two:
            tally.differences.append(f"{data} {options} batch {i}: {one} instead of {two}")
    tally.trials += 1
    tally.batches += len(expected)
    tally.backends[data.backend] += 1
    tally.worlds[world] += 1


def make_data(rng: random.Random, folder: Path, backends: list[str]) -> list[Data]:
    """Clean and damaged sets for each backend; files are damaged after they were indexed, or before."""
    sets = []
    clean = make_jpeg_folder(folder / "clean", 101)
    awkward = make_folder(folder / "awkward", 85)
    for backend in backends:
        if backend == "ffcv":
            convert(clean, folder / "clean.beton", num_threads=2)
            sets.append(Data(backend, folder / "clean.beton"))
            broken = folder / "broken.beton"
            shutil.copy(folder / "clean.beton", broken)
            content = bytearray(broken.read_bytes())
            spots = [len(content) // 2 + 997 * i for i in range(5)]
            for spot in spots:
                content[spot % len(content)] ^= 0xFF
            broken.write_bytes(content)
            sets.append(Data(backend, broken, damaged=True))
            continue
        sets += [Data(backend, clean), Data(backend, awkward)]
        for indexed_first in (True, False):
            root = folder / f"{backend} {'later' if indexed_first else 'before'}"
            shutil.copytree(clean, root)
            if indexed_first:
                ImageLoader(root, backend=backend, batch_size=1, device="cpu")
            paths = sorted(root.rglob("*.jpg"))
            kinds = [kind for kind in DAMAGE if kind not in ("missing", "folder")]  # the listing would change
            for path in rng.sample(paths, 11):
                before = path.stat()
                damage(path, kinds[0])
                kinds = kinds[1:] + kinds[:1]
                os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
            sets.append(Data(backend, root, damaged=True))
    return sets


def kill_processes(root: Path, backend: str, folder: Path, trials: int, tally: Tally) -> None:
    """Runs of another process that are killed at any moment and resumed, compared with an undisturbed one."""
    from support.resuming import KILLED, loader, run

    folder.mkdir()
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    command = [sys.executable, "-c", KILLED, str(root), backend, str(folder), str(trials)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    if done.returncode:
        tally.differences.append(f"killed processes: {done.stderr[-500:]}")
        return
    with loader(root, backend) as one:
        expected = run(one, 3)
    for trial in range(trials):
        log = (folder / f"{trial}.log").read_text().split()
        once = [line for i, line in enumerate(log) if not i or line != log[i - 1]]
        tally.batches += len(expected)
        tally.faults["kill"] += 1
        if once != expected:
            tally.differences.append(
                f"{backend}, killed: {sum(a != b for a, b in zip(once, expected, strict=False))} differ"
            )
    shutil.rmtree(folder)


def sample(began: float, tally: Tally) -> None:
    """Memory, threads and descriptors, once what was joined has gone."""
    gc.collect()
    floor = min((threads for _, _, threads, _ in tally.samples), default=1)
    deadline = time.monotonic() + SETTLE
    while len(os.listdir("/proc/self/task")) > floor and time.monotonic() < deadline and tally.samples:
        time.sleep(0.01)
    memory = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    threads, descriptors = len(os.listdir("/proc/self/task")), len(os.listdir("/proc/self/fd"))
    tally.samples.append((time.monotonic() - began, memory, threads, descriptors))


def median(values: list[int]) -> float:
    return float(torch.tensor(values, dtype=torch.float64).median())


def main(
    minutes: Annotated[float, typer.Option(help="How long to run.")] = 10.0,
    seed: Annotated[int, typer.Option(help="What to draw the trials from.")] = 0,
    out: Annotated[Path, typer.Option(help="Folder for the results.")] = Path("benchmarks/results"),
) -> None:
    """Run trials for some minutes; the exit code is 1 if anything differed, grew or was left."""
    rng = random.Random(seed)
    tally = Tally()
    logging.getLogger("mixstage").setLevel(logging.ERROR)  # hundreds of bad files are meant
    backends = ["dali", "torchvision"]
    try:
        import ffcv  # noqa: F401

        backends.append("ffcv")
    except ImportError:
        print("ffcv is not installed: not soaked")
    with (
        tempfile.TemporaryDirectory() as scratch,
        Progress(TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn()) as progress,
    ):
        folder = Path(scratch)
        os.environ["MIXSTAGE_CACHE"] = str(folder / "cache")
        sets = make_data(rng, folder, backends)
        began = time.monotonic()
        task = progress.add_task("soaking", total=minutes * 60)
        while (seconds := time.monotonic() - began) < minutes * 60:
            progress.update(
                task, completed=seconds, description=f"{tally.batches} batches, {sum(tally.faults.values())} faults"
            )
            run_trial(rng, sets[tally.trials % len(sets)], tally)
            sample(began, tally)
            if tally.trials % 60 == 30:
                killed = rng.choice([data for data in sets if not data.damaged])
                kill_processes(killed.root, killed.backend, folder / "killed", 3, tally)
    report(tally, minutes, seed, out)


def report(tally: Tally, minutes: float, seed: int, out: Path) -> None:
    """Prints and writes the figures; ends the program with 1 if they are not as they should be."""
    warm = [s for s in tally.samples if s[0] > 0.2 * minutes * 60] or tally.samples
    third = max(1, len(warm) // 3)
    memory = [median([s[1] for s in part]) for part in (warm[:third], warm[-third:])]
    growth = memory[1] / memory[0] - 1
    threads, descriptors = ([median([s[i] for s in part]) for part in (warm[:third], warm[-third:])] for i in (2, 3))
    faults = sum(tally.faults.values())
    good = not tally.differences and growth < 0.01 and threads[0] == threads[1] and descriptors[0] == descriptors[1]
    figures = {
        "date": datetime.now(timezone.utc).date().isoformat(), "minutes": minutes, "seed": seed, "good": good,
        "batches": tally.batches, "differences": tally.differences, "trials": tally.trials, "faults": dict(tally.faults),
        "backends": dict(tally.backends), "worlds": {str(k): v for k, v in sorted(tally.worlds.items())},
        "memory_after_warm_up": memory[0], "memory_at_end": memory[1], "growth": growth, "threads": threads,
        "descriptors": descriptors, "processors": usable_processors(), "python": sys.version.split()[0],
        "versions": {name: version(name) for name in ("torch", "numpy", "pillow", "torchvision", "nvidia-dali-cuda130")},
    }  # fmt: skip
    rows = [
        ("batches compared bit for bit", f"{tally.batches:,}"),
        ("differences", f"{len(tally.differences)}"),
        ("faults injected", f"{faults:,} ({', '.join(f'{v} {k}' for k, v in sorted(tally.faults.items()))})"),
        ("trials", ", ".join(f"{v} {k}" for k, v in sorted(tally.backends.items()))),
        ("world sizes", ", ".join(f"{v} of {k}" for k, v in sorted(tally.worlds.items()))),
        ("memory after warm-up and at the end", f"{memory[0] / 1e6:.1f} MB, {memory[1] / 1e6:.1f} MB ({growth:+.2%})"),
        ("threads", f"{threads[0]:.0f}, {threads[1]:.0f}"),
        ("descriptors", f"{descriptors[0]:.0f}, {descriptors[1]:.0f}"),
    ]
    table = "\n".join(["| | |", "|-|-|", *(f"| {name} | {value} |" for name, value in rows)])
    print(table)
    for difference in tally.differences[:10]:
        print(difference)
    name = f"soak-{figures['date']}"
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.json").write_text(json.dumps(figures, indent=1) + "\n")
    versions = ", ".join(f"{k} {v}" for k, v in figures["versions"].items())
    (out / f"{name}.md").write_text(
        f"# Soak test, {figures['date']}\n\n`make soak MINUTES={minutes:g}`, seed {seed}\n\n{table}\n\n"
        "Memory, threads and descriptors are medians over the first and the last third of the trials after the first "
        f"fifth of the time.\n\n{figures['processors']} processors without CUDA, Python {figures['python']}, {versions}.\n"
    )
    if not good:
        raise SystemExit(1)


if __name__ == "__main__":
    typer.run(main)
