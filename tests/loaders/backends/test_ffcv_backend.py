"""ImageLoader over .beton files: the same batches as the other backends, and its contract."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.ffcv_data import write_beton, write_folder

pytest.importorskip("ffcv", reason="ffcv is not installed")

from loaders import ImageLoader
from loaders.sources import Folder
from loaders.sources.beton import BetonFile
from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, Switch
from pipelines.ffcv.beton import Beton
from pipelines.ffcv.decode import turbojpeg

PIXELS: dict[str, Any] = {"mean": None, "std": None, "dtype": torch.uint8, "device": "cpu"}
COMMON: dict[str, Any] = {**PIXELS, "batch_size": 4, "size": 48, "seed": 7, "drop_last": False}
MIXERS = [
    MixUp(1.0),
    CutMix(1.0),
    HMix(1.0),
    GMix(1.0, interpolations=3),
    Switch([MixUp(0.8), CutMix(1.0)]),
    MixUp(1.0, matching=OptimalMatching(k=2)),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder(tmp_path_factory.mktemp("backend") / "train")


@pytest.fixture(scope="module")
def raw(folder: Path) -> Path:
    return write_beton(folder, folder.parent / "raw.beton", jpeg_share=0)


@pytest.fixture(scope="module")
def jpeg(folder: Path) -> Path:
    return write_beton(folder, folder.parent / "jpeg.beton")


@pytest.fixture(scope="module")
def unpacked(folder: Path, jpeg: Path) -> Path:
    """The records of the JPEG file as an image folder."""
    beton = Beton(jpeg)
    for sample, name in enumerate(beton.annotations.names):
        path = (folder.parent / "unpacked" / name).with_suffix(".jpg")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(beton.read(beton.images("image"), sample))
    return folder.parent / "unpacked"


def batches(root: Path, backend: str, epochs: int = 1, **options: Any) -> list[tuple[torch.Tensor, ...]]:
    with ImageLoader(root, backend=backend, **{**COMMON, **options}) as loader:  # type: ignore[arg-type]
        return [batch for _ in range(epochs) for batch in loader]


@pytest.mark.parametrize("split", ["train", "val"])
def test_images_are_torchvisions(raw: Path, jpeg: Path, folder: Path, unpacked: Path, split: str) -> None:
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    for beton, root, limit in ((raw, folder, 0.1), (jpeg, unpacked, 1.2)):
        ours, theirs = (batches(path, name, 2, split=split) for path, name in ((beton, "ffcv"), (root, "torchvision")))
        differences = []
        for (x, labels), (y, others) in zip(ours, theirs, strict=True):
            assert torch.equal(labels, others)
            differences.append((x.float() - y.float()).abs().mean().item())
        assert np.mean(differences) < limit


@pytest.mark.parametrize("mixer", MIXERS, ids=repr)
@pytest.mark.parametrize("other", ["torchvision", "dali"])
def test_draws_are_those_of_the_other_backends(raw: Path, folder: Path, other: str, mixer: Any) -> None:
    needed = {"torchvision": "torchvision", "dali": "nvidia.dali"}[other]
    pytest.importorskip(needed, reason=f"{needed} is not installed")
    for rank, world_size in ((0, 1), (1, 3)):
        options = {**COMMON, "mixer": mixer, "rank": rank, "world_size": world_size, "num_threads": 2}
        one = ImageLoader(raw, backend="ffcv", **options)  # type: ignore[arg-type]
        two = ImageLoader(folder, backend=other, **options)  # type: ignore[arg-type]
        with one, two:
            assert len(one) == len(two)
            for step, ((_, targets), (_, others)) in enumerate(zip(one, two, strict=True)):
                a, b = one.draw(0, step), two.draw(0, step)
                for name in ("rows", "ids", "windows", "flips"):
                    np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
                assert torch.equal(targets, others), "and so weights and partners"
                if mixer.matching is None:  # which looks at the pixels; these are equal here
                    assert one.plan(0, step).to_json() == two.plan(0, step).to_json()


def test_index_is_the_folders(raw: Path, folder: Path) -> None:
    ours, theirs = BetonFile(raw), Folder(folder)
    assert ours.classes == theirs.classes and ours.digest == theirs.digest
    np.testing.assert_array_equal(ours.files, theirs.files)
    np.testing.assert_array_equal(ours.labels, theirs.labels)
    np.testing.assert_array_equal(ours.sizes, theirs.sizes)
    assert ours.name(8) == f"{raw}/dog/001.png"


def test_a_file_without_names(jpeg: Path, tmp_path: Path) -> None:
    from support.ffcv_data import without_checksums

    (tmp_path / "a.beton").write_bytes(jpeg.read_bytes())
    path = without_checksums(tmp_path / "a.beton")
    loader = ImageLoader(path, backend="ffcv", **COMMON)
    assert loader.classes == ["0", "1", "2"]
    assert loader.dataset.name(5).endswith("a.beton/sample 5")
    for (x, _), (y, _) in zip(batches(path, "ffcv"), batches(jpeg, "ffcv"), strict=True):
        assert torch.equal(x, y)


WRITE = """
import sys
from ffcv.fields import FloatField, IntField, RGBImageField
from ffcv.writer import DatasetWriter
from torchvision.datasets import ImageFolder

class WithNumber:
    images = ImageFolder(sys.argv[1])
    def __len__(self):
        return len(self.images)
    def __getitem__(self, i):
        return i * 0.5, *self.images[i]

