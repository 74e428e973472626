"""What a loader will do, in the lines that ``print(loader)`` shows."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from .array_limits import channels_of
from .output import Output
from .printable import printable
from .sampling import Sequential, Shuffled
from .sizes import Sizes
from .sources.base import Source
from .sources.opened import Examined
from .step import UNMIXED, StepPlanner


def describe(source: Source, planner: StepPlanner, output: Output, executor: str, position: tuple[int, int]) -> str:
    """One line each for the data, their order, what becomes of an image, the mix, a batch, who makes it, and what is next.

    ``executor`` says in words which backend works with what; ``position`` is the epoch and step of the next batch.
    """
    lines = {
        "data": _data(source, planner),
        "order": _order(planner, position[0]),
        "image": _image(planner, output, position),
        "mix": _mix(planner),
        "batch": _batch(source, planner, output, position),
        "made by": f"{executor} on {output.device}",
        "next": f"step {position[1]} of epoch {position[0]}",
    }
    return "\n".join(["ImageLoader", *(f"    {name + ':':9}{text}" for name, text in lines.items())])


def _data(source: Source, planner: StepPlanner) -> str:
    chosen = "" if planner.candidates is None else f"{len(planner.candidates):,} of "
    given = source.source if isinstance(source, Examined) else source
    where = getattr(given, "root", None)
    place = "" if not where else f" in {printable(str(where))}"
    return f"{chosen}{len(source):,} images of {len(source.classes):,} classes{place} ({type(given).__name__})"


def _order(planner: StepPlanner, epoch: int) -> str:
    schedule = planner.schedule_of(epoch)
    ranks = f"rank {schedule.rank} of {schedule.world_size}"
    rest = schedule.length % schedule.batch_size
    last = f", the last {rest} rows dropped" if schedule.drop_last and rest else ""
    plain: dict[type, str] = {Sequential: "in the order of the data", Shuffled: "shuffled"}
    how = plain.get(type(schedule.sampling), repr(schedule.sampling))
    return f"{len(schedule):,} steps of {schedule.batch_size:,} rows{last}; {how}, seed {schedule.seed}, {ranks}"


def _image(planner: StepPlanner, output: Output, position: tuple[int, int]) -> str:
    height, width = planner.size_at(*position)
    course = f" now, {planner.size!r}" if isinstance(planner.size, Sizes) else ""
    if planner.named:
        done = [f"crops {'; '.join(map(repr, planner.named))}", repr(planner.flip)]
    else:
        done = [f"{planner.crop!r} to {height} x {width}{course}", repr(planner.flip)]
        done += [] if planner.augmentation is None else [repr(planner.augmentation)]
    done += ["decoded at a fraction where that is twice as large"] if planner.fast else []
    done += [] if output.transform is None else [repr(output.transform)]
    done += ["as it is"] if output.mean is None else [f"mean {_numbers(output.mean)}, std {_numbers(output.std or ())}"]
    return ", ".join(done)


def _mix(planner: StepPlanner) -> str:
    if planner.mixer is UNMIXED:
        return "nothing while mixup_enabled is False, with targets as of a mixer"
    return "nothing" if planner.mixer is None else repr(planner.mixer)


def _batch(source: Source, planner: StepPlanner, output: Output, position: tuple[int, int]) -> str:
    rows = len(planner.schedule_of(position[0]).rows(0))
    outputs = rows * (1 if planner.mixer is None else planner.mixer.interpolations)
    views = f"{output.views} views of " if output.views > 1 else ""
    layout = ", channels_last" if output.memory_format == torch.channels_last else ""
    dtype = str(output.dtype).removeprefix("torch.")
    batches = [(one.count * rows, *one.size) for one in planner.named] or [(outputs, *planner.size_at(*position))]
    shapes = [f"({count}, {channels_of(source)}, {height}, {width})" for count, height, width in batches]
    images = f"{views}images {', '.join(shapes)} {dtype}{layout}"
    height, width = planner.size_at(*position)
    if output.ignore_index is not None and (planner.mixer is None or output.targets == "sparse"):
        targets = f"label maps ({outputs}, {height}, {width}) int64"
    elif output.ignore_index is not None:
        targets = f"label maps ({outputs}, {output.num_classes}, {height}, {width}) float32"
    elif planner.mixer is None:
        targets = f"labels ({rows},) int64" if output.labels.ndim == 1 else f"labels ({rows}, {output.num_classes}) float32"
    elif output.targets == "sparse":
        targets = f"sparse targets of {outputs} rows"
    else:
        targets = f"targets ({outputs}, {output.num_classes}) float32"
    ids = f", ids ({rows},)" if output.ids else ""
    return f"{output.form} of {images}, {targets}{ids}"


def _numbers(values: Sequence[float]) -> str:
    return "(" + ", ".join(f"{float(value):g}" for value in values) + ")"
