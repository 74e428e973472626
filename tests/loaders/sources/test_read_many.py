"""Many images by one compiled call: the bytes that ``read`` gives, or nothing, and ``read`` is asked."""

from __future__ import annotations

import gc
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from support.images import encoded, make_jpeg_folder, picture
from support.source_cases import write_recordio, write_tars, write_tfrecords

from loaders import ImageLoader
from loaders.backends import dali
from loaders.sources import Files, Folder, open_source
from loaders.sources.composed import Joined, Selected
from loaders.sources.read_many import Buffers, Places, read_many, whole_files

WAITED = np.zeros(1, np.int64)


def read_all(source, samples, buffers=None):
    ids = np.asarray(samples)
    return read_many(source.places(ids), source.sizes[ids], buffers or Buffers(), np.zeros(1, np.int64))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Path(make_jpeg_folder(tmp_path_factory.mktemp("many") / "images", 20, classes=2))


@pytest.fixture(scope="module")
def sources(folder: Path) -> dict[str, object]:
    made = folder.parent / "made"
    made.mkdir()
    whole = Folder(folder)
    paths = [whole.name(i) for i in range(len(whole))]
    return {
        "folder": whole, "files": Files(paths[::-1], whole.labels[::-1]),
        "files of two roots": Files([*paths, "../" + os.path.relpath(paths[3], folder.parent)], [0] * 21, root=folder),
        "tar": open_source(write_tars(whole, made)), "selected": Selected(whole, [5, 5, 0, 19]),
        "tfrecord": open_source(write_tfrecords(whole, made)),
        "joined": Joined([Selected(whole, [5, 5, 0, 19]), whole, open_source(write_tars(whole, made))]),
    }  # fmt: skip


@pytest.mark.parametrize("name", ["folder", "files", "files of two roots", "tar", "selected", "tfrecord", "joined"])
def test_the_bytes_are_those_of_read(sources, name: str) -> None:
    source, buffers = sources[name], Buffers()
    samples = np.random.default_rng(0).integers(0, len(source), 90)
    for usual in (1 << 17, 1):  # all in one buffer, and each in a call of its own
        buffers.usual = usual
        assert [bytes(data) for data in read_all(source, samples, buffers)] == [source.read(i) for i in samples.tolist()]


def test_sources_that_are_no_pieces_of_files_say_so(folder: Path, tmp_path: Path) -> None:
    records = open_source(write_recordio(Folder(folder), tmp_path))  # which are put together of their parts
    assert records.places(np.arange(3)) is None
    shard = open_source(write_tars(Folder(folder), tmp_path))
    for path in tmp_path.glob("*.tar"):
        path.unlink()
    assert shard.places(np.arange(3)) is None, "`read` says what is wrong"


def test_of_joined_sources_those_without_places_are_left_to_read(folder: Path, tmp_path: Path) -> None:
    whole = Folder(folder)
    records = open_source(write_recordio(whole, tmp_path))
    both = Joined([records, whole, records])
    found = read_all(both, samples := [0, 25, 19, 20, 41, 39])
    assert [None if data is None else bytes(data) for data in found] == [
        both.read(i) if 20 <= i < 40 else None for i in samples
    ]
    assert Joined([records, records]).places(np.arange(3)) is None


