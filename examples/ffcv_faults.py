"""What FFCV's own mixing and its loader do wrong, one demonstration a fault: ``python examples/ffcv_faults.py lambda``.

Each makes a small .beton file, runs plain FFCV, and prints what it saw and what ``MixLoader`` does instead. The first batch
takes a while, for FFCV compiles its stages in every process.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import typer
from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import RandomResizedCropRGBImageDecoder, SimpleRGBImageDecoder
from ffcv.loader import Loader
from ffcv.pipeline.operation import Operation
from ffcv.transforms import ImageMixup, LabelMixup, MixupToOneHot, ToTensor
from PIL import Image

from mixstage.loaders.cli.convert import convert
from mixstage.mixops import MixUp
from mixstage.pipelines.ffcv import MixImage, MixLabel, MixLoader

app = typer.Typer(add_completion=False, no_args_is_help=True, help=__doc__)
CLASSES = 4
SIDE = 32
WAIT = 15.0  # seconds after which a wait counts as one for ever


def flat_images(folder: Path, count: int = 64, jpeg_share: float = 0.0) -> Path:
    """A file of images of one grey level each, so that a mixed pixel says with which lambda it was mixed."""
    for i in range(count):
        path = folder / "images" / f"{i * CLASSES // count}" / f"{i:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((SIDE, SIDE, 3), 4 * i % 256, np.uint8)).save(path)
    convert(folder / "images", folder / "images.beton", jpeg_share=jpeg_share)
    return folder / "images.beton"


def theirs(path: Path, *, same_lambda: bool, batch_size: int = 16, one_hot: bool = False) -> Any:
    """FFCV's loader with its own mixup."""
    labels = [IntDecoder(), LabelMixup(1.0, same_lambda), ToTensor(), *([MixupToOneHot(CLASSES)] if one_hot else [])]
    pipelines = {"image": [SimpleRGBImageDecoder(), ImageMixup(1.0, same_lambda), ToTensor()], "label": labels}
    return Loader(str(path), batch_size, 2, pipelines=pipelines)


def ours(path: Path, batch_size: int = 16, **options: Any) -> MixLoader:
    """The same with ours."""
    pipelines = {
        "image": [SimpleRGBImageDecoder(), MixImage(), ToTensor()],
        "label": [IntDecoder(), ToTensor(), MixLabel(CLASSES)],
    }
    return MixLoader(path, batch_size, 2, mixer=MixUp(1.0), pipelines=pipelines, **options)


