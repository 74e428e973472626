"""Arrays as a data set, and labels in all the forms that people have them in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from loaders import ImageLoader
from loaders.sources import Arrays
from mixops import MixUp, PaddedRandomCrop

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
        (PIXELS, LABELS[:9], None, "labels must be one a sample, 10, got 9"),
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
