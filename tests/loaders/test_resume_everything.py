"""Cuts at random places of a run that has everything on: augmentation, views, repeats, sizes, a transform, bad files."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from support.nightly import nightly

from loaders import ImageLoader, Sizes
from mixops import CutMix, GMix, MixUp, RandomErasing, RandomResizedCrop, Switch, TrivialAugmentWide

EPOCHS = 3


def shift(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    return images + torch.randint(4, (len(images), 1, 1, 1), dtype=torch.uint8, generator=generator)


OPTIONS: dict[str, Any] = {
    "batch_size": 12, "size": Sizes("16@0 24@0.5 20@2"), "device": "cpu", "seed": 11, "on_error": "skip", "repeats": 2,
    "views": 2, "crop": RandomResizedCrop(interpolation="random"), "vertical_flip": 0.2, "transform": shift,
    "augment": ["rand-m9-mstd0.5-inc1", TrivialAugmentWide(), RandomErasing(0.5, value="pixel")],
    "mixer": Switch([MixUp(), CutMix(), GMix()], interpolations=2),
}  # fmt: skip


@pytest.fixture(scope="module")
def damaged(jpeg_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an empty file, one cut off and one of zeros from the middle on."""
    root = tmp_path_factory.mktemp("damaged") / "images"
    shutil.copytree(jpeg_folder, root)
    paths = sorted(root.glob("*/*"))
    data = paths[50].read_bytes()
    paths[7].write_bytes(b"")
    paths[29].write_bytes(paths[29].read_bytes()[:200])
    paths[50].write_bytes(data[: len(data) // 2] + bytes(len(data) - len(data) // 2))
    return root


def digest(batch: Any) -> str:
    (first, second), targets = batch
    return hashlib.sha256(b"".join(x.contiguous().numpy().tobytes() for x in (first, second, targets))).hexdigest()[:16]


def run(one: ImageLoader, stop: int | None = None) -> list[str]:
    """Digests of what is left of the epochs, or of its first ``stop`` batches."""
    got: list[str] = []
    for epoch in range(one.state_dict()["epoch"], EPOCHS if stop != 0 else 0):
        one.set_epoch(epoch)  # of which nothing may be left
        for batch in one:
            got.append(digest(batch))
            if len(got) == stop:
                return got
    return got


@pytest.mark.parametrize("backend", ["dali", *nightly(("torchvision", "ffcv"))])
@pytest.mark.parametrize("points", [3, pytest.param(200, marks=pytest.mark.slow)])
def test_random_interruptions(damaged: Path, backend: str, points: int) -> None:
    """At each point: some batches, a state, another loader with other threads, and all that remains, bit for bit."""
    rng = random.Random(points)
    whole: dict[tuple[int, int], list[str]] = {}
    for _ in range(points):
        world = rng.choice((1, 2))
        rank = rng.randrange(world)
        where = {"backend": backend, "rank": rank, "world_size": world}
        if (world, rank) not in whole:
            with ImageLoader(damaged, num_threads=2, **where, **OPTIONS) as one:
                whole[world, rank] = run(one)
                assert one.stats().bad_files or world > 1
        expected = whole[world, rank]
        at = rng.randrange(len(expected) + 1)
        with ImageLoader(
            damaged, num_threads=rng.choice((1, 2, 4)), prefetch=rng.choice((1, 2, 5)), **where, **OPTIONS
        ) as one:
            assert run(one, at) == expected[:at]
            state = json.loads(json.dumps(one.state_dict()))
        with ImageLoader(damaged, num_threads=rng.choice((1, 2, 4)), **where, **OPTIONS) as one:
            one.load_state_dict(state)
            assert run(one) == expected[at:]
