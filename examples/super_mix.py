"""SuperMix: masks by which a teacher sees both images of a pair, of handwritten digits or of images and a teacher of yours.

    python examples/super_mix.py --out super_mix.png
    python examples/super_mix.py --data imagenet/val --model resnet50 --checkpoint resnet50.pth --mask-size 16 --sigma 2

The digits are scikit-learn's, and their teacher is a small net that is trained for a few seconds. Rows that are not done
when the steps are over are left out, as the authors do; a student would be trained on the rest, with the teacher's answers
as labels.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor, nn

from mixstage.loaders import ImageLoader
from mixstage.loaders.bench.puzzle_problems import load_digits, train_digits
from mixstage.loaders.cli.models import load_model
from mixstage.mixops import Key, mix_images
from mixstage.mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD
from mixstage.mixops.key import Stream
from mixstage.mixops.offline import SuperMixed, super_mix


@dataclass(frozen=True, eq=False)
class Problem:
    """A teacher, images (b, c, h, w) as it takes them, what brings these to [0, 1], and the names of its classes."""

    teacher: nn.Module
    images: Tensor
    mean: tuple[float, ...]
    std: tuple[float, ...]
    classes: list[str]

    def pixels(self, images: Tensor) -> np.ndarray:
        """Images to look at, (b, h, w, c) in [0, 1]."""
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.mean, self.std))
        return (images * std + mean).clamp(0, 1).permute(0, 2, 3, 1).numpy()


def digits(batch_size: int, seed: int) -> Problem:
    """Digits of scikit-learn and a net that has been trained on all of them."""
    images, labels = load_digits()
    chosen = torch.from_numpy(Key(seed).uniform(Stream.ORDER, (batch_size,))).mul(len(images)).long()
    return Problem(train_digits(images, labels), images[chosen], (0.0,), (1.0,), [str(digit) for digit in range(10)])


def photographs(data: Path, model: str, checkpoint: Path, size: int, batch_size: int, seed: int) -> Problem:
    """The first batch of a shuffled data set, and a trained model of torchvision or timm."""
    with ImageLoader(
        data, backend="torchvision", batch_size=batch_size, size=size, mixer=None, seed=seed, device="cpu", drop_last=False
    ) as loader:
        images, _ = next(iter(loader))
        classes = [str(name) for name in loader.classes]
    return Problem(load_model(checkpoint, model, len(classes)), images, IMAGENET_MEAN, IMAGENET_STD, classes)


def evenest(problem: Problem, found: SuperMixed, rows: int) -> list[int]:
    """The rows that are done, first those of several classes, of which the teacher is the least sure."""
    with torch.no_grad():
        said = problem.teacher(problem.images).argmax(1).numpy()[found.plan.sources]  # (b, s)
    alike = (said == said[:, :1]).all(1)
    sure = found.logits.softmax(1).amax(1).numpy()
    return sorted(np.flatnonzero(found.done).tolist(), key=lambda row: (alike[row], sure[row]))[:rows]


def draw(path: Path, problem: Problem, found: SuperMixed, shown: list[int]) -> None:
    """A row for each mixture: its images, their masks, the result under the teacher's highest answers."""
    from matplotlib.figure import Figure

    masks = found.plan.masks()[:, 0]
    images, mixed = problem.pixels(problem.images), problem.pixels(mix_images(problem.images, found.plan))
    count = masks.shape[1]
    figure = Figure(figsize=(1.4 * (2 * count + 1), 1.6 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), 2 * count + 1, squeeze=False)
    for row, i in zip(axes, shown, strict=True):
        probability, answer = found.logits[i].softmax(0).topk(count)
        answers = ", ".join(f"{problem.classes[c]}: {p:.2f}" for c, p in zip(answer, probability.tolist(), strict=True))
        cells = [(f"asked for {found.lam[i, j]:.2f}", images[s]) for j, s in enumerate(found.plan.sources[i])]
        cells += [(f"mask, mean {found.plan.weights[i, 0, j]:.2f}", masks[i, j]) for j in range(count)]
        for axis, (title, picture) in zip(row, [*cells, (answers, mixed[i])], strict=True):
            axis.imshow(picture, cmap="gray", vmin=0, vmax=1)
            axis.set_title(title, fontsize=8)
            axis.axis("off")
    figure.savefig(path, dpi=80)


def main(
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("super_mix.png"),
    data: Annotated[Path | None, typer.Option(help="Images that ImageLoader reads, in the place of digits.")] = None,
    model: Annotated[str, typer.Option(help="The teacher of these: of torchvision or timm, or small.")] = "resnet50",
    checkpoint: Annotated[Path | None, typer.Option(help="Its weights.", exists=True, dir_okay=False)] = None,
    size: Annotated[int, typer.Option(min=8, help="Of these images, in pixels.")] = 224,
    batch_size: Annotated[int, typer.Option(min=2)] = 32,
    sources: Annotated[int, typer.Option(min=2, max=3, help="Images of each row.")] = 2,
    mask_size: Annotated[int, typer.Option(min=1, help="Cells of a mask's side.")] = 8,
    sigma: Annotated[float, typer.Option(min=0, help="Of the smoothing, in cells.")] = 1.0,
    rows: Annotated[int, typer.Option(min=1, help="Rows that are drawn.")] = 4,
    steps: Annotated[int, typer.Option(min=1, help="The most steps of a row.")] = 50,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Mixes a batch by a teacher and draws a few rows."""
    from rich.console import Console

    if (data is None) != (checkpoint is None):
        raise typer.BadParameter("--data and --checkpoint go together")
    console = Console()
    with console.status("loading the teacher" if checkpoint else "training the teacher"):
        if data is None or checkpoint is None:
            problem = digits(batch_size, seed)
        else:
            problem = photographs(data, model, checkpoint, size, batch_size, seed)
    problem.teacher.eval()
    with console.status("mixing"):
        found = super_mix(
            problem.teacher, problem.images, key=Key(seed), sources=sources, mask_size=mask_size, sigma=sigma, steps=steps
        )
    console.print(f"done: {found.done.sum()} of {len(problem.images)} rows")
    shown = evenest(problem, found, rows)
    if shown:
        draw(out, problem, found, shown)
        console.print(f"picture: {out}")


if __name__ == "__main__":
    typer.run(main)
