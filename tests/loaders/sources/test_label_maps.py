"""Segmentation: label maps go the way of their images, pixel by pixel, and are mixed under the same masks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from support.nightly import nightly
from torchvision.transforms import functional as F

from loaders import ImageLoader
from loaders.sources import LabelMaps
from mixops import (
    AugMix,
    CenterCrop,
    ColorJitter,
    CutMix,
    MixUp,
    PaddedRandomCrop,
    RandomErasing,
    RandomResizedCrop,
    ResizeRandomCrop,
    TrivialAugmentWide,
    mix_label_maps,
)
from mixops.augment.operations import WARPS
from mixops.kernels.augment.eager import operate

BACKENDS = ("dali", "torchvision", "ffcv")
CLASSES = [f"class {i}" for i in range(300)]
COUNT = 18
PLAIN: dict[str, Any] = {"mean": None, "std": None, "dtype": torch.uint8}


def maps_of_numbers() -> list[np.ndarray]:
    """Sizes of all kinds, numbers of two bytes, patches without a class."""
    found = []
    for i in range(COUNT):
        rng = np.random.default_rng(i)
        coarse = rng.integers(0, len(CLASSES), (4 + i % 3, 5))
        coarse[rng.random(coarse.shape) < 0.2] = 999
        found.append(np.kron(coarse, np.ones((9 + i % 4, 11), int)))
    return found


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Path], list[Path]]:
    """Images whose red and green are the bytes of their numbers, without a loss, and maps of 16 bits."""
    place = tmp_path_factory.mktemp("maps")
    for i, numbers in enumerate(maps_of_numbers()):
        pixels = np.stack([numbers & 255, numbers >> 8, np.full_like(numbers, 255)], -1).astype(np.uint8)
        Image.fromarray(pixels).save(place / f"{i:03d}.png")
        Image.fromarray(numbers.astype(np.uint16)).save(place / f"{i:03d}_map.png")
    return sorted(place.glob("???.png")), sorted(place.glob("*_map.png"))


def loader(source: LabelMaps, backend: str = "torchvision", **options: Any) -> ImageLoader:
    pytest.importorskip({"dali": "nvidia.dali", "torchvision": "PIL", "ffcv": "ffcv"}[backend])
    defaults: dict[str, Any] = {"batch_size": 6, "device": "cpu", "num_threads": 2, "seed": 5, "size": (24, 20)}
    return ImageLoader(source, backend=backend, **defaults | options)


def numbers_in(images: torch.Tensor) -> torch.Tensor:
    """What images of this file say of their pixels' numbers; black is outside."""
    low, high, inside = images.long().unbind(1)
    return torch.where(inside == 255, low + 256 * high, 999)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "law",
    [
        RandomResizedCrop(interpolation="nearest"), ResizeRandomCrop(30, 4, "constant", "nearest"),
        ResizeRandomCrop(28, 3, "reflect", "nearest"), PaddedRandomCrop(4), CenterCrop(30, "nearest"),
    ],
    ids=repr,
)  # fmt: skip
def test_maps_are_where_their_images_are(files: Any, backend: str, law: Any) -> None:
    """Images of numbers, resized to the nearest pixel, say what the maps must be."""
    source = LabelMaps(*files, CLASSES, ignore_index=999)
    with loader(source, backend, crop=law, vertical_flip=0.5, **PLAIN) as one:
        for images, maps in one:
            assert maps.dtype == torch.int64 and maps.shape == (6, 24, 20)
            assert torch.equal(maps, numbers_in(images))
            assert len(maps.unique()) > 5


@pytest.mark.parametrize("backend", BACKENDS)
def test_maps_are_resized_to_the_nearest_pixel_whatever_the_filter(files: Any, backend: str) -> None:
    source = LabelMaps(*files, CLASSES, ignore_index=999)
    with loader(source, backend, crop=RandomResizedCrop(interpolation="bicubic")) as one:
        for step, (_, maps) in enumerate(one):
            plan = one.draw(0, step)
            for row, sample in enumerate(plan.ids.tolist()):
                image = Image.fromarray(maps_of_numbers()[sample].astype(np.int32))
                window = plan.windows[row].astype(int).tolist()
                expected = F.resized_crop(image, *window, [24, 20], interpolation=F.InterpolationMode.NEAREST)
                expected = F.hflip(expected) if plan.flips[row] else expected
                np.testing.assert_array_equal(maps[row].numpy(), np.asarray(expected))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "augment",
    [
        TrivialAugmentWide(),
        TrivialAugmentWide(interpolation="bilinear", fill=[9, 99, 199]),
        [ColorJitter(0.4, 0.4), TrivialAugmentWide(), RandomErasing(1.0)],
    ],
)
def test_maps_are_warped_as_their_images_are(files: Any, backend: str, augment: Any) -> None:
    source = LabelMaps(*files, CLASSES, ignore_index=999)
    plain_source = {"crop": PaddedRandomCrop(4), "flip": 0.5}
    with loader(source, backend, augment=augment, **plain_source) as one, loader(source, backend, **plain_source) as plain:
        warped = 0
        for step, ((_, maps), (_, before)) in enumerate(zip(one, plain, strict=True)):
            drawn = one.draw(0, step).augment
            assert drawn is not None
            for row in range(6):
                expected = Image.fromarray(
                    np.stack([before[row] & 255, before[row] >> 8, 0 * before[row] + 1], -1).astype(np.uint8)
                )
                for op, arg in zip(drawn.op[row], drawn.arg[row], strict=True):
                    if op in WARPS:
                        warped += 1
                        expected = operate(expected, op, float(arg), int(Image.Resampling.NEAREST), [0, 0, 0])
                low, high, inside = np.asarray(expected).astype(int).transpose(2, 0, 1)
                np.testing.assert_array_equal(maps[row].numpy(), np.where(inside, low + 256 * high, 999))
        assert warped > 2


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("mixer", [CutMix(), MixUp()], ids=repr)
def test_maps_are_mixed_under_the_images_masks(files: Any, backend: str, mixer: Any) -> None:
    source = LabelMaps(*files, CLASSES, ignore_index=999)
    with loader(source, backend) as plain:
        expected = [maps for _, maps in plain]
    for targets, classes in (("dense", len(CLASSES)), ("sparse", None)):
        with loader(source, backend, mixer=mixer, targets=targets, batch="named") as one:
            for step, batch in enumerate(one):
                right = mix_label_maps(expected[step], one.plan(0, step), num_classes=classes, ignore_index=999)
                assert torch.equal(batch.targets, right) and torch.equal(batch.labels, expected[step])
            assert f"label maps (6, {'' if classes is None else '300, '}24, 20)" in repr(one)