def raw_batches(path: Path, batch_size: int) -> list[np.ndarray]:
    """The grey level of each image, unmixed."""
    loader = MixLoader(path, batch_size, 2, pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": None})
    return [images[:, 0, 0, 0].numpy().astype(float) for (images,) in loader]


def in_time(work: Callable[[], Any]) -> Any:
    """What ``work`` returns, or "still waiting"."""
    result: list[Any] = []

    def run() -> None:
        try:
            result.append(work())
        except BaseException as error:
            result.append(f"{type(error).__name__}: {error}")

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(WAIT)
    return result[0] if result else f"still waiting after {WAIT:.0f} s"


class Fails(Operation):
    """A stage with a mistake in it, at the third batch."""

    def __init__(self) -> None:
        super().__init__()
        self.seen = 0

    def declare_state_and_memory(self, previous_state: Any) -> tuple[Any, None]:
        return replace(previous_state, jit_mode=False), None

    def generate_code(self) -> Callable[[Any, Any], Any]:
        def run(x: Any, out: None) -> Any:
            self.seen += 1
            if self.seen == 3:
                raise ZeroDivisionError("a mistake in a stage")
            return x

        return run


@app.command("lambda")
def per_sample_lambda(workers: int = 2) -> None:
    """With a lambda per sample and two workers or more, pixels are mixed with another lambda than labels."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder), 512)
        batch = 256
        levels = raw_batches(path, batch)
        wrong = total = 0
        worst = 0.0
        for (images, labels), grey in zip(theirs(path, same_lambda=False, batch_size=batch), levels, strict=True):
            lam = labels[:, 2].numpy()
            off = np.abs(images[:, 0, 0, 0].numpy() - (lam * grey + (1 - lam) * np.roll(grey, 1)))
            wrong, total, worst = wrong + int((off > 1).sum()), total + len(off), max(worst, float(off.max()))
        print(f"FFCV: {wrong} of {total} have another lambda than their labels, by up to {worst:.0f} grey levels")
        loader, wrong = ours(path, batch), 0
        for (images, _), grey in zip(loader, levels, strict=True):
            assert loader.last is not None and loader.last.plan is not None
            lam, partner = loader.last.plan.weight[:, 0], loader.last.plan.partner
            wrong += int((np.abs(images[:, 0, 0, 0].numpy() - (lam * grey + (1 - lam) * grey[partner])) > 1).sum())
        print(f"MixLoader: {wrong} of {total}")


@app.command("epochs")
def every_epoch_alike() -> None:
    """Lambda is a function of the last sample's number: in sequential order it is the same in every epoch."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder))
        loader = theirs(path, same_lambda=True)
        for epoch in range(3):
            print(f"FFCV, epoch {epoch}:     ", [round(float(labels[0, 2]), 4) for _, labels in loader])
        mixed = ours(path)
        for epoch in range(3):
            shown = [round(float(mixed.last.plan.weight[0, 0]), 4) for _ in mixed if mixed.last and mixed.last.plan]
            print(f"MixLoader, epoch {epoch}:", shown)


@app.command("same-class")
def same_class_mass() -> None:
    """Where both images have one class, ``MixupToOneHot`` assigns instead of adding: the target sums to 1 - lambda."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder))
        for name, loader in (("FFCV", theirs(path, same_lambda=True, one_hot=True)), ("MixLoader", ours(path))):
            sums = np.concatenate([targets.sum(1).numpy() for _, targets in loader])
            bad = np.abs(sums - 1) > 1e-3
            print(f"{name}: {bad.sum()} of {len(sums)} targets do not sum to 1; the least sums to {sums.min():.3f}")


@app.command("rounding")
def truncation() -> None:
    """Mixed uint8 pixels are cut off, not rounded: images get darker by half a grey level."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder))
        levels = raw_batches(path, 16)
        errors = []
        for (images, labels), grey in zip(theirs(path, same_lambda=True), levels, strict=True):
            lam = labels[:, 2].numpy()
            errors.append(images[:, 0, 0, 0].numpy() - (lam * grey + (1 - lam) * np.roll(grey, 1)))
        print(f"FFCV: mean error {np.mean(errors):+.3f} grey levels")
        loader, errors = ours(path), []
        for (images, _), grey in zip(loader, levels, strict=True):
            assert loader.last is not None and loader.last.plan is not None
            lam, partner = loader.last.plan.weight[:, 0], loader.last.plan.partner
            errors.append(images[:, 0, 0, 0].numpy() - (lam * grey + (1 - lam) * grey[partner]))
        print(f"MixLoader: mean error {np.mean(errors):+.3f} grey levels")


@app.command("crops")
def seeding_of_crops() -> None:
    """``LabelMixup`` seeds the generator that random crops draw from: in sequential order, crops repeat every epoch."""
    with tempfile.TemporaryDirectory() as folder:
        for i in range(32):
            file = Path(folder, "images", str(i % 2), f"{i}.png")
            file.parent.mkdir(parents=True, exist_ok=True)
            noise = np.random.default_rng(i).integers(0, 256, (64, 64, 3), np.uint8)
            Image.fromarray(noise).save(file)
        path = Path(folder, "images.beton")
        convert(Path(folder, "images"), path, jpeg_share=0)
        own = [IntDecoder(), ToTensor()]
        for name, labels in (("with", [IntDecoder(), LabelMixup(1.0, True), ToTensor()]), ("without", own)):
            image = [RandomResizedCropRGBImageDecoder((16, 16)), ToTensor()]
            loader = Loader(str(path), 8, 1, pipelines={"image": image, "label": labels})
            epochs = [torch.cat([images.clone() for images, _ in loader]) for _ in range(3)]
            alike = (epochs[1] == epochs[2]).flatten(1).all(1)
            print(f"FFCV {name} LabelMixup: {int(alike.sum())} of {len(alike)} crops of epoch 2 are those of epoch 1")


@app.command("hang")
def exceptions() -> None:
    """An exception in a stage ends FFCV's thread; the training loop waits for ever. So does ``next()`` after the end."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder))
        for name, kind in (("FFCV", Loader), ("MixLoader", MixLoader)):
            pipelines = {"image": [SimpleRGBImageDecoder(), Fails(), ToTensor()], "label": None}
            loader = kind(str(path), 16, 2, pipelines=pipelines)
            print(f"{name}, a stage raises: {in_time(lambda loader=loader: sum(1 for _ in loader))}")
        for name, kind in (("FFCV", Loader), ("MixLoader", MixLoader)):
            batches = iter(kind(str(path), 32, 2, pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": None}))
            in_time(lambda batches=batches: list(batches))
            print(f"{name}, next() after the end: {in_time(lambda batches=batches: next(batches, 'stops'))}")


@app.command("break")
def early_break() -> None:
    """A ``break`` leaves FFCV's thread and its memory behind, for good."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder))
        for name, kind in (("FFCV", Loader), ("MixLoader", MixLoader)):
            loader = kind(str(path), 4, 2, pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": None})
            next(iter(loader))
            gc.collect()
            before = threading.active_count()
            for _ in range(10):
                for _ in loader:
                    break
            gc.collect()
            print(f"{name}: {threading.active_count() - before:+d} threads after 10 breaks")


@app.command("list")
def kept_batches() -> None:
    """Batches that are kept are overwritten by later ones."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder))
        for name, kind in (("FFCV", Loader), ("MixLoader", MixLoader)):
            loader = kind(str(path), 4, 2, pipelines={"image": [SimpleRGBImageDecoder(), ToTensor()], "label": None})
            expected = [images.clone() for (images,) in loader]
            held = [images for (images,) in loader]
            wrong = sum(not torch.equal(x, y) for x, y in zip(held, expected, strict=True))
            print(f"{name}: {wrong} of {len(held)} batches in list(loader) are overwritten")


@app.command("corrupt")
def corrupt_records() -> None:
    """A record that cannot be decoded is not noticed: the sample gets the pixels that were in its place before."""
    with tempfile.TemporaryDirectory() as folder:
        path = flat_images(Path(folder), jpeg_share=1.0)
        from mixstage.pipelines.ffcv.beton import Beton

        bad = 40
        at = int(Beton(path).images("image").pointer[bad])
        with open(path, "r+b") as file:
            file.seek(at)
            file.write(bytes(40))
        pipelines = {"image": [SimpleRGBImageDecoder(), ToTensor()], "label": None}
        loader = Loader(str(path), 4, 2, pipelines=pipelines)
        grey = np.concatenate([images[:, 0, 0, 0].numpy() for (images,) in loader])
        print(f"FFCV: sample {bad} should be grey {4 * bad} but has no header; it came with grey {grey[bad]}, no error")
        mixed = MixLoader(path, 4, 2, pipelines=pipelines)
        print(f"MixLoader: {in_time(lambda: sum(1 for _ in mixed))}")


@app.command("shrink")
def file_that_shrinks() -> None:
    """A file that is cut off while it is read ends the process."""
    code = """
import os, sys
from ffcv.fields.rgb_image import SimpleRGBImageDecoder
from ffcv.loader import Loader
from ffcv.transforms import ToTensor
from mixstage.pipelines.ffcv import MixLoader
path, kind = sys.argv[1:]
loader = {"FFCV": Loader, "MixLoader": MixLoader}[kind](path, 1, 2, batches_ahead=1, pipelines={
    "image": [SimpleRGBImageDecoder(), ToTensor()], "label": None})
for step, _ in enumerate(loader):
    if step == 0:
        os.truncate(path, 1 << 16)
"""
    for name in ("FFCV", "MixLoader"):
        with tempfile.TemporaryDirectory() as folder:
            path = flat_images(Path(folder))
            command = [sys.executable, "-c", code, str(path), name]
            done = subprocess.run(command, capture_output=True, text=True)
            last = done.stderr.strip().splitlines()[-1] if done.returncode == 1 else f"signal {-done.returncode}, no message"
            print(f"{name}: exit status {done.returncode}: {last}")


if __name__ == "__main__":
    app()
