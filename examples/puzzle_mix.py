"""What CutMix, FMix and puzzle-mix make of the same pairs of digits, five outputs each.

    python examples/puzzle_mix.py --out puzzle_mix.png

A small net is trained on scikit-learn's digits; its input gradient is the saliency that puzzle-mix follows.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import Tensor

from mixstage.loaders.bench.puzzle_problems import load_digits, train_digits
from mixstage.mixops import CutMix, Key, MixPlan, mix_images
from mixstage.mixops.key import Stream
from mixstage.mixops.mixers.fmix import FMix
from mixstage.mixops.mixers.saliency.gradient import gradient_saliency
from mixstage.mixops.mixers.saliency.puzzle import PuzzleMix


def draw(path: Path, images: Tensor, saliency: Tensor, plans: dict[str, MixPlan]) -> None:
    """A row for each pair: the two images, their saliency, and the outputs of each mixer under their label weights."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    first = next(iter(plans.values()))
    pairs, k = first.weight.shape
    columns = 4 + k * len(plans)
    figure, axes = pyplot.subplots(pairs, columns, figsize=(columns, 1.25 * pairs), squeeze=False, layout="constrained")
    for i, row in enumerate(axes):
        partner = int(first.partner[i])
        cells = [("own", images[i, 0], "gray"), ("saliency", saliency[i], "viridis")]
        cells += [("partner", images[partner, 0], "gray"), ("saliency", saliency[partner], "viridis")]
        for name, plan in plans.items():
            mixed = mix_images(images, plan)
            for j in range(k):
                title = f"{name}\n{plan.weight[i, j]:.2f}" if j == 0 else f"{plan.weight[i, j]:.2f}"
                cells.append((title, mixed[i * k + j, 0], "gray"))
        for axis, (title, picture, colours) in zip(row, cells, strict=True):
            axis.imshow(picture.numpy(), cmap=colours)
            axis.set_title(title, fontsize=7)
            axis.axis("off")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


def main(
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("puzzle_mix.png"),
    pairs: Annotated[int, typer.Option(min=2)] = 6,
    interpolations: Annotated[int, typer.Option(min=1, help="Outputs of each pair.")] = 5,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Mix a few digits three ways and draw them."""
    images, labels = load_digits()
    model = train_digits(images, labels)
    rows = torch.from_numpy(Key(seed).uniform(Stream.ORDER, (pairs,))).mul(len(images)).long()
    images, labels = images[rows], labels[rows]
    saliency = gradient_saliency(model, images, labels)
    height, width = images.shape[2:]
    key = Key(seed)
    plans = {
        type(mixer).__name__: mixer.plan(key, batch_size=pairs, height=height, width=width)
        for mixer in (CutMix(1.0, interpolations=interpolations), FMix(1.0, interpolations=interpolations))
    }
    puzzle = PuzzleMix(1.0, interpolations=interpolations, block_num=16)
    plans["PuzzleMix"] = puzzle.plan(key, images=images, saliency=saliency)
    draw(out, images, saliency, plans)
    typer.echo(f"picture: {out}")


if __name__ == "__main__":
    typer.run(main)
