"""Digits moved into one another by OptTransMix, beside what mixup makes of them.

    python examples/opt_trans_mix.py --out opt_trans_mix.png

Two rows for each pair: mixup above, its Wasserstein barycentres below, both with the same shares and the same labels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from torch import Tensor

from mixstage.loaders.bench.puzzle_problems import load_digits
from mixstage.mixops import Key, MixPlan, mix_images
from mixstage.mixops.key import Stream
from mixstage.mixops.masks import constant_masks
from mixstage.mixops.offline import opt_trans_mix


def shares_of_pairs(pairs: int, outputs: int, side: int) -> MixPlan:
    """Row i with row i + pairs, its share falling from 1 to 0 over the outputs. A mixer would draw it: ``MixUp(1.0)``."""
    partner = np.roll(np.arange(2 * pairs), pairs)
    own = np.tile(np.linspace(1, 0, outputs), (2 * pairs, 1))
    return MixPlan(partner, own, own.copy(), constant_masks(own), side, side)


def draw(path: Path, rows: list[tuple[str, Tensor]], shares: np.ndarray) -> None:
    """A row of pictures for each name."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(1.2 * len(shares) + 1, 1.25 * len(rows)), layout="constrained")
    axes = figure.subplots(len(rows), len(shares), squeeze=False)
    for i, (name, pictures) in enumerate(rows):
        for axis, picture, share in zip(axes[i], pictures, shares, strict=True):
            axis.imshow(picture[0].numpy(), cmap="gray", vmin=0, vmax=1)
            axis.set(xticks=[], yticks=[])
            if i == 0:
                axis.set_title(f"own label {share:.2f}", fontsize=9)
        axes[i, 0].set_ylabel(name, fontsize=9)
    figure.savefig(path, dpi=90)


def main(
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("opt_trans_mix.png"),
    pairs: Annotated[int, typer.Option(min=1, help="Pairs of digits.")] = 2,
    outputs: Annotated[int, typer.Option(min=2, help="Outputs of each pair.")] = 7,
    eps: Annotated[float, typer.Option(min=1e-8, help="The entropy's weight; smaller is sharper and slower.")] = 0.002,
    iterations: Annotated[int, typer.Option(min=1)] = 100,
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Mixes a few digits both ways and draws them."""
    images, _ = load_digits()
    rows = torch.from_numpy(Key(seed).uniform(Stream.ORDER, (2 * pairs,))).mul(len(images)).long()
    images = images[rows]
    plan = shares_of_pairs(pairs, outputs, images.shape[-1])
    blends = mix_images(images, plan).unflatten(0, (-1, outputs))
    moved = opt_trans_mix(images, plan, eps=eps, iterations=iterations).unflatten(0, (-1, outputs))
    pictures = [row for i in range(pairs) for row in (("mixup", blends[i]), ("OptTransMix", moved[i].clamp(0, 1)))]
    draw(out, pictures, plan.weight[0])
    typer.echo(f"picture: {out}")


if __name__ == "__main__":
    typer.run(main)