def test_whatever_is_unusual_is_left_to_read(tmp_path: Path) -> None:
    good = encoded(picture(0))
    size = np.array([60, 90])
    (tmp_path / "all").mkdir()
    contents = {
        "good": good, "empty": b"", "cut": good[: len(good) // 2], "no end": good[:-2], "png": encoded(picture(0), "PNG"),
        "text": b"hello", "adobe": good[:2] + b"\xff\xc9\0\2" + good[2:],
    }  # fmt: skip
    for name, data in contents.items():
        (tmp_path / "all" / name).write_bytes(data)
    os.mkfifo(tmp_path / "all" / "fifo")
    (tmp_path / "all" / "folder").mkdir()
    os.symlink("nowhere", tmp_path / "all" / "dangling")
    os.symlink("good", tmp_path / "all" / "link")
    os.symlink("/dev/zero", tmp_path / "all" / "device")
    names = [*contents, "fifo", "folder", "dangling", "missing", "link", "device", "good"]
    places = whole_files(str(tmp_path / "all"), np.array([os.fsencode(name) for name in names]), np.arange(len(names)))
    before = set(os.listdir("/proc/self/fd"))
    for expected, wanted in ((size, True), (size + 1, False), (size * 0, True)):
        found = read_many(places, np.tile(expected, (len(names), 1)), Buffers(), WAITED)
        told = {name: data for name, data in zip(names, found, strict=True) if data is not None}
        assert told.keys() == ({"good", "link"} if wanted else set())
        assert all(bytes(data) == good for data in told.values())
    assert WAITED[0] == len(names) - 1
    assert set(os.listdir("/proc/self/fd")) == before


def test_pieces_beyond_the_end_of_a_file_are_left_out(tmp_path: Path) -> None:
    data = encoded(picture(1))
    (tmp_path / "shard").write_bytes(b"abc" + data)
    with open(tmp_path / "shard", "rb") as file:
        offset, length = np.array([3, 3, 4, 0, 10**12]), np.array([len(data), len(data) + 1, len(data), 3, len(data)])
        files = np.full(5, file.fileno(), np.int32)
        places = Places(b"", np.zeros(5, "S1"), files, offset, length)
        found = read_many(places, np.zeros((5, 2), np.int64), Buffers(), WAITED)
        assert [None if one is None else bytes(one) for one in found] == [data, None, None, None, None]
        assert os.pread(file.fileno(), 3, 0) == b"abc", "who opened it closes it"


def test_images_larger_than_any_before(tmp_path: Path) -> None:
    folder = Path(make_jpeg_folder(tmp_path / "images", 12, classes=1))
    comment = b"\xff\xfe\xff\xff" + b"c" * 65533
    for i, path in enumerate(sorted(folder.glob("*/*"))):
        data = path.read_bytes()
        path.write_bytes(data[:2] + comment * (9 * i) + data[2:])
    source, buffers = Folder(folder), Buffers()
    for _ in range(2):
        assert [bytes(data) for data in read_all(source, range(12), buffers)] == [source.read(i) for i in range(12)]
    assert 1 << 20 < buffers.usual <= 1 << 21, "the usual is no more than two megabytes, whatever there is"


def test_memory_is_not_given_again_while_a_view_of_it_is_there() -> None:
    buffers, held = Buffers(), []
    for i in range(20):
        one = buffers.take(1000)
        one[:] = i
        held.append(one[10 * i : 10 * i + 5])
        del one
        if i % 4 == 3:
            held.pop(0)
    assert [set(view.tolist()) for view in held] == [{i} for i in range(5, 20)]
    address = held[0].__array_interface__["data"][0]
    held.clear()
    gc.collect()
    assert any(buffers.take(1000).__array_interface__["data"][0] <= address for _ in range(3))
    kept = len(buffers._idle)
    assert 0 < kept <= 20
    buffers.take(10**7)
    assert len(buffers._idle) == 1, "what is too small is dropped"


@pytest.mark.parametrize("kind", ["folder", "tar"])
def test_the_dali_backend_asks_for_no_single_file(folder: Path, tmp_path: Path, kind: str, monkeypatch) -> None:
    pytest.importorskip("nvidia.dali")
    root = folder if kind == "folder" else write_tars(Folder(folder), tmp_path)
    options = {"batch_size": 8, "size": 24, "device": "cpu", "seed": 1, "num_threads": 3}

    def batches() -> list[torch.Tensor]:
        with ImageLoader(root, backend="dali", **options) as one:
            return [images for images, _ in one]

    with monkeypatch.context() as patch:
        patch.setattr(dali, "read_many", lambda places, *_: [None] * len(places.names))
        expected = batches()
    monkeypatch.setattr(dali, "read_plain", lambda *_: pytest.fail("a file was read by itself"))
    assert all(map(torch.equal, batches(), expected))


def test_the_file_that_is_waited_for_is_named(folder: Path, monkeypatch) -> None:
    pytest.importorskip("nvidia.dali")
    gate = threading.Event()

    def hang(places: Places, sizes: np.ndarray, buffers: Buffers, at: np.ndarray) -> list[None]:
        at[0] = 2
        gate.wait(300)
        return [None] * len(places.names)

    monkeypatch.setattr(dali, "read_many", hang)
    options = {"batch_size": 8, "size": 24, "device": "cpu", "num_threads": 1, "timeout": 0.5, "shuffle": False}
    one = ImageLoader(folder, backend="dali", **options)
    try:
        with pytest.raises(TimeoutError, match=r"waited 0.5 s for (step 0 of epoch 0|the files.*slow is .*/00004.jpg)"):
            next(iter(one))
    finally:
        gate.set()
        one.close()
