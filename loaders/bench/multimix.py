"""What embedding MultiMix costs: the loss alone in three forms, its memory, and a whole training step.

*literal* is the paper's equations with torch's Dirichlet; *plain* classifies first and interpolates logits, by autograd,
with the same draw; *streamed* is ``MultiMix``. Every figure is forward and backward, the draw included. Memory on the CPU is
the peak of the resident set of a process of its own above what it held before the call, on a GPU that of torch's allocator.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import torch
import torch.nn.functional as F
import typer
from torch import Tensor, nn
from torch.distributions import Dirichlet

from mixops.embedding.attention import average_scores, normalise
from mixops.embedding.literal import View, literal_loss
from mixops.embedding.multimix import MultiMix
from mixops.embedding.teacher import EmaTeacher
from mixops.key import Key

from .measure import Report, alternate, conditions, quartiles, relative

FORMS = ("literal", "plain", "streamed")


@dataclass(frozen=True)
class Case:
    """A batch of m embeddings of d channels at r positions, c classes, n tuples."""

    positions: int
    channels: int
    classes: int
    samples: int = 128
    tuples: int = 1000

    def __str__(self) -> str:
        return f"r={self.positions} d={self.channels} c={self.classes}"


CASES = (Case(1, 512, 100), Case(16, 512, 100), Case(49, 512, 100), Case(16, 2048, 1000), Case(49, 2048, 1000))
TIMED = CASES[:4]  # at r = 49 and c = 1000 the literal loss takes a quarter of a minute


def losses(head: nn.Linear, tuples: int, dense: bool, distill: float = 0.0) -> dict[str, Callable[..., Tensor]]:
    """The loss in its three forms, each of (features (m, d) or tokens (m, r, d), labels, teacher or None)."""
    multimix = MultiMix(head, tuples, dense=dense, distill=distill)
    steps = iter(range(2**62))

    def draw(features: Tensor) -> Tensor:
        m, r = features.shape[0], features.shape[1] if dense else 1
        alpha = torch.empty(r, tuples, 1, device=features.device).uniform_(0.5, 2.0)
        return Dirichlet(alpha.expand(r, tuples, m).contiguous(), validate_args=False).sample()

    def view(features: Tensor, linear: nn.Linear) -> View:
        z = features if dense else features[:, None]
        attention = normalise(average_scores(z.float()), "relu") if dense else None
        return View(z, lambda x: F.linear(x, linear.weight, linear.bias), attention)

    def literal(features: Tensor, labels: Tensor, teacher: tuple[Tensor, nn.Linear] | None = None) -> Tensor:
        targets = F.one_hot(labels, head.out_features).float()
        seen = None if teacher is None else view(*teacher)
        return literal_loss(view(features, head), lambda c: targets, draw(features), distill=distill, teacher=seen)

    def plain(features: Tensor, labels: Tensor, teacher: tuple[Tensor, nn.Linear] | None = None) -> Tensor:
        targets, lam = F.one_hot(labels, head.out_features).float(), draw(features)

        def interpolate(v: View) -> tuple[Tensor, Tensor, Tensor]:
            weights = lam if v.attention is None else lam * v.attention.T[:, None]
            s = weights.sum(-1)
            weights = weights / s[..., None]
            return weights @ v.classify(v.features).float().transpose(0, 1), weights, s

        student = view(features, head)
        logits, weights, s = interpolate(student)
        cross = student.classify(student.features).float().transpose(0, 1) @ targets.T  # (r, m, m)
        entropy = logits.logsumexp(-1)
        right = ((weights @ cross.mT) * weights).sum(-1)
        if teacher is not None:
            with torch.no_grad():
                p = interpolate(view(*teacher))[0].softmax(-1)
            right = (1 - distill) * right + distill * (p * logits).sum(-1)
        return (((entropy - right) * s).sum(1) / s.sum(1)).mean()

    def streamed(features: Tensor, labels: Tensor, teacher: tuple[Tensor, nn.Linear] | None = None) -> Tensor:
        return multimix(features, labels, teacher=teacher, key=Key(step=next(steps)))

    return {"literal": literal, "plain": plain, "streamed": streamed}


def loss_calls(case: Case, device: torch.device) -> dict[str, Callable[[], None]]:
    """Forward and backward of the loss of a case in its three forms."""
    torch.manual_seed(0)
    dense = case.positions > 1
    head = nn.Linear(case.channels, case.classes).to(device)
    shape = (case.samples, *([case.positions] if dense else []), case.channels)
    features = torch.randn(shape, device=device).relu_().requires_grad_()
    labels = torch.randint(case.classes, (case.samples,), device=device)

    def call(loss: Callable[..., Tensor]) -> Callable[[], None]:
        def run() -> None:
            features.grad = None
            head.zero_grad()
            loss(features, labels).backward()

        return run

    return {form: call(loss) for form, loss in losses(head, case.tuples, dense).items()}


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
        peaks = {form: peak_memory(_loss_call, (case, form), device) for form in FORMS}
        rows += [[str(case), form, peaks[form] / 2**20, peaks["literal"] / peaks[form]] for form in FORMS]
    return Report(
        "MultiMix loss: peak memory above the inputs, m=128, n=1000",
        ("case", "form", "MiB", "times less than literal"),
        rows,
        conditions(["numba"]),
        ["Resident set of a fresh process each." if device.type == "cpu" else "torch's allocator."],
    )


def _loss_call(device: torch.device, case: Case, form: str) -> Callable[[], None]:
    return loss_calls(case, device)[form]


class SmallNet(nn.Module):
    """A net of three convolutions for the CPU: images of 32 pixels to 4 x 4 positions of 128 channels."""

    def __init__(self, classes: int = 100) -> None:
        super().__init__()
        widths = (3, 32, 64, 128)
        self.stages = nn.Sequential(*[
            nn.Sequential(nn.Conv2d(a, b, 3, 2, 1), nn.BatchNorm2d(b), nn.ReLU()) for a, b in pairwise(widths)
        ])  # fmt: skip
        self.fc = nn.Linear(128, classes)

    def forward_features(self, x: Tensor) -> Tensor:
        """The map before the average."""
        return self.stages(x)


def build(name: str, classes: int) -> tuple[nn.Module, str, int]:
    """A model with ``forward_features``, the name of its classifier, and the side of its images."""
    if name == "small":
        return SmallNet(classes), "fc", 32
    try:
        import timm
    except ImportError as error:
        raise ImportError(f"{name} needs timm: pip install 'mixstage[bench]'") from error
    model = timm.create_model(name, num_classes=classes)
    return model, "fc" if hasattr(model, "fc") else "head", 224


STEPS: tuple[tuple[str, str | None, bool, float], ...] = (
    ("cross-entropy", None, False, 0.0), ("MultiMix", "literal", False, 0.0), ("MultiMix", "streamed", False, 0.0),
    ("dense", "literal", True, 0.0), ("dense", "streamed", True, 0.0),
    ("cross-entropy + teacher forward", None, False, 0.5), ("distilled", "literal", False, 0.5),
    ("distilled", "streamed", False, 0.5),
    ("dense, distilled", "literal", True, 0.5), ("dense, distilled", "streamed", True, 0.5),
)  # fmt: skip


def training_step(device: torch.device, model_name: str, index: int, batch_size: int = 128) -> Callable[[], None]:
    """One step of SGD: bfloat16 and channels-last on a GPU, float32 on the CPU."""
    torch.manual_seed(0)
    _, form, dense, distill = STEPS[index]
    model, classifier, size = build(model_name, 100 if model_name == "small" else 1000)
    model = model.to(device)
    if device.type == "cuda":
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    teacher = EmaTeacher(model) if distill else None
    head: Any = getattr(model, classifier)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.9)
    images = torch.randn(batch_size, 3, size, size, device=device)
    if device.type == "cuda":
        images = images.to(memory_format=torch.channels_last)
    labels = torch.randint(head.out_features, (batch_size,), device=device)
    loss = None if form is None else losses(head, 1000, dense, distill)[form]

    def embed(net: Any) -> Tensor:
        features = net.forward_features(images)
        if features.ndim == 4:
            features = features.flatten(2).mT  # (m, d, h, w) -> (m, r, d)
        elif net.num_prefix_tokens:
            features = features[:, net.num_prefix_tokens :] if dense else features[:, :1]
        return features if dense else features.mean(1)

    def step() -> None:
        optimizer.zero_grad()
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            seen = None
            if teacher is not None:
                with torch.no_grad():
                    seen = embed(teacher), getattr(teacher, classifier)
            features = embed(model)
            value = F.cross_entropy(head(features), labels) if loss is None else loss(features, labels, seen)
        value.backward()
        optimizer.step()
        if teacher is not None:
            teacher.update(model)

    return step


def step_report(rounds: int, device: torch.device) -> Report:
    """A training step against the same step with cross-entropy, and with cross-entropy and a teacher's forward pass."""
    rows: list[list[Any]] = []
    models = ("resnet50", "vit_small_patch16_224") if device.type == "cuda" else ("small",)
    for model in models:
        names = [f"{name}: {form}" if form else name for name, form, _, _ in STEPS]
        calls = {name: training_step(device, model, i) for i, name in enumerate(names)}
        seconds = alternate(calls, rounds=rounds, warmup=2, synchronize=_synchronize(device), describe=model)
        for i, name in enumerate(names):
            peak = peak_memory(training_step, (model, i), device) / 2**20
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


