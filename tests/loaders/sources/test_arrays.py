"""Arrays as a data set, and labels in all the forms that people have them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.nightly import nightly

from loaders import ImageLoader
from loaders.sources import Arrays
from mixops import (
    CutMix,
    MixUp,
    OptimalMatching,
    PaddedRandomCrop,
    RandomErasing,
    RandomResizedCrop,
    TrivialAugmentWide,
    mix_images,
)

PIXELS = np.random.default_rng(0).integers(0, 256, (10, 8, 8, 3), np.uint8)
LABELS = np.arange(10) % 3


def test_forms_of_images(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    for images in (PIXELS, torch.from_numpy(PIXELS), tmp_path / "images.npy"):
        source = Arrays(images, LABELS)
        assert len(source) == 10 and source.decoded and source.sizes.tolist() == [[8, 8]] * 10
        assert all(np.array_equal(source.read(i), PIXELS[i]) for i in range(10))
    assert Arrays(tmp_path / "images.npy", LABELS).name(3) == f"image 3 of {tmp_path}/images.npy"
    assert isinstance(Arrays(tmp_path / "images.npy", LABELS).images, np.memmap)
    for grey in (PIXELS[..., 0], PIXELS[..., :1]):
        assert np.array_equal(Arrays(grey, LABELS).read(4), np.repeat(PIXELS[4, ..., :1], 3, 2))


def test_forms_of_labels(tmp_path: Path) -> None:
    np.save(tmp_path / "labels.npy", LABELS.astype(np.int16))
    for labels in (LABELS, LABELS.tolist(), torch.from_numpy(LABELS), tmp_path / "labels.npy", LABELS.astype(np.uint8)):
        source = Arrays(PIXELS, labels)
        assert source.labels.dtype == np.int64 and np.array_equal(source.labels, LABELS)
        assert source.classes == ("0", "1", "2")
    named = Arrays(PIXELS, [["cat", "ant", "bee"][label] for label in LABELS])
    assert named.classes == ("ant", "bee", "cat") and named.labels[:3].tolist() == [2, 0, 1]
    ordered = Arrays(PIXELS, [["cat", "ant", "bee"][label] for label in LABELS], ["cat", "ant", "bee", "dog"])
    assert np.array_equal(ordered.labels, LABELS) and len(ordered.classes) == 4


def test_digest_is_of_labels_and_classes() -> None:
    assert Arrays(PIXELS, LABELS).digest == Arrays(PIXELS.copy(), LABELS.tolist()).digest
    others = [Arrays(PIXELS, LABELS[::-1]), Arrays(PIXELS[:9], LABELS[:9]), Arrays(PIXELS, LABELS, ["a", "b", "c"])]
    assert len({Arrays(PIXELS, LABELS).digest, *(other.digest for other in others)}) == 4


@pytest.mark.parametrize(
    ("images", "labels", "classes", "message"),
    [
        (PIXELS / 255, LABELS, None, "images must be uint8, got float64"),
        (PIXELS.transpose(0, 3, 1, 2), LABELS, None, r"images must be of shape \(n, h, w, 3\)"),
        (PIXELS[0, 0], LABELS, None, r"images must be of shape"),
        (PIXELS, LABELS[:9], None, "labels must be one for each of the 10 samples, got 9"),
        (PIXELS, LABELS - 1, None, r"labels must be class numbers of 0 to \d+, got -1 for sample 0"),
        (PIXELS, LABELS, ["a", "b"], "labels must be class numbers of 0 to 1, got 2 for sample 2"),
        (PIXELS, LABELS, ["a", "b", "a"], "classes must be different names"),
        (PIXELS, ["x"] * 10, ["a", "b"], "labels must be among the 2 classes, got 'x'"),
        (PIXELS, LABELS / 2, None, r"labels must be integers or names .*, got float64 of shape \(10,\)"),
        (PIXELS, np.full((10, 2), np.nan), None, "labels must be finite"),
        (PIXELS, np.ones((10, 2)), ["a"], "labels must have a column for each of the 1 classes, got 2"),
        (PIXELS, ["a", 1] * 5, None, "labels must be all numbers or all names"),
    ],
)
def test_errors(images: Any, labels: Any, classes: Any, message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Arrays(images, labels, classes)


def test_a_file_that_was_cut_off(tmp_path: Path) -> None:
    np.save(tmp_path / "images.npy", PIXELS)
    data = (tmp_path / "images.npy").read_bytes()
    for length in (len(data) - 1, 40, 0):
        (tmp_path / "images.npy").write_bytes(data[:length])
        with pytest.raises(ValueError, match=r"images must be a whole \.npy file, got .*images\.npy"):
            Arrays(tmp_path / "images.npy", LABELS)


@pytest.mark.parametrize("backend", ["dali", "torchvision", "ffcv"])
def test_soft_labels_are_mixed(backend: str) -> None:
    pytest.importorskip({"dali": "nvidia.dali", "torchvision": "PIL", "ffcv": "ffcv"}[backend])
    weights = np.random.default_rng(1).random((10, 4)).astype(np.float32)
    source = Arrays(PIXELS, weights, list("abcd"))
    options: dict[str, Any] = {"backend": backend, "batch_size": 5, "size": 8, "crop": PaddedRandomCrop(1), "device": "cpu"}
    with ImageLoader(source, mixer=MixUp(), **options) as loader:
        for step, (_, targets) in enumerate(loader):
            plan, own = loader.plan(0, step), torch.from_numpy(weights[loader.draw(0, step).ids])
            share = torch.from_numpy(plan.weight).float()
            assert torch.allclose(targets, share * own + (1 - share) * own[plan.partner], atol=1e-6)
    with ImageLoader(source, ids=True, **options) as loader:
        for _, labels, ids in loader:
            assert torch.equal(labels, torch.from_numpy(weights)[ids])
    with pytest.raises(ValueError, match="targets must be 'dense' for labels that are weights"):
        ImageLoader(source, targets="sparse", mixer=MixUp(), **options)
    with pytest.raises(ValueError, match="weights must be numbers for labels that are weights"):
        ImageLoader(source, weights="balanced", **options)


@pytest.mark.parametrize("backend", ["dali", "ffcv"])
def test_nothing_is_decoded(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip({"dali": "nvidia.dali", "ffcv": "ffcv"}[backend])
    from loaders.backends import dali, ffcv

    def refused(*_: Any) -> None:
        raise AssertionError("was asked to decode")

    monkeypatch.setattr(dali, "DecodePipeline", refused)
    monkeypatch.setattr(ffcv.RecordDecoder, "__call__", refused)
    with ImageLoader(Arrays(PIXELS, LABELS), backend=backend, batch_size=5, size=6, device="cpu") as loader:
        assert len(list(loader)) == 2


BACKENDS = ("dali", "torchvision", "ffcv")
MODULES = {"dali": "nvidia.dali", "torchvision": "PIL", "ffcv": "ffcv"}


def batches(source: Arrays, backend: str, **options: Any) -> list[Any]:
    pytest.importorskip(MODULES[backend])
    defaults: dict[str, Any] = {"batch_size": 4, "crop": PaddedRandomCrop(2), "device": "cpu", "mixer": CutMix(), "seed": 3}
    with ImageLoader(source, backend=backend, **defaults | options) as loader:
        return list(loader)


@pytest.mark.parametrize("crop", [PaddedRandomCrop(2), RandomResizedCrop(interpolation="bicubic")], ids=repr)
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize(
    "augment", [None, [TrivialAugmentWide(), RandomErasing(0.5, value="pixel")]], ids=["plain", "augmented"]
)
def test_what_is_kept_on_a_device_is_cut_out_there(
    backend: str, crop: Any, augment: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The device of this test is the CPU, by the operations that run on any."""
    expected = batches(Arrays(PIXELS, LABELS), backend, size=8, crop=crop, augment=augment)
    kept = Arrays(torch.from_numpy(PIXELS), torch.from_numpy(LABELS), device="cpu")
    assert isinstance(kept.images, torch.Tensor) and kept.device == torch.device("cpu")
    if backend != "torchvision":  # the reference, which reads image by image
        monkeypatch.setattr(Arrays, "read", lambda *_: pytest.fail("was brought to the host"))
    for (images, targets), (right, right_targets) in zip(
        batches(kept, backend, size=8, crop=crop, augment=augment), expected, strict=True
    ):
        assert torch.equal(images, right) and torch.equal(targets, right_targets)


