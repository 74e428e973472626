"""What print(loader) shows is what the loader then does."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from support.resuming import loader

from loaders import BatchSizes, Sizes
from loaders.sources import Arrays
from mixops import GMix, MixUp, TrivialAugmentWide


def lines(one) -> dict[str, str]:
    first, *rest = repr(one).splitlines()
    assert first == "ImageLoader"
    return {name.strip(): text.strip() for name, text in (line.split(":", 1) for line in rest)}


@pytest.mark.parametrize(
    "options",
    [
        {"mixer": None},
        {"mixer": GMix(interpolations=3), "dtype": torch.float16, "memory_format": torch.channels_last},
        {"mixer": MixUp(), "targets": "sparse", "views": 2, "ids": True},
        {"mixer": None, "mean": None, "std": None, "dtype": torch.uint8, "drop_last": True, "indices": range(50)},
        {"mixer": MixUp(), "size": Sizes("32@0 48@1"), "batch_size": BatchSizes("10@0 20@1"), "batch": "dict"},
        {"mixer": MixUp(), "batch": "named"},
        {"mixer": None, "augment": TrivialAugmentWide(), "shuffle": False, "rank": 1, "world_size": 2},
    ],
)  # fmt: skip
def test_the_batch_is_as_said(jpeg_folder, options):
    with loader(jpeg_folder, "torchvision", **options) as one:
        one.set_epoch(1)
        said, steps = lines(one), len(one)
        batch = next(iter(one))
    values = list(batch.values() if isinstance(batch, dict) else batch)
    views = values[0] if isinstance(values[0], tuple) else (values[0],)
    shapes = [f"({', '.join(map(str, view.shape))})" for view in views]
    assert f"images {shapes[0]} {str(views[0].dtype).removeprefix('torch.')}" in said["batch"]
    assert (f"{len(views)} views of images" in said["batch"]) == (len(views) > 1)
    if options.get("targets") == "sparse":
        assert f"sparse targets of {len(views[0])} rows" in said["batch"]
    else:
        found = re.search(r"(?:labels|targets) \(([\d, ]+)\)", said["batch"])[1]
        assert tuple(int(number) for number in found.split(",") if number.strip()) == values[1].shape
    assert said["batch"].endswith("ids (12,)") == bool(options.get("ids"))
    assert said["batch"].startswith(options.get("batch", "tuple"))
    assert said["order"].startswith(f"{steps} steps of ")
    assert said["next"] == "step 0 of epoch 1"
    assert said["mix"] == ("nothing" if options["mixer"] is None else repr(options["mixer"]))


def test_labels_that_are_weights_and_a_source_of_ones_own():
    weights = np.eye(3, dtype=np.float32)[np.arange(24) % 3]
    with loader(Arrays(np.zeros((24, 8, 8, 3), np.uint8), weights), "torchvision", mixer=None, size=8) as one:
        said = lines(one)
        _, labels = next(iter(one))
    assert said["data"] == "24 images of 3 classes (Arrays)"
    assert "labels (12, 3) float32" in said["batch"] and labels.shape == (12, 3) and labels.dtype == torch.float32


def test_it_says_all_that_matters(jpeg_folder):
    with loader(jpeg_folder, "torchvision", indices=range(50), augment=TrivialAugmentWide(), drop_last=True) as one:
        next(iter(one))
        said = lines(one)
    assert said["data"] == f"50 of 101 images of 5 classes in {jpeg_folder} (Folder)"
    assert said["order"] == "4 steps of 12 rows, the last 2 rows dropped; shuffled, seed 11, rank 0 of 1"
    assert said["image"].startswith("RandomResizedCrop(") and "to 24 x 24, Flip(" in said["image"]
    assert "TrivialAugmentWide" in said["image"] and "mean (0.485, 0.456, 0.406), std (0.229, 0.224, 0.225)" in said["image"]
    assert said["made by"] == "torchvision, 2 threads, 2 batches ahead on cpu"
    assert said["next"] == "step 1 of epoch 0"
    with loader(jpeg_folder, "torchvision", mixer=MixUp()) as one:
        one.mixup_enabled = False
        assert lines(one)["mix"].startswith("nothing") and "targets (12, 5) float32" in lines(one)["batch"]
    with loader(jpeg_folder, "torchvision", mixer=None, split="val", mean=None, std=None, dtype=torch.uint8) as one:
        assert lines(one)["order"].startswith("9 steps of 12 rows; in the order of the data")
        assert lines(one)["image"].endswith("as it is")
