"""Rows of several sources beside mixup, blended, normalised and cast on the CPU: ``python -m benchmarks.several``.

64 uint8 images of 224 x 224 become normalised float32 ones; the plan is drawn before. Mixup of two is the measure.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import torch
import typer

from loaders.bench.measure import Report, alternate, conditions, quartiles, relative
from mixops import CoMixUp, DirichletMixUp, Key, MixUp, PuzzleMix, ZetaMixUp, mix_images, spectral_saliency

MIXERS = (
    MixUp(),
    DirichletMixUp(sources=3),
    ZetaMixUp(ranks=4),
    ZetaMixUp(ranks=8),
    ZetaMixUp(ranks=8, interpolations=5),
    MixUp(interpolations=5),
)
LAYOUTS = {"NHWC": torch.channels_last, "NCHW": torch.contiguous_format}


def run(rounds: int, batch_size: int, threads: int) -> Report:
    """Times every mixer in both layouts of the result."""
    torch.set_num_threads(threads)
    shape = (batch_size, 3, 224, 224)
    images = torch.randint(0, 256, shape, dtype=torch.uint8).contiguous(memory_format=torch.channels_last)
    rows = []
    for layout, memory in LAYOUTS.items():
        calls = {}
        for mixer in MIXERS:
            plan = mixer.plan(Key(), batch_size=batch_size, height=224, width=224)
            out = torch.empty(batch_size * plan.interpolations, *shape[1:], memory_format=memory)
            normal = {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225], "dtype": torch.float32}
            calls[repr(mixer)] = partial(mix_images, images, plan, out=out, **normal)
        seconds = alternate(calls, rounds=rounds, at_least=0.05, describe=layout)
        for name in calls:
            unit = repr(MixUp()) if "interpolations" not in name else repr(MixUp(interpolations=5))
            rows.append([layout, name, quartiles(1e3 * seconds[name]), relative(seconds, name, unit)])
    columns = ["layout of the result", "mixer", "ms", "times mixup of as many outputs"]
    notes = [
        f"{batch_size} uint8 images of 224 x 224, channels last, to normalised float32 on {threads} threads. Medians of "
        f"{rounds} alternated rounds, quartiles in brackets.",
    ]
    return Report("Rows of several sources on the CPU", columns, rows, conditions(("numba",)), notes)


def run_solvers(rounds: int, batch_size: int, threads: int) -> Report:
    """Times the plans of mixers that solve for their masks."""
    torch.set_num_threads(threads)
    images = torch.rand(batch_size, 3, 224, 224)
    saliency = spectral_saliency(images)
    mixers = (PuzzleMix(block_num=4, n_labels=2), PuzzleMix(block_num=16), CoMixUp())
    calls = {repr(mixer): partial(mixer.plan, Key(), images=images, saliency=saliency) for mixer in mixers}
    seconds = alternate(calls, rounds=rounds, describe="plans")
    unit = repr(mixers[0])
    rows = [[name, quartiles(1e3 * seconds[name]), relative(seconds, name, unit)] for name in calls]
    notes = [f"{batch_size} images of 224 x 224 whose saliency is given, {threads} threads, {rounds} alternated rounds."]
    return Report("Plans that are solved for", ["mixer", "ms", "times the first"], rows, conditions(("numba",)), notes)


def main(
    rounds: Annotated[int, typer.Option(min=1)] = 9,
    batch_size: Annotated[int, typer.Option(min=8)] = 64,
    threads: Annotated[int, typer.Option(min=1)] = 2,
    solvers: Annotated[bool, typer.Option(help="Time the plans of Co-Mixup and puzzle-mix instead.")] = False,
    save: Annotated[Path | None, typer.Option(help="Folder for several-cpu.md or solvers-cpu.md, and .json.")] = None,
) -> None:
    """Times rows of several sources."""
    report = (run_solvers if solvers else run)(rounds, batch_size, threads)
    report.show()
    if save is not None:
        report.save(save, "solvers-cpu" if solvers else "several-cpu")


if __name__ == "__main__":
    typer.run(main)
