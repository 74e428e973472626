"""Who waits for the GPU: a training loop over the loader under the profiler, ``python -m loaders.bench.trace ROOT``.

The profiler sees every call of the CUDA runtime in every thread of the process. Counted are those that make a thread wait,
by thread: the training loop, the loader's own, and those of DALI, which decode. Mixing must add none, and in the first two
there must be none at all.
"""

from __future__ import annotations

import json
import os
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from loaders.image_loader import ImageLoader
from mixops import CutMix, MixUp, Switch
from mixops.mixer import Mixer

from .measure import Report, conditions

WAITS = ("cudaDeviceSynchronize", "cudaStreamSynchronize", "cudaEventSynchronize", "cudaMemcpy")
_COPIES = ("cudaMemcpyAsync", "cudaLaunchKernel", "cuLaunchKernel", "cudaLaunchKernelExC", "cuLaunchKernelEx")


def count_calls(root: Path, mixer: Mixer | None, batch_size: int, steps: int) -> tuple[Counter[tuple[str, str]], int]:
    """(thread, call of the runtime) -> how often in ``steps`` steps of training, after as many to warm up."""
    from torch.profiler import ProfilerActivity, profile

    network = torch.nn.Conv2d(3, 16, 7, stride=4).cuda()
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    with ImageLoader(root, batch_size=batch_size, mixer=mixer, device="cuda") as loader:
        steps = min(steps, len(loader) // 2)
        iterator = iter(loader)

        def train() -> None:
            for _ in range(steps):
                images, targets = next(iterator)
                (network(images).mean() * targets.sum()).backward()
                optimizer.step()
                optimizer.zero_grad()

        train()
        torch.cuda.synchronize()
        names = {t.native_id: t.name for t in threading.enumerate()} | {os.getpid(): "training loop"}
        with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA], acc_events=True) as seen:
            train()
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch, "trace.json")
            seen.export_chrome_trace(str(path))
            events = json.loads(path.read_text())["traceEvents"]
    calls = (e for e in events if e.get("cat") in ("cuda_runtime", "cuda_driver"))
    return Counter((names.get(e["tid"], "threads of DALI"), e["name"]) for e in calls), steps


def run(root: Path, batch_size: int = 128, steps: int = 12) -> Report:
    """Counts with and without mixing."""
    counts: dict[str, Counter[tuple[str, str]]] = {}
    for name, mixer in (("no mixing", None), ("mixing", Switch([MixUp(0.8), CutMix()]))):
        counts[name], steps = count_calls(root, mixer, batch_size, steps)
    rows: list[list[Any]] = [
        [thread, call, *[round(count[thread, call] / steps, 2) for count in counts.values()]]
        for thread, call in sorted(set().union(*counts.values()))
        if call in (*WAITS, *_COPIES)
    ]
    waiting = [f"{row[0]}: {row[1]}" for row in rows if row[1] in WAITS and row[0] in ("training loop", "mixstage-loader")]
    notes = [
        f"Calls a step of {batch_size} images, {steps} steps. The profiler itself waits for the device once, at its end.",
        f"The training loop and the loader's thread wait in {', '.join(waiting)}." if waiting
        else "Neither the training loop nor the loader's thread waits for the device.",
    ]  # fmt: skip
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