def test_grey_images_have_three_channels_on_a_device_too() -> None:
    for crop in (PaddedRandomCrop(1), RandomResizedCrop()):
        options: dict[str, Any] = {"size": 8, "crop": crop, "mean": None, "std": None, "dtype": torch.uint8}
        for images, _ in batches(Arrays(PIXELS[..., 0], LABELS, device="cpu"), "ffcv", **options):
            assert images.shape[1] == 3 and torch.equal(images[:, :1].expand_as(images), images)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("device", [None, "cpu"])
@pytest.mark.parametrize("dtype", [np.uint8, *nightly([np.float16]), np.float32])
def test_planes_are_cut_out_and_mixed(backend: str, device: Any, dtype: Any) -> None:
    """Spectrograms: a window in time, nothing mirrored or resized, mixed as images are."""
    planes = np.random.default_rng(2).normal(20, 40, (10, 2, 6, 15)).astype(dtype)
    source = Arrays(planes, LABELS, layout="NCHW", device=device)
    options: dict[str, Any] = {"size": (6, 9), "mean": (0.5, 0.4), "std": (0.25, 0.2), "crop": None, "mixer": MixUp()}
    pytest.importorskip(MODULES[backend])
    with ImageLoader(source, backend=backend, batch_size=5, device="cpu", **options) as loader:
        assert "(5, 2, 6, 9)" in repr(loader)
        for step, (images, targets) in enumerate(loader):
            plan = loader.draw(0, step)
            assert not plan.flips.any()
            cut = np.stack(
                [planes[i, :, :, left : left + 9] for i, left in zip(plan.ids, plan.windows[:, 1].astype(int), strict=True)]
            )
            expected = mix_images(torch.from_numpy(cut), plan.mix, mean=(0.5, 0.4), std=(0.25, 0.2), dtype=torch.float32)
            torch.testing.assert_close(images, expected)
            assert targets.shape == (5, 3)
        assert len({*plan.windows[:, 1].tolist()}) > 1
    whole = {"size": (4, 8), "mean": None, "std": None, "mixer": None, "batch_size": 10, "split": "val", "crop": None}
    ((images, labels),) = batches(source, backend, **whole)
    expected = torch.from_numpy(planes[:, :, 1:5, 4:12].astype(np.float32)) / (255 if dtype == np.uint8 else 1)
    torch.testing.assert_close(images, expected)
    assert labels.tolist() == LABELS.tolist()