fields = {"number": FloatField(), "image": RGBImageField(write_mode="raw"), "label": IntField()}
DatasetWriter(sys.argv[2], fields, num_workers=2).from_indexed_dataset(WithNumber())
"""


@pytest.mark.slow
def test_a_file_that_ffcv_wrote(folder: Path, tmp_path: Path, raw: Path) -> None:
    """In a process of its own, for FFCV's writer forks."""
    pytest.importorskip("torchvision", reason="torchvision is not installed")
    subprocess.run([sys.executable, "-c", WRITE, str(folder), str(tmp_path / "a.beton")], check=True)
    for (x, y), (u, v) in zip(batches(tmp_path / "a.beton", "ffcv"), batches(raw, "ffcv"), strict=True):
        assert torch.equal(x, u) and torch.equal(y, v)


def test_a_folder_is_read_like_any_other_source(folder: Path, jpeg: Path) -> None:
    """The PNG and the CMYK image in it are Pillow's, the rest libffcv's, whose arithmetic differs a little."""
    differences = []
    for (x, labels), (y, others) in zip(batches(folder, "ffcv"), batches(folder, "torchvision"), strict=True):
        assert torch.equal(labels, others)
        differences += (x.float() - y.float()).abs().mean((1, 2, 3)).tolist()
    assert len(differences) == 21
    assert max(differences) < 2
    assert sum(difference < 0.1 for difference in differences) >= 6  # the same decoder for two images of each class


def test_every_image_once(raw: Path) -> None:
    for world_size in (1, 2, 3):
        seen = []
        for rank in range(world_size):
            options = {**COMMON, "rank": rank, "world_size": world_size}
            loader = ImageLoader(raw, backend="ffcv", **options)
            seen += [i for step in range(len(loader)) for i in loader.draw(0, step).ids.tolist()]
            assert sum(len(x) for x, _ in loader) == sum(len(loader.draw(0, step).ids) for step in range(len(loader)))
        assert sorted(seen) == list(range(21))


def test_resumes_anywhere(raw: Path, folder: Path) -> None:
    options: dict[str, Any] = {**COMMON, "mixer": HMix(1.0), "size": 32}
    whole = batches(raw, "ffcv", 2, **options)
    loader = ImageLoader(raw, backend="ffcv", **options)
    for at in (1, 4, 6, 9):
        state, resumed = None, ImageLoader(raw, backend="ffcv", num_threads=3, prefetch=1, **options)
        loader.set_epoch(0)
        taken = 0
        while taken < at:
            for _ in loader:
                taken += 1
                if taken == at:
                    state = loader.state_dict()
                    break
        assert state is not None
        resumed.load_state_dict(state)
        rest = list(resumed)
        end = (at // 6 + 1) * 6 if at % 6 else at + 6
        assert len(rest) == end - at
        for (x, y), (u, v) in zip(rest, whole[at:end], strict=True):
            assert torch.equal(x, u) and torch.equal(y, v)


def test_kept_batches_stay(raw: Path) -> None:
    loader = ImageLoader(raw, backend="ffcv", **COMMON)
    held = list(loader)
    loader.set_epoch(0)
    for (x, _), (y, _) in zip(held, loader, strict=True):
        assert torch.equal(x, y)


def test_bad_records(folder: Path, tmp_path: Path) -> None:
    from support.ffcv_data import damage

    path = write_beton(folder, tmp_path / "a.beton")
    damage(path, 9)
    damage(path, 20, 0.0)
    with pytest.raises(RuntimeError, match=r"a\.beton/(dog/002|owl/006)\.jpg: does not match its checksum"):
        batches(path, "ffcv")
    loader = ImageLoader(path, backend="ffcv", on_error="skip", **COMMON)
    clean = ImageLoader(folder, backend="torchvision", **COMMON)
    rows = 0
    for step, (_, labels) in enumerate(loader):
        ids, planned = loader.draw(0, step).ids, clean.draw(0, step).ids
        assert not {9, 20} & set(ids.tolist())
        good = ~np.isin(planned, (9, 20))
        np.testing.assert_array_equal(ids[good], planned[good])
        np.testing.assert_array_equal(labels, loader.dataset.labels[ids])
        rows += len(labels)
    assert rows == 21


def test_a_file_that_changes_size(folder: Path, tmp_path: Path) -> None:
    path = write_beton(folder, tmp_path / "a.beton")
    loader = ImageLoader(path, backend="ffcv", prefetch=1, **COMMON)
    with pytest.raises(RuntimeError, match=r"had \d+ bytes when it was opened and now has"):
        for step, _ in enumerate(loader):
            if step == 0:
                os.truncate(path, 8_400_000)


def test_break_leaves_no_thread(raw: Path) -> None:
    def threads() -> int:
        return sum("kernel" not in t.name for t in threading.enumerate())

    before = threads()
    loader = ImageLoader(raw, backend="ffcv", num_threads=2, **COMMON)
    for _ in range(3):
        for _ in loader:
            break
        assert threads() == before


def test_clear_errors(folder: Path, tmp_path: Path, raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"root must be a \.beton file, got .*nothing\.beton', which does not exist"):
        ImageLoader(tmp_path / "nothing.beton", backend="ffcv", **COMMON)
    (tmp_path / "cut.beton").write_bytes(raw.read_bytes()[:9_000_000])
    with pytest.raises(ValueError, match="was cut off"):
        ImageLoader(tmp_path / "cut.beton", backend="ffcv", **COMMON)
    turbojpeg.cache_clear()
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'mixstage\[ffcv\]'"):
        next(iter(ImageLoader(raw, backend="ffcv", **COMMON)))
