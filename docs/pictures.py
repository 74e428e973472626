"""Draws docs/pictures/*.jpg: what each mixer makes of scikit-learn's two photographs (CC BY 2.0, danielbuechele, vultilion).

python docs/pictures.py                  all of them
python docs/pictures.py stylemix cutmix  those of these pages

Those of `mixops.offline` are what the examples draw: scikit-learn's photographs and digits, and networks trained on them.
"""

import sys
from pathlib import Path
from runpy import run_path

import matplotlib

matplotlib.use("Agg")
import numpy as np
import torch
from matplotlib import pyplot
from sklearn.datasets import load_sample_images
from torch.nn.functional import avg_pool2d, interpolate

from mixops import CoMixUp, CutMix, FMix, GMix, HMix, Key, MixPlan, MixUp, OptimalMatching, PuzzleMix, mix_images
from mixops.mixers.base import Mixer
from mixops.mixers.multi.base import SharesMixer
from mixops.mixers.registry import REGISTRY

FOLDER = Path(__file__).parent / "pictures"
EXAMPLES = Path(__file__).parents[1] / "examples"
OFFLINE = {  # page, example, its options
    "opttransmix": ("opt_trans_mix", {"pairs": 2}),
    "stylemix": ("style_mix", {}),
    "supermix": ("super_mix", {"rows": 3}),
}
SIDE = 192
OVERVIEW: tuple[tuple[str, Mixer], ...] = (
    ("MixUp", MixUp(1.0)),
    ("CutMix", CutMix(1.0)),
    ("HMix", HMix(1.0, r=0.75)),
    ("GMix", GMix(1.0)),
    ("FMix", FMix(1.0)),
    ("PuzzleMix", PuzzleMix(1.0)),
    ("SaliencyMix", CutMix(1.0, centre="saliency")),
    ("multi-mix", GMix(1.0, interpolations=3)),
)
MIXERS = {entry.page: entry.picture() for entry in REGISTRY}
MIXERS |= {"multi-mix": GMix(1.0, interpolations=3), "saliencymix": CutMix(1.0, centre="saliency")}


def photographs() -> torch.Tensor:
    """The temple and the flower, uint8 (2, 3, 192, 192)."""
    pictures = [torch.from_numpy(image[:, 106:533].copy()).permute(2, 0, 1)[None] for image in load_sample_images().images]
    small = [interpolate(picture.float(), (SIDE, SIDE), mode="bilinear", antialias=True) for picture in pictures]
    return torch.cat(small).round().clamp(0, 255).to(torch.uint8)


def edges(images: torch.Tensor) -> torch.Tensor:
    """Where a picture changes, in the place of a model's saliency: (b, h, w)."""
    grey = images.float().mean(1, keepdim=True)
    change = (grey - avg_pool2d(grey, 9, 1, 4)).abs()
    return avg_pool2d(change, 9, 1, 4)[:, 0]


def draw(name: str, plan: MixPlan, images: torch.Tensor) -> None:
    """Both sources, then mask and result of every output of the first pair; of several, all sources and the result."""
    results = mix_images(images, plan).permute(0, 2, 3, 1).numpy()
    panels: list[tuple[str, np.ndarray]] = [("own image", images[0].permute(1, 2, 0).numpy())]
    if plan.more is not None:
        shares = zip(plan.sources[0], plan.weights[0, 0], strict=True)
        panels = [(f"share {share:.3f}", images[int(i)].permute(1, 2, 0).numpy()) for i, share in shares]
        panels.append(("mixed", results[0]))
        return show(name, panels)
    panels.append(("partner", images[int(plan.partner[0])].permute(1, 2, 0).numpy()))
    for k, weight in enumerate(plan.weight[0]):
        panels += [("mask", plan.mask()[0, k]), (f"own label {weight:.2f}", results[k])]
    show(name, panels)


def show(name: str, panels: list[tuple[str, np.ndarray]]) -> None:
    """Panels side by side, with a title each."""
    figure, axes = pyplot.subplots(1, len(panels), figsize=(1.9 * len(panels), 2.2), layout="constrained")
    for axis, (title, picture) in zip(axes, panels, strict=True):
        axis.imshow(picture, cmap="gray", vmin=0, vmax=1 if picture.ndim == 2 else 255)
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(FOLDER / f"{name}.jpg", dpi=80, pil_kwargs={"quality": 85})
    pyplot.close(figure)


