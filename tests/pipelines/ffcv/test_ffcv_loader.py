"""MixLoader: every mixer in FFCV's pipelines, wherever the stages stand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support import reference
from support.ffcv_data import write_beton, write_folder
from support.ffcv_loaders import CLASSES, SIZE, interpreted, kept, loader, same

pytest.importorskip("ffcv", reason="ffcv is not installed")

from ffcv.fields.basics import IntDecoder
from ffcv.fields.rgb_image import CenterCropRGBImageDecoder, RandomResizedCropRGBImageDecoder
from ffcv.loader import Loader
from ffcv.transforms import (
    Convert,
    NormalizeImage,
    RandomHorizontalFlip,
    ToDevice,
    ToTensor,
    ToTorchImage,
)  # fmt: skip

from loaders import ImageLoader
from mixops import CutMix, GMix, HMix, Key, MixUp, OptimalMatching, Switch, mix_images
from pipelines.ffcv import MixImage, MixLabel, MixLoader, PlannedCrop

MEAN, STD = (0.4, 0.5, 0.6), (0.2, 0.3, 0.25)
CPU = torch.device("cpu")
MIXERS = [
    MixUp(0.7),
    CutMix(1.0, interpolations=3),
    HMix(1.0, r=0.6),
    GMix(0.8, interpolations=2),
    Switch([MixUp(0.8), CutMix(1.0)], interpolations=3),
    MixUp(1.0, matching=OptimalMatching(k=4)),
    CutMix(1.0, matching=OptimalMatching(k=2), interpolations=2),
]
__all__ = ["interpreted"]


@pytest.fixture(scope="module")
def beton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """21 samples: two batches of 8 and one of 5."""
    folder = tmp_path_factory.mktemp("ffcv")
    return write_beton(write_folder(folder / "train"), folder / "half.beton", jpeg_share=0.5)


def plain(path: Path, **options: Any) -> list[tuple[torch.Tensor, ...]]:
    """The batches before mixing: uint8 (b, h, w, 3) and labels (b, 1)."""
    return kept(loader(path, ToTensor(), label=[IntDecoder(), ToTensor()], **options))


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
def test_images_and_targets_are_the_plan(beton: Path, mixer: Any) -> None:
    mixed = loader(beton, ToTensor(), ToTorchImage(), MixImage(MEAN, STD), mixer=mixer, seed=5)
    sources = loader(beton, ToTensor(), label=[IntDecoder(), ToTensor()], seed=5)
    for epoch in range(2):
        for step, ((x, y), (images, labels)) in enumerate(zip(mixed, sources, strict=True)):
            assert mixed.last is not None and sources.last is not None and mixed.last.plan is not None
            np.testing.assert_array_equal(mixed.last.ids, sources.last.ids)
            assert mixed.last.key == Key(5, epoch, step, 0)
            planes = images.permute(0, 3, 1, 2).numpy()
            plan = mixed.last.plan
            short = mixer if step < 2 or mixer.matching is None else mixer.replace(matching=OptimalMatching(k=2))
            fresh = short.plan(Key(5, epoch, step), batch_size=len(images), height=SIZE[0], width=SIZE[1], images=planes)
            assert fresh.to_json() == plan.to_json()
            expected = reference.mix_images(planes, plan, MEAN, STD)
            np.testing.assert_allclose(x.numpy(), expected, atol=2e-5)
            targets = reference.mix_targets(labels.numpy().ravel(), plan, CLASSES)
            np.testing.assert_allclose(y.numpy(), targets, atol=1e-6)


PLACES: dict[str, tuple[list[Any], list[Any]]] = {
    "array": ([MixImage()], [IntDecoder(), MixLabel(CLASSES)]),
    "array, then tensor": ([MixImage(), ToTensor()], [IntDecoder(), MixLabel(CLASSES), ToTensor()]),
    "tensor": ([ToTensor(), MixImage()], [IntDecoder(), ToTensor(), MixLabel(CLASSES)]),
    "planes": ([ToTensor(), ToTorchImage(), MixImage()], [IntDecoder(), ToTensor(), MixLabel(CLASSES)]),
    "contiguous planes": ([ToTensor(), ToTorchImage(channels_last=False), MixImage()], [IntDecoder(), MixLabel(CLASSES)]),
    "before the device": (
        [MixImage(), ToTensor(), ToDevice(CPU), ToTorchImage()],
        [IntDecoder(), MixLabel(CLASSES), ToTensor(), ToDevice(CPU)],
    ),
    "planes before the device": (
        [ToTensor(), ToTorchImage(), MixImage(), ToDevice(CPU)],
        [IntDecoder(), ToTensor(), ToDevice(CPU), MixLabel(CLASSES)],
    ),
    "then contiguous planes": (
        [ToTensor(), MixImage(), ToTorchImage(channels_last=False)],
        [IntDecoder(), ToTensor(), MixLabel(CLASSES)],
    ),
    "then flipped": ([MixImage(), RandomHorizontalFlip(0.0), ToTensor()], [IntDecoder(), MixLabel(CLASSES), ToTensor()]),
}


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("interpolations", [1, 3])
@pytest.mark.parametrize("place", PLACES)
def test_stands_anywhere(beton: Path, place: str, interpolations: int) -> None:
    image, label = PLACES[place]
    mixer = CutMix(1.0, interpolations=interpolations)
    mixed = loader(beton, *image, label=label, mixer=mixer)
    planes = "planes" in place or "device" in place
    for (x, y), (images, labels) in zip(mixed, plain(beton), strict=True):
        assert isinstance(x, np.ndarray) == (place == "array")
        assert mixed.last is not None and mixed.last.plan is not None
        expected = mix_images(images, mixed.last.plan, layout="NHWC")
        x = torch.as_tensor(x)
        assert torch.equal(x.permute(0, 2, 3, 1) if planes else x, expected)
        np.testing.assert_allclose(y, reference.mix_targets(labels.numpy().ravel(), mixed.last.plan, CLASSES), atol=1e-6)


@pytest.mark.usefixtures("interpreted")
def test_mixes_what_ffcv_has_normalised(beton: Path) -> None:
    scale = np.array([255.0, 255.0, 255.0])
    normalise = NormalizeImage(np.array(MEAN) * scale, np.array(STD) * scale, np.float32)
    one = kept(loader(beton, normalise, MixImage(), mixer=CutMix(1.0)))
    two = kept(loader(beton, MixImage(MEAN, STD), mixer=CutMix(1.0)))
    for (x, _), (y, _) in zip(one, two, strict=True):
        np.testing.assert_allclose(x, y, atol=1e-5)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_dtypes(beton: Path, dtype: torch.dtype) -> None:
    mixed = loader(beton, ToTensor(), MixImage(MEAN, STD, dtype=dtype), mixer=HMix(1.0))
    for (x, _), (images, _) in zip(mixed, plain(beton), strict=True):
        assert mixed.last is not None
        assert x.dtype == dtype
        assert torch.equal(x, mix_images(images, mixed.last.plan, mean=MEAN, std=STD, dtype=dtype, layout="NHWC"))
    converted = kept(loader(beton, ToTensor(), MixImage(), Convert(torch.float16), mixer=HMix(1.0, interpolations=2)))
    assert [len(x) for x, _ in converted] == [16, 16, 10]


@pytest.mark.usefixtures("interpreted")
def test_without_a_mixer_nothing_is_mixed(beton: Path) -> None:
    unmixed = loader(beton, ToTensor(), MixImage(), label=[IntDecoder(), MixLabel(CLASSES, smoothing=0.3)])
    for (x, y), (images, labels) in zip(unmixed, plain(beton), strict=True):
        assert torch.equal(x, images)
        np.testing.assert_allclose(y, np.eye(CLASSES)[labels.numpy().ravel()] * 0.7 + 0.1, atol=1e-6)


@pytest.mark.usefixtures("interpreted")
def test_labels_are_mixed_behind_the_images_whatever_their_order(beton: Path) -> None:
    """A matching must see the images before the first label is mixed."""
    mixer = MixUp(1.0, matching=OptimalMatching(k=4))
    for image, label in (
        ([MixImage(), ToTensor()], [IntDecoder(), ToTensor(), MixLabel(CLASSES)]),
        ([ToTensor(), ToDevice(CPU), ToTorchImage(), MixImage()], [IntDecoder(), MixLabel(CLASSES)]),
        ([NormalizeImage(np.zeros(3), np.ones(3), np.float32), MixImage()], [IntDecoder(), MixLabel(CLASSES)]),
    ):
        for pipelines in ({"image": image, "label": label}, {"label": label, "image": image}):
            pipelines["image"] = [PlannedCrop(SIZE, loader_law()), *image]
            mixed = MixLoader(str(beton), 8, 2, pipelines=pipelines, mixer=mixer)
            for _, y in mixed:
                np.testing.assert_allclose(np.asarray(y).sum(1), 1, atol=1e-6)


def loader_law() -> Any:
    from mixops.augment.crops import RandomResizedCrop

    return RandomResizedCrop()


@pytest.mark.usefixtures("interpreted")
def test_one_seed_one_epoch_one_sequence(beton: Path) -> None:
    one, two = (loader(beton, mixer=HMix(1.0), seed=3) for _ in range(2))
    first, second = kept(one), kept(one)
    assert same(first, kept(two)) and same(second, kept(two))
    assert not same(first, second)
    assert not same(first, kept(loader(beton, mixer=HMix(1.0), seed=4)))
    assert not same(first, kept(loader(beton, mixer=HMix(1.0), seed=3, rank=1)))


@pytest.mark.usefixtures("interpreted")
def test_seek_continues_with_the_same_batches(beton: Path) -> None:
    whole = loader(beton, mixer=CutMix(1.0), seed=3)
    epochs = [kept(whole) for _ in range(3)]
    resumed = loader(beton, mixer=CutMix(1.0), seed=3)
    for epoch, step in ((1, 1), (2, 2), (0, 0), (1, 3)):
        resumed.seek(epoch, step)
        assert same(kept(resumed), epochs[epoch][step:])
    assert same(kept(resumed), epochs[2]), "the epoch behind the one that was finished"
    with pytest.raises(ValueError, match=r"step must be in \[0, 3\], got 4"):
        resumed.seek(0, 4)


@pytest.mark.usefixtures("interpreted")
@pytest.mark.parametrize("os_cache", [True, False])
def test_caches_agree(beton: Path, os_cache: bool) -> None:
    assert same(kept(loader(beton, mixer=MixUp(1.0), os_cache=os_cache)), kept(loader(beton, mixer=MixUp(1.0))))


@pytest.mark.usefixtures("interpreted")
def test_planned_crops_are_torchvisions(tmp_path: Path) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    folder = write_folder(tmp_path / "train")
    raw = write_beton(folder, tmp_path / "raw.beton", jpeg_share=0)
    options: dict[str, Any] = {"mean": None, "std": None, "dtype": torch.uint8, "device": "cpu", "drop_last": False}
    theirs = ImageLoader(folder, backend="torchvision", batch_size=8, size=24, seed=2, shuffle=False, **options)
    image = [PlannedCrop((24, 24), loader_law()), ToTensor(), ToTorchImage()]
    ours = MixLoader(
        str(raw), 8, 2, seed=2, drop_last=False, pipelines={"image": image, "label": [IntDecoder(), ToTensor()]}
    )
    for _ in range(2):
        for (x, labels), (y, others) in zip(ours, theirs, strict=True):
            assert torch.equal(labels.flatten(), others)
            assert torch.equal(x, y)


@pytest.mark.nightly
def test_compiled_equals_interpreted(beton: Path) -> None:
    """With FFCV's compiler on, two workers, and FFCV's own decoder beside ours."""
    from ffcv.pipeline.compiler import Compiler

    compiled = kept(loader(beton, mixer=CutMix(1.0, interpolations=2), seed=1))
    Compiler.set_enabled(False)
    try:
        assert same(compiled, kept(loader(beton, mixer=CutMix(1.0, interpolations=2), seed=1)))
    finally:
        Compiler.set_enabled(True)


@pytest.mark.slow
def test_ffcvs_own_stages_compiled(beton: Path) -> None:
    decoder = RandomResizedCropRGBImageDecoder(SIZE)
    image = [decoder, RandomHorizontalFlip(), MixImage(MEAN, STD), ToTensor(), ToTorchImage()]
    pipelines = {"image": image, "label": [IntDecoder(), MixLabel(CLASSES), ToTensor()]}
    mixed = MixLoader(str(beton), 8, 2, pipelines=pipelines, mixer=GMix(1.0, interpolations=3))
    shapes = [(x.shape, y.shape) for x, y in mixed]
    assert shapes == [((24, 3, *SIZE), (24, CLASSES))] * 2


@pytest.mark.usefixtures("interpreted")
def test_bad_arguments(beton: Path, tmp_path: Path) -> None:
    for decoder in (CenterCropRGBImageDecoder(SIZE, 1.0), RandomResizedCropRGBImageDecoder(SIZE)):
        with pytest.raises(ValueError, match=r"must be given to a MixLoader if they hold MixImage, got an ffcv\.Loader"):
            Loader(str(beton), 8, pipelines={"image": [decoder, MixImage()], "label": None})
    with pytest.raises(ValueError, match="pipelines must hold a MixImage where there is a mixer"):
        loader(beton, ToTensor(), mixer=MixUp(1.0))
    with pytest.raises(TypeError, match="mixer must be a mixer or None, got 'mixup'"):
        loader(beton, mixer="mixup")
    with pytest.raises(ValueError, match="batch_size must be at least 1, got 0"):
        loader(beton, batch_size=0)
    with pytest.raises(ValueError, match="mean and std must be given together"):
        MixImage(MEAN)
    with pytest.raises(ValueError, match="num_classes must be at least 1, got 0"):
        MixLabel(0)
    with pytest.raises(ValueError, match="smoothing must"):
        MixLabel(3, smoothing=1.0)
    with pytest.raises(ValueError, match=r"put ToTensor\(\) before MixImage"):
        loader(beton, MixImage(MEAN, STD, dtype=torch.bfloat16), mixer=MixUp(1.0))
    with pytest.raises(NotImplementedError, match="indices"):
        loader(beton, mixer=MixUp(1.0)).filter("label", lambda label: label > 0)
    with pytest.raises(FileNotFoundError):
        loader(tmp_path / "nothing.beton")
    (tmp_path / "empty.beton").touch()
    with pytest.raises(ValueError, match="is empty"):
        loader(tmp_path / "empty.beton")
