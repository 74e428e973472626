"""CIFAR in memory: pad-4 crop, flip, CutMix, float32 batches of 512, beside torchvision's DataLoader of 2 workers.

    python -m benchmarks.arrays --save benchmarks/results

Both make the same kind of batch on the CPU. "After the crop" is mixing and normalising uint8 crops that are there, beside a
copy of the float32 result.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, default_collate
from torchvision.transforms import v2

from loaders import ImageLoader
from loaders.sources import Arrays
from mixops import CutMix, Key, PaddedRandomCrop, mix_images

MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
BATCH = 512


class Pictures(Dataset[Any]):
    """torchvision's CIFAR10 with the recipe's transforms."""

    def __init__(self, images: np.ndarray, labels: np.ndarray) -> None:
        from torchvision import transforms

        self.images, self.labels = images, labels
        self.transform = transforms.Compose([
            transforms.RandomCrop(32, 4), transforms.RandomHorizontalFlip(), transforms.ToTensor(),
            transforms.Normalize(MEAN, STD),
        ])  # fmt: skip

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Any, int]:
        from PIL import Image

        return self.transform(Image.fromarray(self.images[index])), int(self.labels[index])


class Mixed:
    """The collate function of torchvision's documentation."""

    def __init__(self) -> None:
        self.mix = v2.CutMix(num_classes=10)

    def __call__(self, batch: Any) -> Any:
        return self.mix(*default_collate(batch))


def images_per_second(batches: Callable[[], Any], repeats: int) -> list[float]:
    """Of whole epochs but for their first batches, which start workers and compile."""
    found = []
    for _ in range(repeats):
        running = iter(batches())
        next(running)
        began, count = time.perf_counter(), 0
        for images, _ in running:
            count += len(images)
        found.append(count / (time.perf_counter() - began))
    return found


def after_the_crop(repeats: int) -> tuple[float, float]:
    """Milliseconds of mixing a batch of crops, and of copying its result."""
    crops = torch.randint(0, 256, (BATCH, 32, 32, 3), dtype=torch.uint8).permute(0, 3, 1, 2)
    out, other = (torch.empty(BATCH, 3, 32, 32) for _ in range(2))
    mixed, copied = [], []
    plan = CutMix().plan(Key(), batch_size=BATCH, height=32, width=32)
    for _ in range(repeats):
        began = time.perf_counter()
        mix_images(crops, plan, mean=MEAN, std=STD, out=out)
        mixed.append(time.perf_counter() - began)
        began = time.perf_counter()
        other.copy_(out)
        copied.append(time.perf_counter() - began)
    return 1000 * statistics.median(mixed), 1000 * statistics.median(copied)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--save", type=Path)
    parser.add_argument("--samples", type=int, default=25_600)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (arguments.samples, 32, 32, 3), np.uint8)
    labels = rng.integers(0, 10, arguments.samples)
    loader = ImageLoader(
        Arrays(images, labels), backend="dali", batch_size=BATCH, size=32, crop=PaddedRandomCrop(4), mixer=CutMix(),
        mean=MEAN, std=STD, device="cpu", num_threads=2,
    )  # fmt: skip
    peer = DataLoader(
        Pictures(images, labels),
        BATCH,
        shuffle=True,
        num_workers=2,
        collate_fn=Mixed(),
        drop_last=True,
        persistent_workers=True,
    )
    ours: list[float] = []
    theirs: list[float] = []
    for _ in range(arguments.repeats):  # in turn, so that a busy machine is busy for both
        ours += images_per_second(lambda: loader, 1)
        theirs += images_per_second(lambda: peer, 1)
    mixed, copied = after_the_crop(200)
    figures = {
        "images": arguments.samples, "batch_size": BATCH, "cores": len(os.sched_getaffinity(0)),
        "mixstage_images_per_s": [round(x) for x in ours], "torchvision_images_per_s": [round(x) for x in theirs],
        "ratio": round(statistics.median(ours) / statistics.median(theirs), 2),
        "mix_ms": round(mixed, 3), "copy_ms": round(copied, 3), "mix_over_copy": round(mixed / copied, 2),
        "torch_threads": torch.get_num_threads(), "load_average": round(os.getloadavg()[0], 1), "torch": torch.__version__,
    }  # fmt: skip
    text = (
        f"# Arrays at 32 x 32, pad-4 crop, flip, CutMix, batches of {BATCH}\n\n"
        f"`python -m benchmarks.arrays --save benchmarks/results`; {figures['cores']} cores, load {figures['load_average']} "
        f"when it ended.\n\n| | images/s, each run |\n|---|---|\n"
        f"| mixstage, `Arrays` | {', '.join(f'{x:,.0f}' for x in ours)} |\n"
        f"| torchvision `DataLoader`, 2 workers | {', '.join(f'{x:,.0f}' for x in theirs)} |\n\n"
        f"{figures['ratio']} times as many (medians). Mixing and normalising crops that are there: {mixed:.2f} ms a batch; "
        f"a copy of the float32 result, into memory that exists as well: {copied:.2f} ms ({figures['mix_over_copy']} times; "
        f"threads: {figures['torch_threads']}).\n"
    )
    print(text)
    if arguments.save:
        (arguments.save / "arrays-cpu.json").write_text(json.dumps(figures, indent=1) + "\n")
        (arguments.save / "arrays-cpu.md").write_text(text)


if __name__ == "__main__":
    main()
