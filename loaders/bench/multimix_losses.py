"""The three forms of the MultiMix loss that ``mixstage bench multimix`` compares.

*literal* is the paper's equations with torch's Dirichlet; *plain* classifies first and interpolates logits, by autograd,
with the same draw; *streamed* is ``MultiMix``.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Dirichlet

from mixops.embedding.attention import average_scores, normalise
from mixops.embedding.literal import View, literal_loss
from mixops.embedding.multimix import MultiMix
from mixops.key import Key

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


def losses(head: nn.Linear, tuples: int, dense: bool, distill: float = 0.0) -> dict[str, Callable[..., Tensor]]:
    """The loss in its three forms, each of (features (m, d) or tokens (m, r, d), labels, teacher or None)."""
    multimix = MultiMix(head, tuples, dense=dense, distill=distill)
    steps = iter(range(2**62))

    def draw(features: Tensor) -> Tensor:
        m, r = features.shape[0], features.shape[1] if dense else 1
        alpha = torch.empty(r, tuples, 1, device=features.device).uniform_(0.5, 2.0)
        return Dirichlet(alpha.expand(r, tuples, m).contiguous(), validate_args=False).sample()

    def view(features: Tensor, linear: nn.Linear) -> View:
        z, attention = features if dense else features[:, None], None
        if dense:
            with torch.autocast(z.device.type, enabled=False):
                attention = normalise(average_scores(z.float()), "relu")
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


def loss_call(device: torch.device, case: Case, form: str) -> Callable[[], None]:
    """``loss_calls`` of one form, on a device that comes first."""
    return loss_calls(case, device)[form]


def load_kernels() -> None:
    """A small case on the CPU, after which what ``MultiMix`` compiles is in memory."""
    loss_calls(Case(2, 8, 4, samples=4, tuples=4), torch.device("cpu"))["streamed"]()
