"""The loader alone: with and without mixing, with augmentation, beside DALI's own pipeline and beside decoding alone.

The consumer costs nothing: it drops every batch. A second loader without mixing tells how much two equal loaders differ.
"""

from __future__ import annotations

from typing import Any

from loaders.bench import peers
from loaders.bench.measure import Report, conditions
from loaders.bench.pipeline_alone import ALONE, loaders_in_turn
from mixops import HMix

from .run import Reports, Run
from .threads import processors_used


def reports(run: Run) -> Reports:
    """The table of loaders, after each round; then what the processors did in an epoch with mixing."""
    setting = run.setting(*((4, 4) if run.tiny else (128, 200)))
    for report in loaders_in_turn(setting, run.rounds, ALONE, seconds=run.left(0.85)):
        yield "pipeline-loaders-cuda", report
    with peers.mixstage(setting, "dali", HMix()) as epoch:
        for _ in epoch():
            pass
        used, threads = processors_used(epoch)
    rows: list[list[Any]] = [[name, threads.get(name), busy] for name, busy in sorted(used.items(), key=lambda x: -x[1])]
    rows.append(["all", sum(threads.values()), sum(used.values())])
    notes = [f"An epoch of the loader with HMix, {setting.cores} processors to use. Python's threads share one interpreter."]
    yield (
        "pipeline-processors-cuda",
        Report(
            "What the processors do",
            ("threads", "how many", "processors busy"),
            rows,
            conditions(("nvidia-dali-cuda130",)),
            notes,
        ),
    )
