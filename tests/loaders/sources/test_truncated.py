"""Sources that end in the middle, change under the loader, or do not answer: named, skipped or raised, and nothing twice."""

from __future__ import annotations

import os
import threading
from collections import Counter
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import make_jpeg_folder
from support.source_cases import write_lmdb, write_parquet, write_recordio, write_tars, write_tfrecords, write_zip

from loaders import ImageLoader
from loaders.sources import Folder, open_source, remote, storage

COUNT = 26
WRITERS = {
    "tar": partial(write_tars, label="cls"),
    "zip": write_zip,
    "tfrecord": write_tfrecords,
    "recordio": write_recordio,
}


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(make_jpeg_folder(tmp_path / "folder", COUNT, classes=3))


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(storage, "_WAITS", (0.0, 0.0))


def loader(root: Any, **options: Any) -> ImageLoader:
    defaults = {"backend": "torchvision", "batch_size": 8, "size": 24, "device": "cpu", "num_threads": 2, "drop_last": False}
    return ImageLoader(root, **defaults | {"ids": True} | options)


def last_shard(place: Path) -> Path:
    return max(path for path in place.iterdir() if path.is_file())


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize("share", [0.2, 0.7, 0.9])
def test_a_shard_that_was_cut_off_is_named(folder: Folder, tmp_path: Path, kind: str, share: float) -> None:
    (tmp_path / "made").mkdir()
    root = WRITERS[kind](folder, tmp_path / "made")
    shard = last_shard(tmp_path / "made")
    os.truncate(shard, int(shard.stat().st_size * share))
    with pytest.raises(ValueError, match=rf"root must be .*, got {shard}: "):
        open_source(root)


@pytest.mark.parametrize("kind", WRITERS)
def test_a_shard_that_is_cut_off_later_has_bad_samples(folder: Folder, tmp_path: Path, kind: str) -> None:
    (tmp_path / "made").mkdir()
    source = open_source(WRITERS[kind](folder, tmp_path / "made"))
    shard = last_shard(tmp_path / "made")
    os.truncate(shard, shard.stat().st_size * 2 // 3)
    with loader(source, shuffle=False) as one, pytest.raises(RuntimeError, match=rf"{shard.name}.* ends early"):
        list(one)
    with loader(source, shuffle=False, on_error="skip") as one:
        shown = [ids.tolist() for _, _, ids in one]
        bad = one.stats().bad_files
    flat = [sample for ids in shown for sample in ids]
    kept = [i for i, sample in enumerate(flat) if sample == i]
    assert len(flat) == COUNT and 0 < bad == COUNT - len(kept)  # every good sample in its place, each bad one replaced


def test_a_changed_zip_and_tfrecord_do_not_match_their_checksums(folder: Folder, tmp_path: Path) -> None:
    (tmp_path / "made").mkdir()
    source = open_source(write_zip(folder, tmp_path / "made"))
    offset = int(source.members[5, 1]) + 30
    with open(tmp_path / "made" / "train.zip", "r+b") as file:
        file.seek(offset)
        file.write(b"\0\1\2\3")
    with loader(source, on_error="skip") as one:
        assert 5 not in np.concatenate([ids for _, _, ids in one]) and one.stats().bad_files == 1
    (tmp_path / "records").mkdir()
    write_tfrecords(folder, tmp_path / "records")
    shard = last_shard(tmp_path / "records")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match=r"train-00001-of-00002: .*(checksum|no TFRecord|damaged)"):
        open_source(str(tmp_path / "records" / "train-*-of-00002"))


def test_a_row_group_of_parquet_that_cannot_be_read(folder: Folder, tmp_path: Path) -> None:
    pq = pytest.importorskip("pyarrow.parquet")
    pytest.importorskip("datasets")
    root = write_parquet(folder, tmp_path)
    victim = tmp_path / "train-00001-of-00002.parquet"
    column = pq.ParquetFile(victim).metadata.row_group(1).column(0)
    start = min(offset for offset in (column.dictionary_page_offset, column.data_page_offset) if offset)
    with open(victim, "r+b") as file:
        file.seek(start)
        file.write(bytes(column.total_compressed_size))
    source = open_source(root)
    rows = range(9 + 4, 9 + 8)
    assert len(source) == COUNT and list(source.broken) == list(rows) and np.array_equal(source.labels, folder.labels)
    assert all(f"row group 1 of {victim}" in why for why in source.broken.values())
    assert list(open_source(root).broken) == list(rows)  # as it was unpacked before
    with loader(root) as one, pytest.raises(RuntimeError, match="row group 1"):
        list(one)
    with loader(root, on_error="skip") as one:
        shown = Counter(sample for _, _, ids in one for sample in ids.tolist())
    assert shown.total() == COUNT and not set(rows) & set(shown) and set(range(COUNT)) - set(rows) == set(shown)
    os.truncate(victim, victim.stat().st_size - 10)
    with pytest.raises(ValueError, match=rf"root must be whole Parquet files, got {victim}"):
        open_source(root)


