"""In the model: a training step with each form of MultiMix, with puzzle-mix, ManifoldMix and k-mixup, beside a plain one.

Time and memory of ResNet-50 and ViT-S/16, bfloat16 and channels-last, m = 128 images and n = 1000 tuples. The paper's dense
loss as it is written down stands beside ours.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch

from loaders.bench.device import Clocks, run_ahead
from loaders.bench.measure import Quartiles, Report, alternate, conditions, quartiles, relative
from loaders.bench.multimix_losses import losses
from loaders.bench.multimix_step import STEPS, training_step
from mixops import Key

from .model_steps import PLAIN, mixed_steps, normalised_images, puzzle
from .run import Reports, Run

_POSITIONS = {"resnet50": (2048, 49), "vit_small_patch16_224": (384, 196)}  # channels and positions of the embeddings
_COLUMNS = ("model", "step", "ms", "times the plain step", "peak MiB")
_BLOCKS = 1 << 20


def reports(run: Run) -> Reports:
    """Steps of each model, one model after the other; then the plans of puzzle-mix beside a plain step."""
    batch, tuples, models = (8, 16, ("small",)) if run.tiny else (128, 1000, tuple(_POSITIONS))
    if not run.tiny:
        forms = {(dense, distill) for _, form, dense, distill in STEPS if form == "streamed"}
        run_ahead([partial(_compile, *sizes, *form) for sizes in _POSITIONS.values() for form in sorted(forms)], "compiling")
    torch.backends.cudnn.benchmark = True
    told, rows = conditions(("timm", "triton")), []
    plain: dict[str, float] = {}
    for name in models:
        rows += _multimix_rows(name, run, batch, tuples)
        yield "model-steps-cuda", _report(rows, batch, tuples, told)
        mixed = _mixed_rows(name, run, batch)
        rows += mixed
        plain[name] = mixed[0][2].median / 1e3
        yield "model-steps-cuda", _report(rows, batch, tuples, told)
    yield "model-puzzle-cuda", _puzzle_report(run, batch, plain, told)


def _multimix_rows(name: str, run: Run, batch: int, tuples: int) -> list[list[Any]]:
    """Each form of MultiMix, beside cross-entropy, or cross-entropy and a teacher's forward pass."""
    torch._dynamo.reset()  # type: ignore[no-untyped-call]
    labels = [f"{what}: {_FORMS[form]}" if form else what for what, form, _, _ in STEPS]
    calls = {label: training_step(run.device, name, i, batch, tuples) for i, label in enumerate(labels)}
    units = [labels[0] if distill == 0 else labels[5] for _, _, _, distill in STEPS]
    return _rows(name, run, calls, dict(zip(labels, units, strict=True)))


_FORMS = {"literal": "as in the paper", "streamed": "mixstage"}


def _mixed_rows(name: str, run: Run, batch: int) -> list[list[Any]]:
    """What mixes images or activations."""
    calls = mixed_steps(name, run.device, batch, 4 if run.tiny else 16)
    return _rows(name, run, calls, dict.fromkeys(calls, PLAIN))


def _rows(name: str, run: Run, calls: dict[str, Callable[[], None]], units: dict[str, str]) -> list[list[Any]]:
    clocks = Clocks(run.device)
    seconds = alternate(calls, rounds=min(run.rounds, 7), warmup=2, synchronize=clocks.synchronize, describe=name)
    return [
        [name, step, quartiles(1e3 * seconds[step]), relative(seconds, step, units[step]), _peak(calls[step], run.device)]
        for step in calls
    ]


def _peak(call: Callable[[], None], device: torch.device) -> float | None:
    """MiB of torch's allocator above what was held before; None without one."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    held = torch.cuda.memory_allocated()
    call()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - held) / _BLOCKS


def _report(rows: list[list[Any]], batch: int, tuples: int, told: dict[str, str]) -> Report:
    notes = [
        f"m = {batch} images, n = {tuples} tuples; SGD, bfloat16 under autocast, channels-last. Medians of alternated "
        "rounds (quartiles in brackets). MultiMix is compared with cross-entropy of class numbers; with distillation, with "
        "cross-entropy and a teacher's forward pass; what mixes images, with cross-entropy of targets (m, classes). "
        "Peak: above what is held between steps.",
    ]
    return Report("Training steps with mixing in the model", _COLUMNS, list(rows), told, notes)


def _puzzle_report(run: Run, batch: int, plain: dict[str, float], told: dict[str, str]) -> Report:
    """The plans of puzzle-mix, saliency given."""
    clocks, blocks = Clocks(run.device), 4 if run.tiny else 16
    images = normalised_images(batch, 32 if run.tiny else run.size, run.device)
    saliency = images.square().mean(1)
    cases: dict[str, Callable[[], object]] = {}
    for k in (1, 5):
        for transport in (False, True):
            mixer = puzzle(k, transport=transport, block_num=blocks)
            what = f"K={k}, masks and transport" if transport else f"K={k}, masks"
            cases[what] = partial(mixer.plan, Key(), images=images, saliency=saliency)
    seconds = alternate(cases, rounds=min(run.rounds, 7), synchronize=clocks.synchronize, describe="puzzle-mix")
    rows: list[list[Any]] = []
    for what in cases:
        taken = quartiles(seconds[what])
        shares = [Quartiles(*(value / step for value in taken)) for step in plain.values()]
        rows.append([what, Quartiles(*(1e3 * value for value in taken)), *shares])
    notes = [
        f"{batch} pairs of images, {blocks} x {blocks} blocks, 3 labels, saliency given. The last columns are shares of the "
        "median plain step."
    ]
    return Report("Plans of puzzle-mix", ("plan", "ms", *(f"of a step of {name}" for name in plain)), rows, told, notes)


def _compile(channels: int, positions: int, dense: bool, distill: float) -> None:
    """Leaves the compiled loss in the caches on disk; run in a process of its own."""
    device = torch.device("cuda")
    head, shape = torch.nn.Linear(channels, 1000).to(device), (128, *([positions] if dense else []), channels)
    features = torch.randn(shape, device=device).relu_().requires_grad_()
    labels = torch.randint(1000, (128,), device=device)
    teacher = (features.detach(), head) if distill else None
    with torch.autocast("cuda", torch.bfloat16):
        losses(head, 1000, dense, distill)["streamed"](features, labels, teacher).backward()
