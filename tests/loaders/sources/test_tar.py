"""Tar shards are a data set like any other: same schedule, same batches as the folder they were made from."""

from __future__ import annotations

import gc
import io
import os
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from support.images import awkward, encoded, make_jpeg_folder, picture

from loaders import ImageLoader
from loaders.sources import open_source, packed
from loaders.sources import tar as webdataset
from loaders.sources.packed import find_shards
from loaders.sources.tar import TarShards
from mixops import HMix
from pipelines.bad_file import BadFile

Member = tuple[str, bytes]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIXSTAGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def write_tar(path: Path, members: list[Member]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))


def shards_of(folder: Path, out: Path, sizes: tuple[int, ...]) -> str:
    """Writes the images of a folder into shards of uneven sizes, in order; returns the pattern."""
    files = sorted(folder.glob("*/*"), key=lambda f: (f.parent.name, f.name))
    assert sum(sizes) == len(files)
    start = 0
    for shard, size in enumerate(sizes):
        members = []
        for file in files[start : start + size]:
            key = f"{file.parent.name}_{file.stem}"
            members += [(f"{key}.cls", file.parent.name.encode()), (f"{key}.json", b"{}"), (f"{key}.jpg", file.read_bytes())]
        write_tar(out / f"train-{shard:04d}.tar", members)
        start += size
    return str(out / f"train-{{0000..{len(sizes) - 1:04d}}}.tar")


