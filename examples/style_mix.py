"""StyleMix and StyleCutMix of two photographs, yours or scikit-learn's, by a style network.

    python examples/style_mix.py --out style_mix.png
    python examples/style_mix.py --photos holiday --vgg vgg_normalised.pth --decoder decoder.pth --side 224

The second is the authors' network, VGG-19 up to relu4_1 and the decoder of arXiv 1703.06868; its weights are those of
https://github.com/naoto0804/pytorch-AdaIN. The first trains a tiny one on the photographs for a minute: it knows colours and
contrasts and no brush strokes. Any pair of functions does for ``mix_styles(images, plan, encoder, decoder)``.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image, ImageOps
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from mixstage.loaders.sources.folder import EXTENSIONS
from mixstage.mixops import Key
from mixstage.mixops.offline import StyleCutMix, StyleMix, StylePlan, adaptive_instance_norm, mix_styles, mix_styles_in_boxes

MOST = 64  # photographs that are read


def photographs(folder: Path | None, side: int) -> Tensor:
    """The middle of the photographs in a folder, or of scikit-learn's temple and flower: (n, 3, side, side) in [0, 1]."""
    if folder is None:
        from sklearn.datasets import load_sample_images

        pictures = [Image.fromarray(image) for image in load_sample_images().images]
    else:
        files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in EXTENSIONS)
        pictures = [Image.open(file).convert("RGB") for file in files[:MOST]]
    if len(pictures) < 2:
        raise typer.BadParameter(f"--photos must hold two photographs at least, got {folder}")
    small = [np.asarray(ImageOps.fit(picture, (side, side), Image.Resampling.BICUBIC)) for picture in pictures]
    return torch.from_numpy(np.stack(small)).permute(0, 3, 1, 2).float() / 255


def train(images: Tensor, steps: int) -> tuple[nn.Module, nn.Module]:
    """An encoder to half the size and a decoder back: pictures are restored, restyled features stay what they are."""
    from rich.progress import track

    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Conv2d(3, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 32, 3, stride=2, padding=1), nn.ReLU())
    decoder = nn.Sequential(
        nn.Conv2d(32, 32, 3, padding=1), nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(32, 16, 3, padding=1), nn.ReLU(),
        nn.Conv2d(16, 3, 3, padding=1),
    )  # fmt: skip
    optimizer = torch.optim.Adam([*encoder.parameters(), *decoder.parameters()], lr=3e-3)
    for _ in track(range(steps), "training the style network"):
        flip = [dim for dim in (2, 3) if torch.rand(()) < 0.5]
        pair = images[torch.randperm(len(images))[:2]].flip(flip)
        features = encoder(pair)
        restyled = adaptive_instance_norm(features, features.flip(0)).detach()
        loss = mse_loss(decoder(features), pair) + 0.1 * mse_loss(encoder(decoder(restyled)), restyled)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return encoder.eval(), decoder.eval()


def convolution(before: int, after: int) -> list[nn.Module]:
    """One of the authors' network."""
    return [nn.ReflectionPad2d(1), nn.Conv2d(before, after, 3), nn.ReLU()]


def authors_network(vgg: Path, weights: Path) -> tuple[nn.Module, nn.Module]:
    """VGG-19 up to relu4_1, behind whose 31 layers the file may hold more, and the decoder back, with their weights."""
    encoder = nn.Sequential(
        nn.Conv2d(3, 3, 1), *convolution(3, 64), *convolution(64, 64), nn.MaxPool2d(2, ceil_mode=True),
        *convolution(64, 128), *convolution(128, 128), nn.MaxPool2d(2, ceil_mode=True),
        *convolution(128, 256), *(layer for _ in range(3) for layer in convolution(256, 256)),
        nn.MaxPool2d(2, ceil_mode=True), *convolution(256, 512),
    )  # fmt: skip
    decoder = nn.Sequential(
        *convolution(512, 256), nn.Upsample(scale_factor=2), *(layer for _ in range(3) for layer in convolution(256, 256)),
        *convolution(256, 128), nn.Upsample(scale_factor=2), *convolution(128, 128), *convolution(128, 64),
        nn.Upsample(scale_factor=2), *convolution(64, 64), *convolution(64, 3)[:2],
    )  # fmt: skip
    held = torch.load(vgg, map_location="cpu", weights_only=True)
    encoder.load_state_dict({name: value for name, value in held.items() if int(name.split(".")[0]) < len(encoder)})
    decoder.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return encoder.eval(), decoder.eval()


