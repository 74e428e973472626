"""``mixstage bench pipeline``: images/s of every backend with and without mixing, against what people use today.

Four parts, each a table: ``loaders`` (every loader alone, against torchvision's DataLoader, plain DALI, plain FFCV and
decoding alone), ``mixers`` (what each mixer and each K costs), ``cores`` (1, 2, 4, ... of them) and ``training`` (a step on
a batch that is there already, the loader alone, and both together).

Contestants take turns, an epoch each, in an order that turns from round to round. Only the middle of an epoch is timed: its
first batches may have been made ahead while another contestant ran, and at its end nothing is made ahead any more.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from enum import Enum
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import typer

from .measure import Quartiles, Report, conditions, quartiles
from .photos import write_photos

PACKAGES = ("torchvision", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "ffcv", "numba", "triton")
TORCHVISION = "torchvision DataLoader, v2.RandomChoice([MixUp, CutMix])"
DECODE = "decoding alone (DALI)"
UNMIXED = "mixstage dali, no mixing"
MIXED = "mixstage dali, HMix"
_SETTLE = 0.25  # seconds for what a contestant still makes ahead after its epoch


class Part(str, Enum):
    """The tables."""

    LOADERS = "loaders"
    MIXERS = "mixers"
    CORES = "cores"
    TRAINING = "training"


def pipeline(
    root: Annotated[Path | None, typer.Argument(help="Folder of class folders; by default synthetic JPEGs.")] = None,
    part: Annotated[list[Part] | None, typer.Option(help="May be repeated; by default all.")] = None,
    images: Annotated[int, typer.Option(min=2, help="Synthetic images.")] = 1536,
    batch_size: Annotated[int, typer.Option(min=2)] = 64,
    size: Annotated[int, typer.Option(min=1, help="Side of the output in pixels.")] = 224,
    only: Annotated[list[str] | None, typer.Option(help="Contestants of this name; may be repeated.")] = None,
    cores: Annotated[int, typer.Option(min=0, help="Processors to use; 0: all.")] = 0,
    rounds: Annotated[int, typer.Option(min=1)] = 7,
    device: Annotated[str, typer.Option(help="cuda or cpu; by default what is there.")] = "",
    out: Annotated[Path | None, typer.Option(help="Folder for pipeline-*.md, .json and .png.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write all figures to this file.")] = None,
) -> None:
    """Measure the loaders: images/s with and without mixing, against torchvision, plain DALI, plain FFCV and decoding."""
    parts = part or list(Part)
    if only and not {*parts} <= {Part.LOADERS, Part.MIXERS}:
        raise typer.BadParameter("only takes contestants of --part loaders or mixers", param_hint="--only")
    if cores and cores < len(os.sched_getaffinity(0)):
        raise typer.Exit(_with_cores(cores, sys.argv))
    import torch

    from .peers import Setting

    device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    written = []
    with tempfile.TemporaryDirectory() as scratch:
        folder = root or write_photos(Path(scratch, "images"), images)
        beton = Path(scratch, "images.beton")
        setting = Setting(folder, beton, batch_size, size, len(os.sched_getaffinity(0)), device)
        if _has("ffcv") and device == "cpu":
            from ..cli.convert import convert

            convert(folder, beton)
        measures: dict[Part, Callable[[Setting, int], Report]] = {
            Part.LOADERS: partial(measure_loaders, only=only), Part.MIXERS: partial(measure_mixers, only=only),
            Part.CORES: measure_cores, Part.TRAINING: measure_training,
        }  # fmt: skip
        for chosen in parts:
            report = measures[chosen](setting, rounds)
            report.show()
            written.append(json.loads(report.json()))
            if out is not None:
                stem = f"pipeline-{chosen.value}-{device}"
                report.save(out, stem)
                report.chart(out / f"{stem}.png", "images/s")
    if json_file is not None:
        json_file.parent.mkdir(parents=True, exist_ok=True)
        json_file.write_text(json.dumps(written, indent=1) + "\n")


Open = Callable[[], AbstractContextManager[Callable[[], Iterable[Any]]]]


def measure_epochs(setting: Any, cases: dict[str, Open], rounds: int, describe: str) -> dict[str, Any]:
    """Images/s of each case in each round. Every epoch must deliver the same number of batches."""
    import numpy as np
    import torch
    from rich.console import Console
    from rich.progress import Progress

    batches = count_batches(setting)
    rates: dict[str, list[float]] = {name: [] for name in cases}
    names = list(cases)
    with ExitStack() as stack, Progress(console=Console(stderr=True), transient=True) as progress:
        epochs = {name: stack.enter_context(open_case()) for name, open_case in cases.items()}
        task = progress.add_task(describe, total=(rounds + 1) * len(names))
        for turn in range(-1, rounds):  # the first round is a warm-up
            first = max(turn, 0) % len(names)
            for name in names[first:] + names[:first]:
                time.sleep(_SETTLE)
                seconds = _time_middle(epochs[name], batches, torch.cuda.synchronize if setting.device != "cpu" else None)
                if turn >= 0:
                    rates[name].append((batches - 2 * _margin(batches)) * setting.batch_size / seconds)
                progress.advance(task)
    return {name: np.array(values) for name, values in rates.items()}


def count_batches(setting: Any) -> int:
    """The batches of an epoch."""
    count = sum(1 for _ in setting.folder.glob("*/*"))
    if count < 4 * setting.batch_size:
        raise ValueError(f"batch_size must be at most a quarter of the {count} images, got {setting.batch_size}")
    return count // setting.batch_size


def _margin(batches: int) -> int:
    """Batches that are not timed, at either end."""
    return batches // 4


def _time_middle(epoch: Callable[[], Iterable[Any]], batches: int, synchronize: Callable[[], None] | None) -> float:
    times = []
    margin = _margin(batches)
    delivered = 0
    for _ in epoch():
        delivered += 1
        if delivered in (margin, batches - margin):
            if synchronize is not None:
                synchronize()
            times.append(time.perf_counter())
    if delivered != batches:
        raise RuntimeError(f"an epoch had {delivered} batches instead of {batches}")
    return times[1] - times[0]


def measure_loaders(setting: Any, rounds: int, only: Sequence[str] | None = None) -> Report:
    """Every loader alone, or those named in ``only``."""
    from mixops import HMix

    from . import peers

    cases: dict[str, Open] = {}
    if _has("torchvision"):
        cases[TORCHVISION] = lambda: peers.torchvision_loader(setting, mixing=True)
        cases["torchvision DataLoader, no mixing"] = lambda: peers.torchvision_loader(setting, mixing=False)
        cases["mixstage torchvision, HMix"] = lambda: peers.mixstage(setting, "torchvision", HMix())
    if _has("nvidia.dali"):
        cases[DECODE] = lambda: peers.plain_dali(setting, decode_only=True)
        cases["DALI, no mixing"] = lambda: peers.plain_dali(setting, decode_only=False)
        cases[UNMIXED] = lambda: peers.mixstage(setting, "dali", None)
        cases[MIXED] = lambda: peers.mixstage(setting, "dali", HMix())
    if setting.beton.exists():
        cases["FFCV, no mixing"] = lambda: peers.plain_ffcv(setting, mixing=False)
        cases["FFCV, its own ImageMixup"] = lambda: peers.plain_ffcv(setting, mixing=True)
        cases["mixstage ffcv, no mixing"] = lambda: peers.mixstage(setting, "ffcv", None)
        cases["mixstage ffcv, HMix"] = lambda: peers.mixstage(setting, "ffcv", HMix())
    cases = _chosen(cases, only)
    rates = measure_epochs(setting, cases, rounds, "loaders alone")
    columns = ["loader", "images/s", "x torchvision with mixing", "x same loader without mixing", "x plain DALI"]
    unmixed = {MIXED: UNMIXED, "mixstage ffcv, HMix": "mixstage ffcv, no mixing",
               "FFCV, its own ImageMixup": "FFCV, no mixing", TORCHVISION: "torchvision DataLoader, no mixing"}  # fmt: skip
    units = {name: (TORCHVISION, unmixed.get(name), "DALI, no mixing") for name in cases}
    rows = [[name, quartiles(rates[name]), *[speed(rates, name, unit) for unit in units[name]]] for name in cases]
    notes = [
        "Loaders alone: nothing is done with the batches. FFCV reads its own file, whose images were encoded again.",
        "Decoding alone decodes whole images and crops nothing; loaders that decode only the crop can be faster.",
    ]
    return _report(f"Loaders alone, {_told(setting)}", columns, rows, notes)


def measure_mixers(setting: Any, rounds: int, only: Sequence[str] | None = None) -> Report:
    """What each mixer and each K costs in the DALI loader, or those named in ``only``."""
    from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, Switch

    from . import peers

    mixers = (
        MixUp(), CutMix(), HMix(), GMix(), Switch([MixUp(0.8), CutMix()]), MixUp(matching=OptimalMatching(16)),
        HMix(interpolations=2), HMix(interpolations=5), GMix(interpolations=5),
    )  # fmt: skip
    cases: dict[str, Open] = {"none": lambda: peers.mixstage(setting, "dali", None)}
    cases |= {repr(mixer): partial(peers.mixstage, setting, "dali", mixer) for mixer in mixers}
    cases["none, a second time"] = cases["none"]
    cases = _chosen(cases, only)
    rates = measure_epochs(setting, cases, rounds, "mixers")
    rows = [[name, quartiles(rates[name]), speed(rates, name, "none")] for name in cases]
    notes = [
        "Source images a second: with K interpolations each becomes K training images. The second line without mixing says "
        "how much two equal loaders differ here."
    ]
    return _report(f"Mixers in the DALI loader, {_told(setting)}", ["mixer", "images/s", "x without mixing"], rows, notes)


def measure_cores(setting: Any, rounds: int) -> Report:
    """The loaders with 1, 2, 4, ... processors, each number in a process of its own."""
    counts = [n for n in (1, 2, 4, 8, 16, 32, 64) if n < setting.cores] + [setting.cores]
    rows: list[list[Any]] = []
    for count in counts:
        with tempfile.TemporaryDirectory() as scratch:
            file = Path(scratch, "figures.json")
            options = ["--batch-size", str(setting.batch_size), "--size", str(setting.size), "--rounds", str(rounds)]
            options += ["--part", "loaders", "--device", setting.device, "--json", str(file), "--cores", str(count)]
            if _with_cores(count, ["", str(setting.folder), *options]):
                raise RuntimeError(f"the measurement with {count} processors failed")
            for row in json.loads(file.read_text())[0]["rows"]:
                figure = Quartiles(**row["images/s"])
                rows.append([row["loader"], str(count), figure, Quartiles(*(value / count for value in figure))])
    rows.sort(key=lambda row: row[0])
    notes = ["Each number of processors was measured in a process of its own; within it the rounds alternate."]
    return _report(
        f"Loaders alone over processors, {_told(setting)}", ["loader", "processors", "images/s", "a processor"], rows, notes
    )


def measure_training(setting: Any, rounds: int) -> Report:
    """A training step on a batch that is there already, the loader alone, and both together."""
    import torch
    from torchvision.models import resnet18, resnet50

    from mixops import HMix

    from ..image_loader import ImageLoader
    from . import peers

    gpu = setting.device != "cpu"
    network = resnet50() if gpu else resnet18()
    network.to(setting.device, memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), 0.1, momentum=0.9)

    def step(images: Any, targets: Any) -> None:
        with torch.autocast(setting.device, torch.bfloat16, enabled=gpu):
            logits = network(images)
        classes = torch.nn.functional.pad(targets, (0, logits.shape[1] - targets.shape[1]))
        torch.nn.functional.cross_entropy(logits, classes).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()

    loaders: dict[str, Open] = {
        MIXED: lambda: peers.mixstage(setting, "dali", HMix()),
        TORCHVISION: lambda: peers.torchvision_loader(setting, mixing=True),
    }
    kept: list[Any] = []
    waited = []

    @contextmanager
    def cached() -> Generator[Callable[[], Iterable[Any]], None, None]:
        with loaders[MIXED]() as epoch:
            kept.extend(next(iter(epoch())))

        def train() -> Generator[None, None, None]:
            for _ in range(count_batches(setting)):
                step(*kept)
                yield

        yield train

    @contextmanager
    def both(name: str) -> Generator[Callable[[], Iterable[Any]], None, None]:
        with loaders[name]() as epoch:

            def train() -> Generator[None, None, None]:
                loader = epoch()
                for batch in loader:
                    step(*batch)
                    yield
                if isinstance(loader, ImageLoader):
                    waited.append(loader.stats().waited)

            yield train

    cases: dict[str, Open] = {"a batch that is there": cached}
    cases |= {f"{name}, alone": open_case for name, open_case in loaders.items()}
    cases |= {f"{name}, training": partial(both, name) for name in loaders}
    rates = measure_epochs(setting, cases, rounds, "training")
    rows = [[name, quartiles(rates[name]), speed(rates, name, "a batch that is there")] for name in cases]
    notes = [
        f"{type(network).__name__}-{50 if gpu else 18}, {'bfloat16' if gpu else 'float32'}, channels-last, SGD. "
        f"Training waited {statistics.median(waited):.1%} of the time for the DALI loader, median of the epochs."
    ]
    if not gpu:
        notes.append("Without a GPU decoding and training share the processors, so both together are slower than either.")
    return _report(f"Training, {_told(setting)}", ["case", "images/s", "x a batch that is there"], rows, notes)


def _chosen(cases: dict[str, Open], only: Sequence[str] | None) -> dict[str, Open]:
    unknown = set(only or ()) - set(cases)
    if unknown:
        raise ValueError(f"only must be names of {', '.join(cases)}, got {', '.join(sorted(unknown))}")
    return {name: case for name, case in cases.items() if only is None or name in only}


def speed(rates: dict[str, Any], name: str, unit: str | None) -> Quartiles | None:
    """How many times as fast as ``unit`` a case is, round by round; None where there is no such case."""
    return quartiles(rates[name] / rates[unit]) if unit in rates else None


def _report(title: str, columns: list[str], rows: list[list[Any]], notes: list[str]) -> Report:
    return Report(title, columns, rows, conditions(PACKAGES), ["Medians (and quartiles) of alternated rounds.", *notes])


def _told(setting: Any) -> str:
    return f"{setting.device}, {setting.cores} processors, batches of {setting.batch_size}, {setting.size} pixels"


def _has(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _with_cores(count: int, arguments: list[str]) -> int:
    """Runs this command in a process that has ``count`` processors; returns its exit code."""
    mine = sorted(os.sched_getaffinity(0))[:count]
    code = "import typer; from loaders.bench.pipeline import pipeline; typer.run(pipeline)"
    rest = [word for word in arguments[1:] if word not in ("bench", "pipeline")]
    command = [sys.executable, "-c", code, *rest]
    return subprocess.run(command, preexec_fn=lambda: os.sched_setaffinity(0, mine), check=False).returncode