def test_a_database_that_was_cut_off(folder: Folder, tmp_path: Path) -> None:
    pytest.importorskip("lmdb")
    root = write_lmdb(folder, tmp_path)
    data = root / "data.mdb"
    os.truncate(data, data.stat().st_size // 2 // 4096 * 4096)
    with pytest.raises(ValueError, match=r"must be a whole LMDB database, .* cut off"):
        open_source(root)


class Store(SimpleHTTPRequestHandler):
    """A store of files under HTTP, with ranges, that refuses or breaks off when it is told to."""

    refuses = False
    breaks_off = 0  # bytes after which the next download ends
    holds = 0  # bytes of each file that it has, whatever length it says; 0: all
    sent: Counter[str] = Counter()  # noqa: RUF012

    def log_message(self, *_: Any) -> None:
        pass

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        path = Path(self.translate_path(self.path))
        if self.refuses:
            self.connection.close()
            return
        if not path.is_file():
            self.send_error(404)
            return
        data = path.read_bytes()
        wanted = self.headers.get("Range", "")
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        there = data[: self.holds or len(data)]
        part = there[int(first) : int(last) + 1] if wanted else data
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(len(part)))
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {first}-{int(first) + len(part) - 1}/{len(data)}")
        self.end_headers()
        if body and type(self).breaks_off and int(first or 0) >= type(self).breaks_off:
            type(self).breaks_off = 0
            self.connection.close()
        elif body:
            self.wfile.write(part)
            type(self).sent[path.name] += len(part)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[tuple[str, Path]]:
    """Address and folder of a store."""
    pytest.importorskip("fsspec", reason="needs fsspec: pip install 'mixstage[remote]'")
    pytest.importorskip("aiohttp")
    (tmp_path / "store").mkdir()
    Store.refuses, Store.breaks_off, Store.holds, Store.sent = False, 0, 0, Counter()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Store, directory=str(tmp_path / "store")))
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", tmp_path / "store"
    server.shutdown()
    thread.join()
    server.server_close()


def test_shards_of_a_store(store: tuple[str, Path], folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    address, place = store
    write_tars(folder, place, "cls")
    pattern = f"{address}/train-{{0000..0001}}.tar"
    monkeypatch.setattr(remote, "_BLOCK", 20_000)
    Store.breaks_off = 40_000
    source = open_source(pattern, cache=tmp_path / "cache")
    total = sum(path.stat().st_size for path in place.iterdir())
    assert Store.sent.total() == total and not Store.breaks_off  # what there was of a download was not fetched again
    with loader(source) as one, loader(folder) as expected:
        for (images, labels, ids), (right, right_labels, right_ids) in zip(one, expected, strict=True):
            assert torch.equal(images, right) and torch.equal(labels, right_labels) and torch.equal(ids, right_ids)
    assert source.name(0) == f"{address}/train-0000.tar/00000.jpg"
    open_source(pattern, cache=tmp_path / "cache")
    assert Store.sent.total() == total  # it is here


def test_a_store_that_refuses(
    store: tuple[str, Path], folder: Folder, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    address, place = store
    write_tars(folder, place, "cls")
    pattern = f"{address}/train-{{0000..0001}}.tar"
    with pytest.raises(ValueError, match=rf"tar files that exist, .*there is no {address}/train-0002\.tar"):
        open_source(f"{address}/train-{{0000..0002}}.tar", cache=tmp_path / "none")
    monkeypatch.setenv("MIXSTAGE_SHARDS_GB", "0.0000001")  # so that a shard makes room for the other
    source = open_source(pattern, cache=tmp_path / "cache")
    assert len([path for path in (tmp_path / "cache" / "shards").iterdir() if path.suffix == ".tar"]) == 1
    Store.refuses = True
    with loader(source, on_error="skip") as one, pytest.raises(OSError, match=rf"{address}/train-000\d\.tar"):
        list(one)  # storage that fails is no bad sample: all others would fail, too
    with pytest.raises(OSError, match=r"127\.0\.0\.1"):
        open_source(pattern, cache=tmp_path / "other")
    Store.refuses = False
    with loader(source) as one:
        assert sorted(sample for _, _, ids in one for sample in ids.tolist()) == list(range(COUNT))


def test_a_store_that_gives_less_than_it_says(store: tuple[str, Path], folder: Folder, tmp_path: Path) -> None:
    address, place = store
    write_tars(folder, place, "cls")
    size = (place / "train-0000.tar").stat().st_size
    Store.holds = 1000
    with pytest.raises(OSError, match=rf"the store gave 1000 bytes of {size}: .*train-0000\.tar"):
        open_source(f"{address}/train-0000.tar", cache=tmp_path / "cache")
    assert not [path for path in (tmp_path / "cache" / "shards").iterdir() if path.suffix == ".tar"]
    Store.holds = 0
    assert len(open_source(f"{address}/train-0000.tar", cache=tmp_path / "cache"))
    assert Store.sent["train-0000.tar"] == size  # what there was is kept