def of_shares(content: float, style: float) -> StylePlan:
    """A plan with given shares of both pictures, the least of them together. A mixer draws them: ``StyleMix(alpha=0.5)``."""
    c, s = np.full((2, 1), float(content)), np.full((2, 1), float(style))
    return StylePlan(np.array([1, 0]), c, s, np.maximum(0, c + s - 1), np.ones(2, bool))


def panels(images: Tensor, encoder: nn.Module, decoder: nn.Module) -> list[tuple[str, Tensor]]:
    """What both make of the first picture, with the weight of its label."""
    found = [("own image", images[0]), ("partner", images[1])]
    for c, s in ((1, 1), (1, 0), (0, 1), (0.5, 0.5)):
        plan = of_shares(c, s)
        name = f"content {c:g}, style {s:g}"
        found.append((f"{name}\nown label {plan.labels.weight[0, 0]:.2f}", mix_styles(images, plan, encoder, decoder)[0]))
    drawn = (StyleMix().plan(Key(seed), batch_size=2) for seed in range(1000))
    plan = next(plan for plan in drawn if 0.3 < plan.content[0, 0] < 0.7 and 0.3 < plan.style[0, 0] < 0.7)
    label = plan.labels.weight[0, 0]
    found.append((f"StyleMix\nown label {label:.2f}", mix_styles(images, plan, encoder, decoder)[0]))
    side = images.shape[-1]
    boxes = (StyleCutMix().plan(Key(seed), batch_size=2, height=side, width=side) for seed in range(1000))
    cut = next(plan for plan in boxes if 0.3 < plan.content.weight[0, 0] < 0.5)
    cut = replace(cut, style=np.full((2, 1), 0.5), gamma=np.full(2, 0.2))
    label = cut.labels.weight[0, 0]
    found.append((f"StyleCutMix\nown label {label:.2f}", mix_styles_in_boxes(images, cut, encoder, decoder)[0]))
    return found


def main(
    out: Annotated[Path, typer.Option(help="Where the picture goes.")] = Path("style_mix.png"),
    photos: Annotated[
        Path | None, typer.Option(help="A folder of photographs; the first two are mixed.", exists=True, file_okay=False)
    ] = None,
    vgg: Annotated[Path | None, typer.Option(help="Weights of the authors' encoder.", exists=True, dir_okay=False)] = None,
    decoder: Annotated[Path | None, typer.Option(help="And of its decoder.", exists=True, dir_okay=False)] = None,
    steps: Annotated[int, typer.Option(min=1, help="Of training the tiny network.")] = 400,
    side: Annotated[int, typer.Option(min=32, help="Of the pictures, in pixels: a multiple of 8.")] = 96,
) -> None:
    """Mixes two photographs in content and style and draws what comes out."""
    from matplotlib.figure import Figure

    if side % 8 or (vgg is None) != (decoder is None):
        raise typer.BadParameter("--side must be a multiple of 8, and --vgg and --decoder go together")
    images = photographs(photos, side)
    networks = train(images, steps) if vgg is None or decoder is None else authors_network(vgg, decoder)
    found = panels(images[:2], *networks)
    figure = Figure(figsize=(1.9 * len(found) / 2, 4.8), layout="constrained")
    for axis, (title, picture) in zip(figure.subplots(2, len(found) // 2).flat, found, strict=True):
        axis.imshow(picture.clamp(0, 1).permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(out, dpi=80)
    typer.echo(f"picture: {out}")


if __name__ == "__main__":
    typer.run(main)
