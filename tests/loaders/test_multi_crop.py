"""Several named crops of every image: each is what a loader with that crop alone shows, and images are decoded once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders import ImageLoader, Sizes
from loaders.sources import Arrays
from mixops import (
    CenterCrop,
    MixUp,
    PaddedRandomCrop,
    RandomErasing,
    RandomResizedCrop,
    ResizeRandomCrop,
    TrivialAugmentWide,
)
from mixops.augment.crop_plan import draw_crops
from mixops.augment.flips import Flip
from mixops.key import Key

BACKENDS = ("dali", "torchvision", "ffcv")
WIDE, NARROW = RandomResizedCrop((0.4, 1), interpolation="bicubic"), RandomResizedCrop((0.05, 0.4))
DINO = {"global": (2, 32, WIDE), "local": (3, (20, 16), NARROW, [TrivialAugmentWide(), RandomErasing(0.5)])}
PLAIN: dict[str, Any] = {"mean": None, "std": None, "dtype": torch.uint8}


def loader(root: Any, backend: str = "torchvision", **options: Any) -> ImageLoader:
    defaults: dict[str, Any] = {"batch_size": 6, "device": "cpu", "num_threads": 2, "seed": 5, "drop_last": False}
    return ImageLoader(root, backend=backend, **defaults | options)


@pytest.mark.parametrize("backend", BACKENDS)
def test_the_first_name_is_a_loader_of_views(roots: Any, backend: str) -> None:
    """To the bit, whatever names come behind it."""
    options: dict[str, Any] = {"size": 32, "crop": WIDE, "views": 2, **PLAIN}
    with loader(roots(backend), backend, **options) as views, loader(roots(backend), backend, crops=DINO, **PLAIN) as one:
        for (first, labels), (images, same) in zip(views, one, strict=True):
            assert list(images) == ["global", "local"] and torch.equal(labels, same)
            assert torch.equal(images["global"], torch.cat(first))
            assert images["local"].shape == (3 * len(labels), 3, 20, 16)
            assert all(batch.is_contiguous() for batch in images.values())


@pytest.mark.parametrize("backend", BACKENDS)
def test_each_name_is_pillows_crops_and_augmentation(roots: Any, backend: str) -> None:
    """Crop by crop by the plan, from the images as the backend decodes them."""
    from mixops.augment.apply import augment_images
    from pipelines.crop_rows import crop_rows

    whole = {"global": (1, 40, ResizeRandomCrop()), "local": (2, 24, NARROW, TrivialAugmentWide())}
    with loader(roots(backend), backend, crops=whole, **PLAIN) as one:
        plan = one.draw(0, 1)
        images, _ = list(one)[1]
        sizes = one.dataset.sizes[plan.ids]
        key, rows = Key(5, 0, 1), np.arange(6)
        for number, crops in enumerate(np.split(np.arange(12), 2)):
            expected = draw_crops(key, rows + 6 * (1 + number), sizes, NARROW, Flip(0.5), (24, 24))
            np.testing.assert_array_equal(plan.more[0].crops.windows[crops], expected.windows)
            np.testing.assert_array_equal(plan.more[0].crops.flips[crops], expected.flips)
    if backend == "torchvision":
        from PIL import Image

        decoded = [np.asarray(Image.open(one.dataset.name(i)).convert("RGB")) for i in plan.ids.tolist()]
        for shown, pixels in zip(plan.shown, images.values(), strict=True):
            copies = decoded * (len(pixels) // 6)
            made = torch.from_numpy(crop_rows(copies, shown.crops))
            made = made if shown.augment is None else augment_images(made, shown.augment)
            assert torch.equal(made.permute(0, 3, 1, 2), pixels)


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_image_is_read_once(roots: Any, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with loader(roots(backend), backend, crops=DINO) as one:
        reads: list[int] = []
        read = one.dataset.read
        monkeypatch.setattr(one.dataset, "read", lambda i: reads.append(i) or read(i), raising=False)
        if (places := getattr(one.dataset, "places", None)) is not None:  # where many are read together
            monkeypatch.setattr(one.dataset, "places", lambda ids: reads.extend(ids.tolist()) or places(ids))
        count = sum(len(labels) for _, labels in one)
    assert sorted(reads) == list(range(count))


@pytest.mark.parametrize("backend", BACKENDS)
def test_it_resumes_in_the_middle(roots: Any, backend: str) -> None:
    with loader(roots(backend), backend, crops=DINO) as one, loader(roots(backend), backend, crops=DINO) as later:
        batches = iter(one)
        next(batches), next(batches)
        state = one.state_dict()
        later.load_state_dict(state)
        for (images, labels), (right, right_labels) in zip(later, batches, strict=True):
            assert torch.equal(labels, right_labels) and all(torch.equal(images[name], right[name]) for name in DINO)
    other = DINO | {"local": (4, *DINO["local"][1:])}
    with loader(roots(backend), backend, crops=other) as one, pytest.raises(ValueError, match="crops was"):
        one.load_state_dict(state)


def test_ranks_and_bad_files(jpeg_folder: Path, tmp_path: Path) -> None:
    with loader(jpeg_folder, crops=DINO, batch_size=12) as one:
        whole = next(iter(one))[0]
    for rank in range(2):
        with loader(jpeg_folder, crops=DINO, rank=rank, world_size=2) as part:
            for name, images in next(iter(part))[0].items():
                count = DINO[name][0]
                assert torch.equal(images, torch.cat([x[6 * rank : 6 * rank + 6] for x in whole[name].chunk(count)]))


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_bad_file_is_replaced_in_all_crops(backend: str, tmp_path: Path) -> None:
    pytest.importorskip({"dali": "nvidia.dali", "torchvision": "PIL", "ffcv": "ffcv"}[backend])
    from support.images import make_jpeg_folder, undecodable

    make_jpeg_folder(tmp_path, 24, classes=2)
    bad = tmp_path / "1" / "00003.jpg"
    bad.write_bytes(undecodable(bad.read_bytes()))
    with loader(tmp_path, backend, crops=DINO, on_error="skip", ids=True, **PLAIN) as one:
        batches = list(one)
        number = next(i for i in range(24) if one.dataset.name(i) == str(bad))
        replaced = [(step, ids) for step, (_, _, ids) in enumerate(batches) if number in one._planner().draw(0, step).ids]
        assert len(replaced) == 1 and all(number not in ids for _, _, ids in batches)
        step, ids = replaced[0]
        assert np.array_equal(one.draw(0, step).ids, ids.numpy())
        assert one.stats().bad_files == 1


def test_forms_of_a_batch(jpeg_folder: Path) -> None:
    with loader(jpeg_folder, crops=DINO, batch="dict", ids=True) as one:
        batch = next(iter(one))
        assert list(batch) == ["pixel_values", "labels", "ids"] and list(batch["pixel_values"]) == list(DINO)
        text = repr(one)
    assert "images (12, 3, 32, 32), (18, 3, 20, 16) float32" in text and "global: 2 of RandomResizedCrop" in text
    with loader(jpeg_folder, crops=DINO, batch="named") as one:
        batch = next(iter(one))
        assert list(batch.images) == list(DINO) and batch.plan is None and len(batch.labels) == 6
        assert one.stats().outputs == 30


def test_a_transform_has_each_name_and_numbers_of_its_own(jpeg_folder: Path) -> None:
    def noisy(images: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return images + torch.randint(256, (len(images), 1, 1, 1), dtype=torch.uint8, generator=generator)

    crops = {"a": (2, 16, CenterCrop(0)), "b": (1, 16, CenterCrop(0))}
    with (
        loader(jpeg_folder, crops=crops, flip=0.0, **PLAIN) as one,
        loader(jpeg_folder, crops=crops, flip=0.0, transform=noisy, **PLAIN) as other,
    ):
        plain, changed = next(iter(one))[0], next(iter(other))[0]
    added = torch.cat([(changed[name] - plain[name])[:, 0, 0, 0] for name in crops]).view(3, 6)
    assert len({tuple(row.tolist()) for row in added}) == 3


@pytest.mark.parametrize("backend", BACKENDS)
def test_pixels_of_arrays_are_cropped_too(backend: str) -> None:
    pytest.importorskip({"dali": "nvidia.dali", "torchvision": "PIL", "ffcv": "ffcv"}[backend])
    pixels = np.random.default_rng(0).integers(0, 256, (12, 30, 30, 3), np.uint8)
    crops = {"a": (2, 32, PaddedRandomCrop(4)), "b": (1, 16, CenterCrop(0))}
    found = []
    for source in (Arrays(pixels, np.arange(12) % 3), Arrays(pixels, np.arange(12) % 3, device="cpu")):
        with loader(source, backend, crops=crops, **PLAIN) as one:
            found.append(list(one))
            ids = one.draw(0, 0).ids
    for (images, _), (others, _) in zip(*found, strict=True):
        assert all(torch.equal(images[name], others[name]) for name in crops)
    centre = torch.from_numpy(pixels[ids][:, 7:23, 7:23]).permute(0, 3, 1, 2)
    flipped = torch.where(torch.from_numpy(one.draw(0, 0).more[0].crops.flips)[:, None, None, None], centre.flip(-1), centre)
    assert torch.equal(found[0][0][0]["b"], flipped)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mixer": MixUp()}, "mixer must not be given together with crops, since masks of several sizes"),
        ({"size": 32}, "size must not be given together with crops"),
        ({"size": Sizes("8@0 16@1")}, "size must not be given together with crops"),
        ({"views": 2}, "views must not be given together with crops, whose counts"),
        ({"crop": CenterCrop()}, "crop must not be given together with crops"),
        ({"augment": TrivialAugmentWide()}, "augment must not be given together with crops"),
        ({"scale": (0.5, 1)}, "scale must not be given together with crops"),
        ({"crops": {}}, "crops must be a dict of names"),
        ({"crops": [(2, 32)]}, "crops must be a dict of names"),
        ({"crops": {"a": 2}}, r"crops must be \(count, size, law\) of each name"),
        ({"crops": {"a": (2,)}}, r"crops must have \(count, size\), "),
        ({"crops": {"a": (0, 32)}}, "crops must be in"),
        ({"crops": {"a": (1, 32, "centre")}}, "crops must be a crop law such as"),
        ({"crops": {"a": (1, 32, WIDE, MixUp())}}, "augment must be a policy"),
    ],
)
def test_what_makes_no_sense_is_refused(jpeg_folder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        loader(jpeg_folder, **{"crops": DINO} | options)


def test_fast_decoding_is_for_the_crop_that_needs_most(roots: Any) -> None:
    """An image is decoded once, at a fraction that leaves every crop as many pixels as its output has."""
    from loaders.backends.rows import scale_of

    shown = {"small": (2, 10, RandomResizedCrop((0.5, 1))), "large": (1, 20, RandomResizedCrop((0.8, 1)))}
    with (
        loader(roots("torchvision"), crops=shown, decode="fast", **PLAIN) as fast,
        loader(roots("torchvision"), crops=shown) as one,
    ):
        plan, scales = fast.draw(0, 0), []
        for row in range(len(plan.ids)):
            scale = scale_of(fast._planner(), plan, row)
            for batch in plan.shown:
                sides = batch.crops.windows[row :: len(plan.ids), 2:]
                assert scale == 1 or (sides >= np.array(batch.crops.size) * scale).all()
            scales.append(scale)
            assert scale_of(one._planner(), plan, row) == 1
        assert {1, 2} <= set(scales)
        assert next(iter(fast))[0]["small"].shape == (12, 3, 10, 10)
