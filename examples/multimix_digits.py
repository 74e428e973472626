"""Handwritten digits with MultiMix and what it is compared with: accuracy, calibration, alignment, uniformity.

    python examples/multimix_digits.py --out multimix_digits.png

scikit-learn's 1,797 digits of 8x8 pixels, three quarters of them to train, a net of three convolutions whose last map
has 4x4 positions. As in the paper, every other step or so of MultiMix is one of input mixup (appendix A.1). Another
method is another entry of ``VARIANTS``. Do not expect the order of the paper's tables: with 128 images of ten classes,
Dirichlet targets are nearly uniform.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from torch import Tensor, nn

from mixstage.mixops import CutMix, EmaTeacher, Key, ManifoldMix, MixUp, MultiMix, soft_cross_entropy
from mixstage.mixops.key import Stream
from mixstage.mixops.mixers.base import Mixer
from mixstage.mixops.mixers.fmix import FMix
from mixstage.mixops.mixers.saliency.gradient import gradient_saliency
from mixstage.mixops.mixers.saliency.puzzle import PuzzleMix

BATCH = 128


class Net(nn.Module):
    """Digits (b, 1, 8, 8) to maps (b, 64, 4, 4), their average, and ten logits."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Sequential(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU())
        self.conv2 = nn.Sequential(nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.conv3 = nn.Sequential(nn.Conv2d(64, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU())
        self.fc = nn.Linear(64, 10)

    def maps(self, x: Tensor) -> Tensor:
        """The embedding of each position."""
        return self.conv3(self.conv2(self.conv1(x)))

    def embed(self, x: Tensor, dense: bool = False) -> Tensor:
        """The embeddings that the classifier takes."""
        return self.maps(x) if dense else self.maps(x).mean((2, 3))

    def forward(self, x: Tensor) -> Tensor:
        """The logits."""
        return self.fc(self.embed(x))


Step = Callable[[Tensor, Tensor, Key], Tensor]
"""The loss of one training step: (images, labels, key) -> loss."""


@dataclass(frozen=True)
class Variant:
    """A name and what makes the training step of a net and its teacher."""

    name: str
    step: Callable[[Net, EmaTeacher], Step]


def plain(net: Net, teacher: EmaTeacher) -> Step:
    """Cross-entropy."""
    return lambda x, y, key: F.cross_entropy(net(x), y)


def input_mix(mixer: Mixer) -> Callable[[Net, EmaTeacher], Step]:
    """Cross-entropy of images that any mixer has mixed."""

    def make(net: Net, teacher: EmaTeacher) -> Step:
        def step(x: Tensor, y: Tensor, key: Key) -> Tensor:
            images, targets = mixer(x, y, key=key, num_classes=10)
            return soft_cross_entropy(net(images), targets)

        return step

    return make


def puzzle(interpolations: int) -> Callable[[Net, EmaTeacher], Step]:
    """Cross-entropy of images that puzzle-mix has mixed by the net's own saliency."""
    mixer = PuzzleMix(1.0, interpolations=interpolations, std=[6 / 16])

    def make(net: Net, teacher: EmaTeacher) -> Step:
        def step(x: Tensor, y: Tensor, key: Key) -> Tensor:
            images, targets = mixer(x, y, key=key, num_classes=10, saliency=gradient_saliency(net, x, y))
            return soft_cross_entropy(net(images), targets)

        return step

    return make


def manifold(mixer: Mixer) -> Callable[[Net, EmaTeacher], Step]:
    """The same of hidden activations, or of the images, at random."""

    def make(net: Net, teacher: EmaTeacher) -> Step:
        mix = ManifoldMix(net, [0, "conv1", "conv2"], mixer)

        def step(x: Tensor, y: Tensor, key: Key) -> Tensor:
            return soft_cross_entropy(*mix(x, y, key=key, num_classes=10))

        return step

    return make


def multimix(dense: bool = False, distill: float = 0.0) -> Callable[[Net, EmaTeacher], Step]:
    """MultiMix in half of the steps, input mixup in the others."""

    def make(net: Net, teacher: EmaTeacher) -> Step:
        loss = MultiMix(net.fc, dense=dense, distill=distill)
        otherwise = input_mix(MixUp(1.0))(net, teacher)

        def step(x: Tensor, y: Tensor, key: Key) -> Tensor:
            if key.words(Stream.LAYER, 1)[0] % 2:
                return otherwise(x, y, key)
            seen = None
            if distill:
                with torch.no_grad():
                    seen = teacher.embed(x, dense), teacher.fc
            return loss(net.embed(x, dense), y, teacher=seen, key=key)

        return step

    return make


VARIANTS = [
    Variant("baseline", plain),
    Variant("input mixup", input_mix(MixUp(1.0))),
    Variant("CutMix", input_mix(CutMix(1.0))),
    Variant("FMix", input_mix(FMix(1.0))),
    Variant("puzzle-mix", puzzle(1)),
    Variant("multi-mix, K = 5", input_mix(MixUp(1.0, interpolations=5))),
    Variant("puzzle multi-mix, K = 5", puzzle(5)),
    Variant("manifold mixup", manifold(MixUp(1.0))),
    Variant("manifold multi-mix, K = 5", manifold(MixUp(1.0, interpolations=5))),
    Variant("MultiMix", multimix()),
    Variant("MultiMix + distil", multimix(distill=0.5)),
    Variant("MultiMix + dense", multimix(dense=True)),
    Variant("MultiMix + dense + distil", multimix(dense=True, distill=0.5)),
]


class Digits(NamedTuple):
    """Images (n, 1, 8, 8) of about zero mean and unit variance, and labels (n,)."""

    images: Tensor
    labels: Tensor


def load() -> tuple[Digits, Digits]:
    """The digits to train on and those held out."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (torch.from_numpy(data.data).float().view(-1, 1, 8, 8) - 4.9) / 6.0
    labels = torch.from_numpy(data.target).long()
    order = torch.from_numpy(Key(0).permutation(Stream.ORDER, len(labels)))
    train, test = order[:1348], order[1348:]
    return Digits(images[train], labels[train]), Digits(images[test], labels[test])


def train(variant: Variant, data: Digits, epochs: int, seed: int, on_step: Callable[[Net, Tensor], None]) -> Net:
    """Trains a net; ``on_step`` sees it and the loss after each step."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        net = Net()
    teacher = EmaTeacher(net, 0.95)
    step = variant.step(net, teacher)
    steps = len(data.labels) // BATCH
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.9, weight_decay=1e-4)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.1, total_steps=epochs * steps)
    for epoch in range(epochs):
        order = torch.from_numpy(Key(seed, epoch).permutation(Stream.ORDER, len(data.labels)))
        for number, rows in enumerate(order.split(BATCH)[:steps]):
            net.train()
            loss = step(data.images[rows], data.labels[rows], Key(seed, epoch, number))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            teacher.update(net)
            on_step(net, loss)
    return net