def even(mixer: Mixer, images: torch.Tensor) -> MixPlan:
    """The first draw that shows both pictures."""
    size = {"batch_size": 2, "height": SIDE, "width": SIDE}
    plans = (mixer.plan(Key(seed), **size, images=images, saliency=edges(images)) for seed in range(1000))
    return next(plan for plan in plans if 0.45 < plan.weight[0].mean() < 0.65)


def recursion(name: str, mixer: Mixer, images: torch.Tensor) -> None:
    """Rows of four steps, each in the box of the next, by the first seed whose boxes are large enough to see."""
    size = {"batch_size": len(images), "height": SIDE, "width": SIDE}
    for seed in range(10_000):
        plans = [mixer.plan(Key(seed, step=step), **size) for step in range(4)]
        rows = [0]
        for plan in plans[:0:-1]:  # who is in the box of the last, and who in his
            rows.insert(0, int(plan.partner[rows[0]]))
        if all(0.5 < plan.weight[row, 0] < 0.8 for plan, row in zip(plans, rows, strict=True)):
            break
    panels: list[tuple[str, np.ndarray]] = []
    history = None
    for step, (plan, row) in enumerate(zip(plans, rows, strict=True)):
        history = mix_images(images.roll(step, 0), plan, history=history)
        panels.append((f"step {step}: own label {plan.weight[row, 0]:.2f}", history[row].permute(1, 2, 0).numpy()))
    show(name, panels)


def overview(images: torch.Tensor) -> None:
    """Both sources and every result of every mixer, in one picture of two rows."""
    panels = [("own image", images[0]), ("partner", images[1])]
    for name, mixer in OVERVIEW:
        plan = even(mixer, images)
        for k, (weight, result) in enumerate(zip(plan.weight[0], mix_images(images, plan), strict=False)):
            number = f" {k + 1}" if plan.interpolations > 1 else ""
            panels.append((f"{name}{number}: {weight:.2f} own", result))
    figure, axes = pyplot.subplots(2, len(panels) // 2, figsize=(1.9 * len(panels) // 2, 4.2), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, panels, strict=True):
        axis.imshow(picture.permute(1, 2, 0).numpy())
        axis.set_title(title, fontsize=9)
        axis.axis("off")
    figure.savefig(FOLDER / "overview.jpg", dpi=100, pil_kwargs={"quality": 85})
    pyplot.close(figure)


def draw_page(name: str, images: torch.Tensor) -> None:
    """The picture of one page."""
    eight = torch.cat([images, images.flip(3), images.roll(40, 3), images.flip(3).roll(40, 3)])
    if name in OFFLINE:
        script, options = OFFLINE[name]
        return run_path(str(EXAMPLES / f"{script}.py"))["main"](FOLDER / f"{name}.jpg", **options)
    if name == "overview":
        return overview(images)
    if name == "k-mixup":
        matched = MixUp(1.0, matching=OptimalMatching(4)).replace(draw="batch")
        plans = (matched.plan(Key(seed), batch_size=8, height=SIDE, width=SIDE, images=eight) for seed in range(1000))
        return draw(name, next(plan for plan in plans if 0.45 < plan.weight[0, 0] < 0.65), eight)
    mixer = MIXERS[name]
    if mixer.period > 1:
        return recursion(name, mixer, eight)
    if isinstance(mixer, (SharesMixer, CoMixUp)):
        return draw(name, mixer.plan(Key(2), images=eight), eight)
    return draw(name, even(mixer, images), images)


def main(names: list[str]) -> None:
    """Draws those of the pages named, or all of them."""
    known = ("overview", *MIXERS, "k-mixup", *OFFLINE)
    if unknown := set(names) - set(known):
        sys.exit(f"there are pictures of {', '.join(known)}, got {', '.join(sorted(unknown))}")
    FOLDER.mkdir(exist_ok=True)
    images = photographs()
    for number, name in enumerate(names or known, 1):
        print(f"{number} of {len(names or known)}: {FOLDER / name}.jpg")
        draw_page(name, images)


if __name__ == "__main__":
    main(sys.argv[1:])
