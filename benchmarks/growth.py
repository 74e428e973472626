"""What a loader costs over the number of files: time and memory of its start, an epoch's order, a resume, eight ranks.

    python -m benchmarks.growth --save benchmarks/results

Names, lengths and sizes of the files are made up, so that no disk takes part: the listing of a folder and the reading of
headers are replaced, all else is what users run. ``--files`` writes that many small real files, lists and reads them, and
removes them again. Every figure is of a process of its own; memory is what it holds beyond the imports and a small loader.
"""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress

from loaders.bench.measure import Report, conditions

ROOT = Path(__file__).parents[1]
SIZES = (10_000, 100_000, 1_281_167, 10_000_000, 14_197_122)  # the third is ImageNet's, the last ImageNet-21k's
CLASSES, RANKS, BATCH = 1000, 8, 256
NAME = "n%08d/n%08d_%08d.JPEG"  # ImageNet's, a little longer
BYTES = len(NAME % (0, 0, 0))
COLUMNS = (
    "files", "kind", "first start s", "second start s", "bytes/file beside the names", "at its peak",
    "first batch of an epoch s", "bytes/file at its peak", "a later batch s", "a batch after a resume s",
    f"{RANKS} ranks: start and first batch s", "bytes/file of a rank",
)  # fmt: skip


