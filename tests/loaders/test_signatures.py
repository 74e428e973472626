"""Every argument of the loader meets hostile values: what is wrong is refused by its name, when the loader is made."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.hostile_arguments import Call, no_surprise

from loaders import BatchSizes, ImageLoader, Sizes
from mixops import HMix


@pytest.mark.parametrize("kind", [Sizes, BatchSizes])
def test_stages(kind: type) -> None:
    no_surprise(Call(kind, partial(dict, stages="160@0 192@40")), kind.__name__)


@pytest.mark.parametrize("mixer", [None, HMix()], ids=["labels", "mixed"])
@pytest.mark.parametrize("split", ["train", "val"])
def test_image_loader(mixer: HMix | None, split: str, jpeg_folder: Path) -> None:
    if mixer is not None and split == "val":
        return
    arguments: dict[str, Any] = {"root": jpeg_folder, "batch_size": 4, "size": 8, "split": split, "device": "cpu"}
    arguments |= {"backend": "torchvision", "mixer": mixer, "num_threads": 1, "drop_last": False}
    call = Call(ImageLoader, partial(dict, arguments), frozenset({"transform"}), frozenset({"root", "timeout"}))
    no_surprise(call, "ImageLoader")
