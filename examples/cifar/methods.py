"""The methods of the table: a line each, most of them an argument of the loader.

A method that mixes inside the model, or by the model's own saliency, has the loss of its step instead. Parameters are
those of the papers for CIFAR where they give them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from mixstage.mixops import (
    CutMix,
    Cutout,
    EmaTeacher,
    FMix,
    GMix,
    HMix,
    Key,
    ManifoldMix,
    MixUp,
    MultiMix,
    OptimalMatching,
    PuzzleMix,
    Sinkhorn,
    Switch,
    TrivialAugmentWide,
    ZetaMixUp,
    gradient_saliency,
    soft_cross_entropy,
)
from mixstage.mixops.key import Stream
from mixstage.mixops.mixers.base import Mixer

from .data import STD
from .networks import PreActResNet

Step = Callable[[Tensor, Tensor, Key], Tensor]
"""The loss of a training step: (images, targets, key) -> loss; targets are class numbers where the loader does not mix."""


@dataclass(frozen=True)
class Method:
    """What differs from the baseline.

    ``mixer``, ``augment``, ``repeats`` are the loader's. ``batches`` of the usual size are one step. ``step`` makes the loss
    where it is not the cross-entropy of what the loader gives. ``shuffled`` gives images each other's labels.
    """

    name: str
    mixer: Mixer | None = None
    augment: Any = None
    repeats: int = 1
    batches: int = 1
    smoothing: float = 0.0
    step: Callable[[PreActResNet, EmaTeacher], Step] | None = None
    teacher: bool = False
    shuffled: bool = False

    def loss(self, net: PreActResNet, teacher: EmaTeacher) -> Step:
        """The loss of a training step of this net."""
        return self.step(net, teacher) if self.step is not None else plain(net, self.smoothing)


def plain(net: PreActResNet, smoothing: float) -> Step:
    """Cross-entropy of what the loader gives; class numbers become rows, so that mixing by nothing changes no bit."""

    def step(images: Tensor, targets: Tensor, key: Key) -> Tensor:
        logits = net(images)
        if not targets.is_floating_point():
            targets = torch.nn.functional.one_hot(targets, logits.shape[1]).float()
        return soft_cross_entropy(logits.float(), targets, label_smoothing=smoothing)

    return step


def puzzle(interpolations: int) -> Callable[[PreActResNet, EmaTeacher], Step]:
    """Images that puzzle-mix has mixed by the net's own saliency."""
    mixer = PuzzleMix(1.0, interpolations=interpolations, std=STD)

    def make(net: PreActResNet, teacher: EmaTeacher) -> Step:
        def step(images: Tensor, labels: Tensor, key: Key) -> Tensor:
            saliency = gradient_saliency(net, images, labels)
            mixed, targets = mixer(images, labels, key=key, num_classes=net.fc.out_features, saliency=saliency)
            return soft_cross_entropy(net(mixed).float(), targets)

        return step

    return make


def manifold(mixer: Mixer, stages: Sequence[int] = (1, 2), align: Sinkhorn | None = None) -> Any:
    """Mixing of the images or of what a stage has made of them, whichever is drawn."""

    def make(net: PreActResNet, teacher: EmaTeacher) -> Step:
        mix = ManifoldMix(net, [0, *(f"stage{stage}" for stage in stages)], mixer, align)

        def step(images: Tensor, labels: Tensor, key: Key) -> Tensor:
            logits, targets = mix(images, labels, key=key, num_classes=net.fc.out_features)
            return soft_cross_entropy(logits.float(), targets)

        return step

    return make


def dense_alone(net: PreActResNet, teacher: EmaTeacher) -> Step:
    """The dense loss with nothing mixed: the cross-entropy of each position of the last map."""
    loss = MultiMix(net.fc, dense=True, attention="uniform")

    def step(images: Tensor, labels: Tensor, key: Key) -> Tensor:
        maps = net.embed(images, dense=True)
        m, positions = len(maps), maps[0, 0].numel()
        return loss(maps, labels, lam=torch.eye(m, device=maps.device).expand(positions, m, m))

    return step