def test_planes_meet_a_transform_and_a_matching() -> None:
    planes = np.random.default_rng(2).normal(0, 1, (8, 1, 4, 6)).astype(np.float32)
    options: dict[str, Any] = {"size": (4, 6), "mean": None, "std": None, "batch_size": 8, "crop": None}
    mixer = MixUp(matching=OptimalMatching(k=2))
    source = Arrays(planes, LABELS[:8], layout="NCHW")
    ((images, _),) = batches(source, "ffcv", mixer=mixer, transform=lambda x, generator: x.neg(), **options)
    with ImageLoader(source, backend="ffcv", device="cpu", seed=3, mixer=mixer, **options) as loader:
        turned = -torch.from_numpy(planes)[loader.draw(0, 0).ids]
        torch.testing.assert_close(images, mix_images(turned, loader.plan(0, 0, turned)))


PLANES = np.zeros((4, 2, 6, 9), np.float32)


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        ({"device": "cpu"}, {"split": "val"}, None),
        ({"device": "meta"}, {}, "device must be that of the arrays, meta, got cpu"),
        ({"layout": "NCHW"}, {"crop": RandomResizedCrop()}, r"crop must resize nothing for planes \(c, h, w\)"),
        ({"layout": "NCHW"}, {"augment": TrivialAugmentWide()}, r"augment must be None for planes \(c, h, w\)"),
        ({"layout": "NCHW"}, {"augment": "rand-m9"}, r"augment must be None for planes \(c, h, w\)"),
        ({"layout": "NCHW"}, {"mean": (0.5,) * 3, "std": (0.5,) * 3}, "mean must have one value or one a channel, 2, got 3"),
        ({"layout": "NCHW"}, {"dtype": torch.uint8}, "dtype must be floating for planes of float32"),
        ({"layout": "NCHW"}, {"size": (7, 9)}, r"size must be at most that of the padded images, \[6, 9\]"),
        ({"layout": "NCHW"}, {"size": (7, 9), "split": "val"}, r"size must be at most that of the images, \[6, 9\]"),
        ({"layout": "NCHW"}, {"flip": 0.5}, None),
    ],
)
def test_what_makes_no_sense_is_refused(source: dict[str, Any], options: dict[str, Any], message: str | None) -> None:
    planes = "layout" in source
    arrays = Arrays(PLANES if planes else PIXELS[:4], LABELS[:4], **source)
    plain: dict[str, Any] = {"size": (6, 9), "mean": None, "std": None} if planes else {"size": 8}
    options = {"backend": "torchvision", "batch_size": 2, "device": "cpu"} | plain | options
    if message is None:
        ImageLoader(arrays, **options).close()
        return
    with pytest.raises(ValueError, match=message):
        ImageLoader(arrays, **options)


@pytest.mark.parametrize(
    ("images", "options", "message"),
    [
        (
            PLANES.astype(int),
            {"layout": "NCHW"},
            "images must be one of uint8, float16, float32 under layout='NCHW', got int64",
        ),
        (PLANES[0], {"layout": "NCHW"}, r"images must be of shape \(n, c, h, w\) under layout='NCHW', got \(2, 6, 9\)"),
        (PLANES, {"layout": "CHW"}, "layout must be 'NHWC' or 'NCHW', got 'CHW'"),
        (PIXELS[:4], {"device": "nowhere"}, "device must be one that there is"),
        (PIXELS[:4], {"device": 1.5}, "device must be 'cpu', 'cuda', a torch.device or None"),
    ],
)
def test_errors_of_planes_and_devices(images: Any, options: dict[str, Any], message: str) -> None:
    with pytest.raises((TypeError, ValueError), match=message):
        Arrays(images, LABELS[:4], **options)
