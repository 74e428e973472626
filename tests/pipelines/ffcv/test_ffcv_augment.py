"""AugmentImage: in FFCV's own loader, the bytes of the plan that an ImageLoader draws."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ffcv_data import write_beton, write_folder
from support.ffcv_loaders import SIZE, interpreted, kept, loader, same
from support.nightly import nightly

pytest.importorskip("ffcv", reason="ffcv is not installed")

from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder
from ffcv.loader import Loader, OrderOption
from ffcv.transforms import NormalizeImage, ToDevice, ToTensor, ToTorchImage

from loaders import ImageLoader
from mixops import CutMix, Key, RandomErasing, TrivialAugmentWide, augment_images, mix_images
from mixops.augment import as_augmentation
from mixops.augment.crops import RandomResizedCrop
from pipelines.ffcv import AugmentImage, MixImage, MixLoader, PlannedCrop

AUGMENT = [TrivialAugmentWide(), RandomErasing(0.5, value="pixel")]
CPU = torch.device("cpu")
LABEL = [IntDecoder(), ToTensor()]
__all__ = ["interpreted"]


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 samples: two batches of 8 and one of 5."""
    folder = tmp_path_factory.mktemp("ffcv")
    return write_beton(write_folder(folder / "train"), folder / "train.beton")


PLACES: dict[str, list[Any]] = {
    "array": [AugmentImage(AUGMENT), ToTensor()],
    "tensor": [ToTensor(), AugmentImage(AUGMENT)],
    "device": [ToTensor(), ToDevice(CPU), AugmentImage(AUGMENT)],
}


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("place", PLACES)
def test_images_are_pillows_of_the_plan(beton: Path, place: str) -> None:
    one = loader(beton, *PLACES[place], label=LABEL, seed=5)
    plain = loader(beton, ToTensor(), label=LABEL, seed=5)
    for epoch in range(2):
        for step, ((x, _), (images, _)) in enumerate(zip(one, plain, strict=True)):
            plan = as_augmentation(AUGMENT).draw(Key(5, epoch, step), np.arange(len(x)), SIZE)
            assert torch.equal(x, augment_images(images, plan, backend="eager"))
            assert not torch.equal(x, images)


@pytest.mark.usefixtures("interpreted")
def test_it_is_mixed_behind(beton: Path) -> None:
    one = loader(beton, AugmentImage(AUGMENT), ToTensor(), ToTorchImage(), MixImage(), label=LABEL, mixer=CutMix(), seed=5)
    augmented = loader(beton, AugmentImage(AUGMENT), ToTensor(), ToTorchImage(), label=LABEL, seed=5)
    for (x, _), (images, _) in zip(one, augmented, strict=True):
        assert one.last is not None and torch.equal(x, mix_images(images, one.last.plan))


@pytest.mark.usefixtures("interpreted")
def test_ranks_have_their_rows_and_a_seek_its_step(beton: Path) -> None:
    ranks = [loader(beton, AugmentImage("rand-m9-mstd0.5-inc1"), ToTensor(), label=LABEL, seed=5, rank=r) for r in (0, 1)]
    plain = kept(loader(beton, ToTensor(), label=LABEL, seed=5, rank=1))  # one order, another rank's crops
    again = kept(ranks[1])
    plan = as_augmentation("rand-m9-mstd0.5-inc1").draw(Key(5, 0, 1), np.arange(8, 16), SIZE)
    assert torch.equal(again[1][0], augment_images(plain[1][0], plan))
    assert not same(kept(ranks[0]), again)
    ranks[1].seek(0, 1)
    assert same(kept(ranks[1]), again[1:])


def test_compiled_it_is_the_image_loaders(beton: Path) -> None:
    """The same samples in the same places: an epoch in FFCV's sequential order, and an ImageLoader that shuffles nothing."""
    one = loader(beton, AugmentImage(AUGMENT), ToTensor(), label=LABEL, seed=5, order=OrderOption.SEQUENTIAL)
    options = {"batch_size": 8, "size": SIZE, "seed": 5, "shuffle": False, "drop_last": False, "device": "cpu"}
    form = {"mean": None, "std": None, "dtype": torch.uint8}
    with ImageLoader(beton, backend="ffcv", augment=AUGMENT, **options, **form) as other:
        for (x, _), (images, _) in zip(one, other, strict=True):
            assert torch.equal(x, images.permute(0, 2, 3, 1))


@pytest.mark.usefixtures("interpreted")
def test_where_it_cannot_stand(beton: Path) -> None:
    with pytest.raises(ValueError, match="AugmentImage before MixImage, got it behind"):
        loader(beton, ToTensor(), MixImage(), AugmentImage(AUGMENT), label=LABEL)
    with pytest.raises(ValueError, match=r"uint8 \(h, w, 3\), got torch.uint8 \(3, 20, 28\)"):
        loader(beton, ToTensor(), ToTorchImage(), AugmentImage(AUGMENT), label=LABEL)
    with pytest.raises(ValueError, match=r"uint8 \(h, w, 3\), got .*float32"):
        normalize = NormalizeImage(np.zeros(3), np.ones(3), np.float32)
        loader(beton, normalize, AugmentImage(AUGMENT), label=LABEL)
    with pytest.raises(TypeError, match="augment must be a policy"):
        AugmentImage(None)
    with pytest.raises(ValueError, match="must be given to a MixLoader if they hold AugmentImage"):
        pipelines = {"image": [CenterCropRGBImageDecoder(SIZE, 1.0), AugmentImage(AUGMENT)], "label": LABEL}
        Loader(str(beton), 8, num_workers=1, pipelines=pipelines)


AUGMIX = "augmix-m5-w3-d2"


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize(
    "augment",
    [AUGMENT, *nightly((AUGMIX, "rand-m9-mstd0.5-inc1"))],
    ids=["erasing", "chains", "operations"],
)
def test_in_the_decoder_it_is_the_stage_behind_it(beton: Path, augment: Any) -> None:
    law = RandomResizedCrop(interpolation="bicubic")  # whose filter timm's strings take
    behind = [PlannedCrop(SIZE, law), AugmentImage(as_augmentation(augment, interpolation="bicubic")), ToTensor()]
    inside = [PlannedCrop(SIZE, law, augment=augment), ToTensor()]
    options = {"order": OrderOption.RANDOM, "num_workers": 2, "seed": 5, "drop_last": False, "rank": 1}
    one, other = (MixLoader(str(beton), 8, pipelines={"image": x, "label": LABEL}, **options) for x in (behind, inside))
    for _ in range(2):
        assert same(kept(one), kept(other))


@pytest.mark.nightly
def test_in_the_compiled_decoder_it_is_the_image_loaders(beton: Path) -> None:
    law = RandomResizedCrop(interpolation="bicubic")
    pipelines = {
        "image": [PlannedCrop(SIZE, law, augment=["rand-m9-mstd0.5-inc1", *AUGMENT[1:]]), ToTensor()],
        "label": LABEL,
    }
    one = MixLoader(str(beton), 8, num_workers=2, seed=5, drop_last=False, order=OrderOption.SEQUENTIAL, pipelines=pipelines)
    options = {"batch_size": 8, "size": SIZE, "seed": 5, "shuffle": False, "drop_last": False, "device": "cpu", "crop": law}
    form = {"mean": None, "std": None, "dtype": torch.uint8, "augment": ["rand-m9-mstd0.5-inc1", *AUGMENT[1:]]}
    with ImageLoader(beton, backend="ffcv", **options, **form) as other:
        for (x, _), (images, _) in zip(one, other, strict=True):
            assert torch.equal(x, images.permute(0, 2, 3, 1))