def multimix(
    dense: bool = False, distill: float = 0.0, alpha: tuple[float, float] = (0.5, 2.0), attention: Any = "gap"
) -> Callable[[PreActResNet, EmaTeacher], Step]:
    """MultiMix in half of the steps, input mixup in the others (arXiv 2311.05538, appendix A.1)."""

    def make(net: PreActResNet, teacher: EmaTeacher) -> Step:
        loss, mixup = MultiMix(net.fc, alpha=alpha, dense=dense, attention=attention, distill=distill), MixUp(1.0)

        def step(images: Tensor, labels: Tensor, key: Key) -> Tensor:
            if key.words(Stream.LAYER, 1)[0] % 2:
                mixed, targets = mixup(images, labels, key=key, num_classes=net.fc.out_features)
                return soft_cross_entropy(net(mixed).float(), targets)
            seen = None
            if distill:
                with torch.no_grad():
                    seen = teacher.embed(images, dense), teacher.fc
            return loss(net.embed(images, dense), labels, teacher=seen, key=key)

        return step

    return make


METHODS = (
    Method("none"),
    Method("mixup", MixUp(1.0)),
    Method("CutMix", CutMix(1.0)),
    Method("mixup or CutMix", Switch([MixUp(1.0), CutMix(1.0)], draw="batch")),
    Method("HMix", HMix(1.0, r=0.5)),
    Method("GMix", GMix(0.5)),
    Method("FMix", FMix(1.0)),
    Method("SaliencyMix", CutMix(1.0, centre="saliency", prob=0.5, draw="batch")),
    Method("zeta-mixup", ZetaMixUp(2.8)),
    Method("k-mixup", MixUp(1.0, matching=OptimalMatching(k=16))),
    Method("manifold mixup", step=manifold(MixUp(2.0))),
    Method("AlignMixup", step=manifold(MixUp(2.0), stages=(3,), align=Sinkhorn())),
    Method("MultiMix", step=multimix()),
    Method("MultiMix, dense", step=multimix(dense=True)),
    Method("MultiMix, dense, distilled", step=multimix(dense=True, distill=0.5), teacher=True),
    Method("dense, nothing mixed", step=dense_alone),
    Method("MultiMix, dense, attention uniform", step=multimix(dense=True, attention="uniform")),
    Method("MultiMix, alpha 0.01", step=multimix(alpha=(0.01, 0.01))),
    Method("MultiMix, dense, alpha 0.01", step=multimix(dense=True, alpha=(0.01, 0.01))),
    Method("label smoothing", smoothing=0.1),
    Method("Cutout", augment=Cutout(16)),
    Method("TrivialAugment", augment=TrivialAugmentWide()),
    Method("TrivialAugment and CutMix", CutMix(1.0), augment=TrivialAugmentWide()),
    Method("puzzle-mix", step=puzzle(1)),
    Method("mixup, batch x 5", MixUp(1.0), batches=5),
    Method("none, batch x 5", batches=5),
    Method("none, labels shuffled", shuffled=True),
    Method("mixup, K = 3", MixUp(1.0, interpolations=3)),
    Method("mixup, K = 5", MixUp(1.0, interpolations=5)),
    Method("CutMix, K = 5", CutMix(1.0, interpolations=5)),
    Method("5 copies", repeats=5),
    Method("5 copies, mixup", MixUp(1.0), repeats=5),
    Method("puzzle-mix, K = 5", step=puzzle(5)),
)
"""In the order in which they are trained: those of one pass a step first, those that cost several last."""


def find(names: str) -> tuple[Method, ...]:
    """Methods by their names, parted by semicolons, or "all". Raises ``ValueError`` naming the unknown one."""
    if names == "all":
        return METHODS
    by_name = {method.name: method for method in METHODS}
    wanted = [name.strip() for name in names.split(";")]
    if unknown := [name for name in wanted if name not in by_name]:
        raise ValueError(f"methods must be 'all' or some of {list(by_name)}, got {unknown[0]!r}")
    return tuple(by_name[name] for name in wanted)