def peak_memory(make: Callable[..., Callable[[], None]], arguments: tuple[Any, ...], device: torch.device) -> int:
    """Peak bytes of one call of ``make(device, *arguments)`` above what was held before it."""
    if device.type == "cuda":
        call = make(device, *arguments)
        call()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        held = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - held
    from multiprocessing import get_context

    with get_context("spawn").Pool(1) as pool:
        return pool.apply(_resident_peak, (make, arguments, torch.get_num_threads()))


def _resident_peak(make: Callable[..., Callable[[], None]], arguments: tuple[Any, ...], threads: int) -> int:
    from ctypes import CDLL

    torch.set_num_threads(threads)
    loss_calls(Case(2, 8, 4, samples=4, tuples=4), torch.device("cpu"))["streamed"]()  # loads the kernels
    call = make(torch.device("cpu"), *arguments)
    gc.collect()
    CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    held = _status("VmRSS")
    call()
    return _status("VmHWM") - held


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(field):
            return int(line.split()[1]) * 1024
    raise OSError(f"/proc/self/status must have a line {field}")


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
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the figures to this file.")] = None,
    save: Annotated[Path | None, typer.Option(help="Folder for multimix-PART-DEVICE.md and .json.")] = None,
) -> None:
    """Measure MultiMix: literal, commuted and streamed, dense and not, with distillation."""
    report = run(part, rounds, device, threads)
    report.show()
    if json_file is not None:
        json_file.write_text(report.json() + "\n")
    if save is not None:
        report.save(save, f"multimix-{part}-{'cpu' if report.conditions['GPU'] == 'none' else 'gpu'}")


if __name__ == "__main__":
    typer.run(multimix)
