"""Who waits for the GPU: a training loop under the profiler, ``python -m benchmarks.trace ROOT``.

The profiler sees every call of the CUDA runtime in every thread of the process. Counted are those that make a thread wait,
by thread: the training loop, the loader's own, and those of DALI, which decode. Mixing must add none; beside it stands
DALI's own iterator, whose waits are DALI's.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import Counter
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from loaders.bench import peers
from loaders.bench.measure import Report, conditions
from loaders.processors import usable_processors
from mixops import CutMix, HMix, MixUp, Switch

WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
OTHERS = ("cudaMemcpyAsync", "cudaLaunchKernel", "cuLaunchKernelEx", "cudaStreamWaitEvent", "cudaEventRecord")
LOOP, LOADER, DALI = "training loop", "mixstage-loader", "threads of DALI"


def count_calls(opened: AbstractContextManager[peers.Batches], steps: int) -> Counter[tuple[str, str]]:
    """(thread, call of the runtime) -> how often in ``steps`` steps of training, after as many to warm up."""
    from torch.profiler import ProfilerActivity, profile

    network = torch.nn.Conv2d(3, 16, 7, stride=4).cuda()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    with opened as epoch:
        iterator = iter(epoch())

        def train() -> None:
            for images, targets in islice(iterator, steps):
                (network(images).mean() * targets.sum()).backward()
                optimizer.step()
                optimizer.zero_grad()

        train()
        torch.cuda.synchronize()
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
            train()
            threads = [t for t in threading.enumerate() if t.name == LOADER]
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "trace.json")
            seen.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
    names: dict[int | None, str] = {os.getpid(): LOOP}
    for thread in threads:
        low = (thread.ident or 0) & 0xFFFFFFFF  # the profiler's number of a thread that torch does not know, as int32
        names |= dict.fromkeys((thread.native_id, low, low - (1 << 32)), LOADER)
    calls = (e for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver"))
    return Counter((names.get(e["tid"], DALI), e["name"]) for e in calls)


def run(root: Path, batch_size: int = 128, steps: int = 12) -> Report:
    """Counts with and without mixing."""
    setting = peers.Setting(root, Path(), batch_size, 224, usable_processors(), "cuda")
    contestants = {
        "DALI's iterator": peers.plain_dali(setting, decode_only=False),
        "mixstage, no mixing": peers.mixstage(setting, "dali", None),
        "mixstage, Switch": peers.mixstage(setting, "dali", Switch([MixUp(0.8), CutMix()])),
        "mixstage, HMix, K=5": peers.mixstage(setting, "dali", HMix(interpolations=5)),
    }
    counts = {name: count_calls(opened, steps) for name, opened in contestants.items()}
    rows: list[list[Any]] = [
        [thread, call, *[round(count[thread, call] / steps, 2) for count in counts.values()]]
        for thread, call in sorted(set().union(*counts.values()))
        if call in (*WAITS, *OTHERS)
    ]
    notes = [
        f"Calls a step of {batch_size} images, in {steps} steps. The profiler itself waits for the device once, at its end: "
        f"{1 / steps:.2f} a step."
    ]
    columns = ["thread", "call of the CUDA runtime", *counts]
    return Report(
        "Calls that wait for the GPU in a training loop", columns, rows, conditions(("nvidia-dali-cuda130",)), notes
    )


def trace(root: Path, save: Annotated[Path | None, typer.Option(help="Folder for the report.")] = None) -> None:
    """Count the calls that make the host wait, with and without mixing."""
    report = run(root)
    report.show()
    if save is not None:
        report.save(save, "trace-cuda")


if __name__ == "__main__":
    typer.run(trace)