@pytest.mark.parametrize("backend", ["dali", "torchvision"])
def test_batches_are_those_of_the_folder(backend: str, tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali" if backend == "dali" else "torchvision")
    folder = make_jpeg_folder(tmp_path / "folder", 41, classes=4)
    pattern = shards_of(folder, tmp_path / "tars", (20, 1, 13, 7))
    options = {"backend": backend, "batch_size": 8, "size": 32, "mixer": HMix(), "seed": 3, "device": "cpu"}
    with ImageLoader(folder, **options) as expected, ImageLoader(pattern, **options) as loader:
        assert loader.classes == expected.classes
        for epoch in range(2):
            for (images, targets), (right_images, right_targets) in zip(loader, expected, strict=True):
                assert torch.equal(images, right_images) and torch.equal(targets, right_targets), epoch


def test_resumes_and_deals_to_ranks(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    pattern = shards_of(make_jpeg_folder(tmp_path / "folder", 24, classes=4), tmp_path / "tars", (5, 19))
    options = {"batch_size": 4, "size": 32, "mixer": HMix(), "device": "cpu"}
    with ImageLoader(pattern, **options) as loader, ImageLoader(pattern, **options) as later:
        batches = iter(loader)
        for _ in range(2):
            next(batches)
        later.load_state_dict(loader.state_dict())
        for (images, _), (right, _) in zip(later, batches, strict=True):
            assert torch.equal(images, right)
    ids = [
        np.concatenate([loader.draw(0, step).ids for step in range(len(loader))])
        for loader in (ImageLoader(pattern, rank=rank, world_size=3, **options) for rank in range(3))
    ]
    assert sorted(np.concatenate(ids).tolist()) == list(range(24))


def test_reads_every_accepted_format_and_nested_keys(tmp_path: Path) -> None:
    files = [awkward(seed) for seed in range(17)]
    members = [
        member
        for i, (name, data) in enumerate(files)
        for member in ((f"./a/{i}.{name.rsplit('.')[-1]}", data), (f"./a/{i}.cls", b"7\n"))
    ]
    write_tar(tmp_path / "x.tar", members)
    index = TarShards(tmp_path / "x.tar")
    assert not index.broken and index.classes == tuple("01234567") and set(index.labels.tolist()) == {7}
    for i, (_, data) in enumerate(files):
        assert index.read(i) == data
    assert index.name(0) == f"{tmp_path}/x.tar/./a/0.jpg"


def test_cache_spares_the_shards_that_did_not_change(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache: Path) -> None:
    pattern = shards_of(make_jpeg_folder(tmp_path / "folder", 12, classes=3), tmp_path / "tars", (4, 6, 2))
    scanned: list[str] = []
    scan = webdataset._scan
    monkeypatch.setattr(webdataset, "_scan", lambda path, name, *rest: scanned.append(name) or scan(path, name, *rest))
    first = open_source(pattern)
    assert isinstance(first, TarShards) and scanned == [f"train-000{i}.tar" for i in range(3)]
    scanned.clear()
    again = open_source(pattern)
    assert not scanned and again.digest == first.digest
    for name in ("files", "labels", "sizes", "members"):
        assert np.array_equal(getattr(again, name), getattr(first, name)), name

    write_tar(tmp_path / "tars/train-0001.tar", [("new.jpg", encoded(picture(1))), ("new.cls", b"1")])
    changed = open_source(pattern)
    assert scanned == ["train-0001.tar"] and len(changed) == 7 and changed.digest != first.digest
    assert changed.files[4] == b"train-0001.tar/new.jpg"

    shard, members = tmp_path / "tars/train-0001.tar", [("two.jpg", encoded(picture(1))), ("two.cls", b"1")]
    before = shard.stat()
    write_tar(shard, members)
    assert shard.stat().st_size == before.st_size  # another time alone
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    assert open_source(pattern).files[4] == b"train-0001.tar/two.jpg"
    write_tar(shard, members * 20)
    assert shard.stat().st_size != before.st_size  # another length alone
    os.utime(shard, ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    with pytest.raises(ValueError, match="two"):
        open_source(pattern)
    write_tar(shard, [("new.jpg", encoded(picture(1))), ("new.cls", b"1")])
    assert open_source(pattern).digest == changed.digest
    for file in cache.glob("*.npz"):
        file.write_bytes(b"no cache")
    assert open_source(pattern).digest == changed.digest


def test_broken_images_are_named_and_replaced(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    good = [(f"{i}.jpg", encoded(picture(i))) for i in range(7)]
    members = [*good, ("bad.jpg", b"<html>404</html>")]
    write_tar(tmp_path / "x.tar", [m for m in members] + [(f"{name[:-4]}.cls", b"0") for name, _ in members])
    for _ in range(2):  # as scanned, and from the cache
        index = TarShards(tmp_path / "x.tar")
        assert list(index.broken) == [7] and "no image of an accepted format" in index.broken[7]
    options = {"backend": "torchvision", "batch_size": 8, "size": 32, "device": "cpu"}
    with ImageLoader(tmp_path / "x.tar", **options) as loader, pytest.raises(RuntimeError, match=r"x\.tar/bad\.jpg"):
        list(loader)
    with ImageLoader(tmp_path / "x.tar", on_error="skip", **options) as loader:
        assert [len(images) for images, _ in loader] == [8]


def test_a_shard_that_shrinks_is_a_bad_file(tmp_path: Path) -> None:
    write_tar(tmp_path / "x.tar", [("a.jpg", encoded(picture(0))), ("a.cls", b"0")])
    index = TarShards(tmp_path / "x.tar")
    os.truncate(tmp_path / "x.tar", 700)
    with pytest.raises(BadFile, match=r"x\.tar ends early"):
        index.read(0)
    (tmp_path / "x.tar").unlink()
    with pytest.raises(BadFile, match="No such file"):
        del index._open  # the open shard
        index.read(0)


def test_keeps_few_descriptors_and_gives_them_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed, "_OPEN_SHARDS", 2)
    pattern = shards_of(make_jpeg_folder(tmp_path / "folder", 6, classes=2), tmp_path / "tars", (1, 2, 1, 1, 1))
    index = TarShards(pattern)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(2):
        for i in range(6):
            index.read(i)
    assert len(os.listdir("/proc/self/fd")) == before + 2
    del index
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_patterns(tmp_path: Path) -> None:
    for name in ("a-08.tar", "a-09.tar", "a-10.tar", "b-0.tar"):
        (tmp_path / name).touch()

    def names(pattern: str) -> list[str]:
        return [os.path.basename(path) for path in find_shards(tmp_path / pattern)]

    assert names("a-{08..10}.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("a-*.tar") == ["a-08.tar", "a-09.tar", "a-10.tar"]
    assert names("{b-0,a-09}.tar") == ["b-0.tar", "a-09.tar"]
    assert names("{a,b}-*.tar") == ["a-08.tar", "a-09.tar", "a-10.tar", "b-0.tar"]
    assert names("{a-0,a-0}{8..9}.tar") == ["a-08.tar", "a-09.tar"] * 2


@pytest.mark.parametrize(
    ("pattern", "members", "message"),
    [
        ("none-*.tar", [], r"there is no .*none-\*\.tar"),
        ("x-{0..1}.tar", [], r"there is no .*x-0\.tar"),
        ("x-{b..d}.tar", [], r"there is no .*x-b\.tar"),
        ("x-{0..3.tar", [], "[Uu]nbalanced"),
        ("y.tar", [], "that hold images"),
        ("y.tar", [("a.jpg", b"")], r"none for '/a' in .*y\.tar"),
        ("y.tar", [("a.jpg", b""), ("a.cls", b"tench")], r"got b'tench' in a\.cls"),
        ("y.tar", [("a.jpg", b""), ("a.png", b""), ("a.cls", b"0")], "two of 'a'"),
    ],
)
def test_errors(pattern: str, members: list[Member], message: str, tmp_path: Path) -> None:
    write_tar(tmp_path / "y.tar", members)
    with pytest.raises(ValueError, match=message):
        TarShards(tmp_path / pattern)


def test_compressed_tars_are_refused(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "y.tar", "w:gz") as tar:
        tar.add(__file__, "a.cls")
    with pytest.raises(ValueError, match="plain tar files"):
        TarShards(tmp_path / "y.tar")


def test_shards_of_the_webdataset_package(tmp_path: Path) -> None:
    wds = pytest.importorskip("webdataset", reason="needs webdataset: pip install 'mixstage[webdataset]'")
    images = [encoded(picture(i)) for i in range(5)]
    with wds.ShardWriter(str(tmp_path / "out-%04d.tar"), maxcount=3, verbose=0) as writer:
        for i, data in enumerate(images):
            writer.write({"__key__": f"sample{i}", "jpg": data, "cls": i % 2})
    index = TarShards(tmp_path / "out-{0000..0001}.tar")
    assert index.labels.tolist() == [0, 1, 0, 1, 0]
    assert [index.read(i) for i in range(5)] == images
