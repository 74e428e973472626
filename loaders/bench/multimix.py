"""What embedding MultiMix costs: the loss alone in three forms, its memory, and a whole training step.

The three forms are those of ``multimix_losses``. Every figure is forward and backward, the draw included; ``peak_memory``
says what is counted as memory.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from ..figures import Json
from .measure import Report, alternate, conditions, quartiles, relative
from .multimix_losses import FORMS, Case, load_kernels, loss_call, loss_calls
from .multimix_step import STEPS, training_step
from .peak_memory import peak_memory

CASES = (Case(1, 512, 100), Case(16, 512, 100), Case(49, 512, 100), Case(16, 2048, 1000), Case(49, 2048, 1000))
TIMED = CASES[:4]  # at r = 49 and c = 1000 the literal loss takes a quarter of a minute


def loss_report(rounds: int, device: torch.device, cases: tuple[Case, ...] = TIMED) -> Report:
    """Milliseconds of the three forms and their ratio to the literal one, round by round."""
    rows = []
    for case in cases:
        seconds = alternate(loss_calls(case, device), rounds=rounds, synchronize=_synchronize(device), describe=str(case))
        for form in FORMS:
            speed = quartiles(seconds["literal"] / seconds[form])
            rows.append([str(case), form, quartiles(seconds[form] * 1e3), speed])
    return Report(
        "MultiMix loss: forward and backward, Dirichlet draw included, m=128, n=1000",
        ("case", "form", "ms", "times as fast as literal"),
        rows,
        conditions(["numba"]),
        [
            f"Medians of {rounds} alternated rounds and quartiles, float32 on {device.type}. "
            "r > 1 is dense, with average attention."
        ],
    )


def memory_report(device: torch.device, cases: tuple[Case, ...] = CASES) -> Report:
    """Peak memory of one call above the inputs."""
    rows = []
    for case in cases:
        peaks = {form: peak_memory(loss_call, (case, form), device, load_kernels) for form in FORMS}
        rows += [[str(case), form, peaks[form] / 2**20, peaks["literal"] / peaks[form]] for form in FORMS]
    return Report(
        "MultiMix loss: peak memory above the inputs, m=128, n=1000",
        ("case", "form", "MiB", "times less than literal"),
        rows,
        conditions(["numba"]),
        ["Resident set of a fresh process each." if device.type == "cpu" else "torch's allocator."],
    )


def step_report(rounds: int, device: torch.device) -> Report:
    """A training step against the same step with cross-entropy, and with cross-entropy and a teacher's forward pass."""
    rows: list[list[Any]] = []
    models = ("resnet50", "vit_small_patch16_224") if device.type == "cuda" else ("small",)
    for model in models:
        names = [f"{name}: {form}" if form else name for name, form, _, _ in STEPS]
        calls = {name: training_step(device, model, i) for i, name in enumerate(names)}
        seconds = alternate(calls, rounds=rounds, warmup=2, synchronize=_synchronize(device), describe=model)
        for i, name in enumerate(names):
            peak = peak_memory(training_step, (model, i), device, load_kernels) / 2**20
            base = names[0] if STEPS[i][3] == 0 else names[5]
            rows.append([model, name, quartiles(seconds[name] * 1e3), relative(seconds, name, base), peak])
    if device.type != "cuda":
        rows += [[model, f"{name}: {form}" if form else name, None, None, None]
                 for model in ("resnet50", "vit_small_patch16_224") for name, form, _, _ in STEPS]  # fmt: skip
    return Report(
        "MultiMix in a training step, m=128, n=1000",
        ("model", "loss", "ms", "times cross-entropy", "peak MiB"),
        rows,
        conditions(["numba", "timm"]),
        [
            f"Medians of {rounds} alternated rounds and quartiles. Rows with distillation are compared with cross-entropy "
            "and a teacher's forward pass.",
            *(
                ["ResNet-50 and ViT-S/16 are for a GPU; none was at hand and their rows are empty."]
                if device.type == "cpu"
                else []
            ),
        ],
    )


def _synchronize(device: torch.device) -> Callable[[], None] | None:
    return torch.cuda.synchronize if device.type == "cuda" else None


def run(part: str = "step", rounds: int = 7, device: str | None = None, threads: int | None = None) -> Report:
    """One of the reports "loss", "memory" and "step". Raises ``ValueError`` for another name."""
    on = torch.device(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        if part == "loss":
            return loss_report(rounds, on)
        if part == "memory":
            return memory_report(on)
        if part == "step":
            return step_report(rounds, on)
    finally:
        torch.set_num_threads(before)
    raise ValueError(f"part must be 'loss', 'memory' or 'step', got {part!r}")


def multimix(
    part: Annotated[str, typer.Option(help="loss, memory or step.")] = "step",
    rounds: Annotated[int, typer.Option(min=1, help="Alternated rounds.")] = 7,
    device: Annotated[str | None, typer.Option(help="cpu or cuda; the GPU by default.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of torch on the CPU.")] = None,
    json_file: Json = None,
    save: Annotated[Path | None, typer.Option(help="Folder for multimix-PART-DEVICE.md and .json.")] = None,
) -> None:
    """Measure MultiMix: literal, commuted and streamed, dense and not, with distillation."""
    report = run(part, rounds, device, threads)
    report.tell(json_file)
    if save is not None:
        report.save(save, f"multimix-{part}-{'cpu' if report.conditions['GPU'] == 'none' else 'gpu'}")


if __name__ == "__main__":
    typer.run(multimix)