@pytest.mark.parametrize("backend", BACKENDS)
def test_arrays_resume_and_ranks(backend: str) -> None:
    rng = np.random.default_rng(0)
    source = LabelMaps(rng.integers(0, 256, (12, 16, 16, 3), np.uint8), rng.integers(0, 4, (12, 16, 16)), list("abcd"))
    options: dict[str, Any] = {"size": 16, "crop": PaddedRandomCrop(2), "batch": "dict", "batch_size": 4}
    with loader(source, backend, **options) as one, loader(source, backend, **options) as later:
        batches = iter(one)
        first = next(batches)
        later.load_state_dict(one.state_dict())
        for batch, right in zip(later, batches, strict=True):
            assert torch.equal(batch["labels"], right["labels"]) and torch.equal(
                batch["pixel_values"], right["pixel_values"]
            )
    for rank in range(2):
        with loader(source, backend, **options | {"batch_size": 2}, rank=rank, world_size=2) as part:
            assert torch.equal(next(iter(part))["labels"], first["labels"][2 * rank : 2 * rank + 2])
    assert (first["labels"] == 255).any()


@pytest.mark.parametrize("backend", [BACKENDS[0], *nightly(BACKENDS[1:])])
def test_a_bad_map_makes_a_bad_sample(files: Any, backend: str, tmp_path: Path) -> None:
    images, maps = files
    Image.fromarray(np.full((36, 55), 301, np.uint16)).save(tmp_path / "unknown.png")
    Image.fromarray(np.zeros((3, 4), np.uint8)).save(tmp_path / "small.png")
    Image.fromarray(np.zeros((36, 55, 3), np.uint8)).save(tmp_path / "coloured.png")
    messages = {
        "unknown.png": "number 301, which is none of the 300 classes", "small.png": r"has \(3, 4\) pixels, the image",
        "coloured.png": "is no map of numbers but an image of mode 'RGB'", "missing.png": "No such file",
    }  # fmt: skip
    for name, message in messages.items():
        source = LabelMaps(images, [tmp_path / name, *maps[1:]], CLASSES, ignore_index=999)
        with loader(source, backend) as one, pytest.raises(RuntimeError, match=f"(?s)000.png.*{message}"):
            list(one)
        with loader(source, backend, on_error="skip", ids=True, drop_last=False) as one:
            shown = torch.cat([ids for _, _, ids in one])
            assert len(shown) == COUNT and 0 not in shown


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": 2}, "views must be 1 for label maps"),
        ({"crops": {"a": (2, 16)}, "size": 224}, "crops must be None for label maps"),
        ({"smoothing": 0.1, "mixer": MixUp()}, "smoothing must be 0 for label maps"),
        ({"augment": AugMix()}, "augment must hold no AugMix for label maps"),
    ],
)
def test_what_makes_no_sense_is_refused(files: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loader(LabelMaps(*files, CLASSES, ignore_index=999), **options)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"classes": ["a", "a"]}, "classes must be 1 to 65536 different names"),
        ({"ignore_index": 3}, "ignore_index must be the number of none of the 300 classes, got 3"),
        ({"maps": []}, "maps must be one an image, 18, got 0"),
        ({"maps": np.zeros((18, 4, 4))}, r"maps must be integers \(n, h, w\), got float64"),
    ],
)
def test_errors(files: Any, arguments: dict[str, Any], message: str) -> None:
    options: dict[str, Any] = {"images": files[0], "maps": files[1], "classes": CLASSES, "ignore_index": 999}
    options |= arguments
    with pytest.raises((TypeError, ValueError), match=message):
        LabelMaps(**options)