class Scores(NamedTuple):
    """Accuracy and expected calibration error in percent; alignment and uniformity (Wang and Isola, 2020)."""

    accuracy: float
    ece: float
    alignment: float
    uniformity: float


@torch.no_grad()
def evaluate(net: Net, data: Digits) -> Scores:
    """The scores on held-out digits."""
    net.eval()
    embedding = net.embed(data.images)
    confidence, guess = net.fc(embedding).softmax(1).max(1)
    right = (guess == data.labels).float()
    bins = (confidence * 15).long().clamp(max=14)
    gaps = torch.zeros(15).index_add_(0, bins, confidence - right).abs()  # |sum of conf - acc| of 15 bins
    z = F.normalize(embedding, dim=1)
    distances = torch.cdist(z, z).square()
    apart = ~torch.eye(len(z), dtype=torch.bool)
    same = (data.labels[:, None] == data.labels) & apart
    return Scores(
        100 * right.mean().item(), 100 * gaps.sum().item() / len(z), distances[same].mean().item(),
        distances[apart].mul(-2).exp().mean().log().item(),
    )  # fmt: skip


def draw(path: Path, scores: dict[str, list[Scores]]) -> None:
    """One panel a score, one bar a method."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    titles = ("accuracy, % (higher is better)", "ECE, % (lower)", "alignment (lower)", "uniformity (lower)")
    figure, panels = pyplot.subplots(1, 4, figsize=(16, 1 + 0.35 * len(scores)), sharey=True, layout="constrained")
    for panel, field, title in zip(panels, Scores._fields, titles, strict=True):
        values = torch.tensor([[getattr(run, field) for run in runs] for runs in scores.values()]).numpy()
        panel.barh(list(scores), values.mean(1), xerr=values.std(1), color="#4878a8", ecolor="#303030")
        panel.set_title(title, fontsize=10)
        if field == "accuracy":
            panel.set_xlim(max(0.0, values.min() - 1), 100)
    panels[0].invert_yaxis()
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("multimix_digits.png"),
    epochs: Annotated[int, typer.Option(min=1)] = 40,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each method.")] = 3,
) -> None:
    """Train every variant, print the table, draw the picture."""
    data, held_out = load()
    scores: dict[str, list[Scores]] = {variant.name: [] for variant in VARIANTS}
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=len(VARIANTS) * seeds * epochs * (len(data.labels) // BATCH))
        for seed in range(seeds):
            for variant in VARIANTS:
                progress.update(task, description=f"{variant.name}, seed {seed}")
                net = train(variant, data, epochs, seed, lambda net, loss: progress.advance(task))
                scores[variant.name].append(evaluate(net, held_out))
    table = Table(
        "method", "accuracy, %", "ECE, %", "alignment", "uniformity", title=f"Digits, {epochs} epochs, {seeds} seeds"
    )
    for name, runs in scores.items():
        values = torch.tensor(runs)
        mean, spread = values.mean(0), values.std(0, correction=0)
        table.add_row(name, *[f"{m:.2f} ± {s:.2f}" for m, s in zip(mean.tolist(), spread.tolist(), strict=True)])
    Console().print(table)
    draw(out, scores)
    typer.echo(f"picture: {out}")


if __name__ == "__main__":
    typer.run(main)