def made_up(root: Path, count: int) -> list[float]:
    """Makes ``root`` seem to have ``count`` files; the result gets the seconds that making up their names took."""
    from loaders.sources import folder

    ends = np.linspace(0, count, CLASSES + 1).astype(int).tolist()
    taken: list[float] = []

    def listing(root: str, classes: tuple[str, ...], timeout: float) -> list[Any]:
        began = time.perf_counter()
        found = []
        for number, (first, last) in enumerate(pairwise(ends)):
            names = np.tile(np.frombuffer((NAME % (number, number, 0)).encode(), np.uint8), (last - first, 1))
            for digit in range(8):
                names[:, BYTES - 6 - digit] += (np.arange(last - first) // 10**digit % 10).astype(np.uint8)
            stats = np.stack([np.arange(first, last) % 100_000 + 1, np.arange(first, last) + 10**18], 1)
            found.append((names.view(f"S{BYTES}")[:, 0], stats))
        taken.append(time.perf_counter() - began)
        return found

    folder._list_classes = listing
    folder._file_size = lambda path: (300 + int(path[-8:-5]) % 200, 400)
    for number in range(CLASSES):
        (root / f"n{number:08d}").mkdir(parents=True, exist_ok=True)
    return taken


def write_files(root: Path, count: int) -> None:
    """``count`` JPEG files of 16 x 16 pixels."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(np.arange(768, dtype=np.uint8).reshape(16, 16, 3)).save(stream, "JPEG")
    for number, part in enumerate(np.array_split(np.arange(count), CLASSES)):
        (root / f"n{number:08d}").mkdir(parents=True)
        for i in range(len(part)):
            (root / (NAME % (number, number, i))).write_bytes(stream.getvalue())


def memory() -> tuple[int, int]:
    """Bytes that this process holds, and the most it held since ``forget_peak``; files that are mapped do not count."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return 1024 * int(lines["RssAnon"].split()[0]), 1024 * int(lines["VmHWM"].split()[0])


def forget_peak() -> int:
    """Begins a new peak; returns what is held now, mapped files and all."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return memory()[1]


def child(root: str, count: int, sparse: bool, resume: bool, rank: int, world_size: int) -> dict[str, float]:
    """A start of a loader and its first batch, of an epoch or after a resume in the middle of one: seconds, bytes/file.

    Of made-up files a batch is its plan, which is what depends on their number.
    """
    from loaders import ImageLoader
    from mixops import HMix

    options: dict[str, Any] = {"backend": "torchvision", "mixer": HMix(), "device": "cpu", "size": 32, "num_threads": 2}
    with tempfile.TemporaryDirectory() as few:  # imports, compiled code
        write_files(Path(few, "few"), CLASSES)
        with ImageLoader(Path(few, "few"), batch_size=60, indices=range(60), **options) as loader:
            loader.load_state_dict(loader.state_dict())
            next(iter(loader))
    elsewhere = made_up(Path(root), count) if sparse else []
    wait_for_others()
    base, before = memory()[0], forget_peak()
    began = time.perf_counter()
    loader = ImageLoader(root, batch_size=BATCH, rank=rank, world_size=world_size, **options)
    found = {"start": time.perf_counter() - began - sum(elsewhere), "start_peak": (memory()[1] - before) / count}
    gc.collect()
    found["start_bytes"] = (memory()[0] - base) / count
    epoch, step = (3, len(loader) // 2) if resume else (0, 0)
    state = {"version": 1, "epoch": epoch, "step": step}
    if resume:  # whoever made the state had the digest made; this process has not
        state |= {"config": json.loads(Path(root, "..", f"state-{world_size}").read_text())}
    before = forget_peak()
    began = time.perf_counter()
    if resume:
        loader.load_state_dict(state)
    if sparse:
        loader.draw(epoch, step)
    else:
        batches = iter(loader)
        next(batches)
    found |= {"batch": time.perf_counter() - began, "batch_peak": (memory()[1] - before) / count}
    began = time.perf_counter()
    for later in range(1, 6):
        loader.draw(epoch, (step + later) % len(loader))
    found["later"] = (time.perf_counter() - began) / 5
    if not resume and rank == 0:
        Path(root, "..", f"state-{world_size}").write_text(json.dumps(loader.state_dict()["config"]))
    gc.collect()
    found["bytes"] = (memory()[0] - base) / count
    loader.close()
    return found


def wait_for_others() -> None:
    """Says that this process is ready, and waits for the word to go."""
    print("ready", flush=True)
    sys.stdin.readline()


def measure(root: Path, count: int, sparse: bool, *, resume: bool = False, ranks: int = 1) -> list[dict[str, float]]:
    """What ``child`` says in processes that begin at once, one a rank."""
    environment = {**os.environ, "MIXSTAGE_CACHE": str(root.parent / "cache"), "OMP_NUM_THREADS": "1"}
    with ExitStack() as stack:
        processes = []
        for rank in range(ranks):
            arguments = json.dumps([str(root), count, sparse, resume, rank, ranks])
            command = [sys.executable, "-m", "benchmarks.growth", "--child", arguments]
            process = subprocess.Popen(
                command, cwd=ROOT, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            processes.append(stack.enter_context(process))
        for process in processes:
            assert process.stdout is not None
            if process.stdout.readline() != "ready\n":
                raise RuntimeError(f"the measurement of {count} files failed")
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()
        told = [process.communicate()[0] for process in processes]
    return [json.loads(text.splitlines()[-1]) for text in told]


def row(root: Path, count: int, sparse: bool, ranks: bool) -> list[Any]:
    """The figures for one number of files."""
    (first,) = measure(root, count, sparse)
    (second,) = measure(root, count, sparse)
    (resumed,) = measure(root, count, sparse, resume=True)
    others = measure(root, count, sparse, ranks=RANKS) if ranks else []
    slowest = max((one["start"] + one["batch"] for one in others), default=None)
    largest = max((one["bytes"] for one in others), default=None)
    return [
        f"{count:,}", "made up" if sparse else "real", first["start"], second["start"], second["start_bytes"] - BYTES,
        second["start_peak"] - BYTES, second["batch"], second["batch_peak"], second["later"], resumed["batch"], slowest,
        largest,
    ]  # fmt: skip


def plot(rows: list[list[Any]], path: Path) -> None:
    """Seconds, and bytes a file, over the number of made-up files; real ones are crosses."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(1, 2, figsize=(11, 4.5), layout="constrained")
    shown = ((2, 3, 6, 9, 10), (4, 5, 11))
    for panel, columns in zip(panels, shown, strict=True):
        for colour, column in enumerate(columns):
            for kind, style in (("made up", "o-"), ("real", "x")):
                points = [(int(one[0].replace(",", "")), one[column]) for one in rows if one[1] == kind and one[column]]
                label = COLUMNS[column].removesuffix(" s") if kind == "made up" else None
                panel.plot(*zip(*points, strict=True) if points else ((), ()), style, color=f"C{colour}", label=label)
        panel.set(xscale="log", xlabel="files")
        panel.legend()
        panel.grid(alpha=0.3)
    panels[0].set(yscale="log", ylabel="seconds")
    panels[1].set(ylabel="bytes a file", ylim=(0, None))
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(
    sizes: Annotated[list[int] | None, typer.Option(help="Numbers of made-up files; may be repeated.")] = None,
    files: Annotated[int, typer.Option(min=0, help="Real small files to write in a temporary folder; 0: none.")] = 300_000,
    most_ranks: Annotated[int, typer.Option(help="The most files that eight ranks are measured with.")] = SIZES[3],
    save: Annotated[Path | None, typer.Option(help="Folder for growth-cpu.md, .json and .png.")] = None,
    child_arguments: Annotated[str, typer.Option("--child", hidden=True)] = "",
) -> None:
    """Measures, prints, and saves."""
    if child_arguments:
        print(json.dumps(child(*json.loads(child_arguments))))
        return
    rows: list[list[Any]] = []
    cases = [(count, True) for count in sizes or SIZES] + [(files, False)] * (files > 0)
    notes = [
        f"A process each, batches of {BATCH}. Memory is the process's own, beyond the imports; a name has {BYTES} bytes. "
        "Made-up files have no disk, and their batches are plans; real ones are decoded, and lie in the system's memory.",
    ]
    told = conditions(["pillow"])
    with Progress(console=Console(stderr=True), transient=True) as progress:
        for count, sparse in progress.track(cases, description="growth"):
            with tempfile.TemporaryDirectory() as scratch:
                if not sparse:
                    write_files(Path(scratch, "files"), count)
                rows.append(row(Path(scratch, "files"), count, sparse, count <= most_ranks))
            report = Report("Growth: a loader over the number of its files", COLUMNS, list(rows), told, notes)
            if save is not None:  # as it comes: all of it takes a quarter of an hour
                report.save(save, "growth-cpu")
                plot(rows, save / "growth-cpu.png")
    report.show()


if __name__ == "__main__":
    typer.run(main)
