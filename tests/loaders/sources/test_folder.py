"""The index: torchvision's order and labels, sizes cached and read again where a file changed, clear errors."""

from __future__ import annotations

import os
import threading

import numpy as np
import pytest
from PIL import Image
from support.images import damage, encoded, make_jpeg_folder, picture
from torchvision.datasets import ImageFolder

from loaders.sources import Folder
from loaders.sources import folder as folder_source
from loaders.sources.cache import locked


@pytest.fixture
def folder(tmp_path):
    return make_jpeg_folder(tmp_path / "data", 23)


@pytest.fixture
def scanned(monkeypatch):
    """The files whose headers are read."""
    names = []
    read = folder_source._file_size
    monkeypatch.setattr(folder_source, "_file_size", lambda path: names.append(os.path.basename(path)) or read(path))
    return names


def test_order_and_labels_are_image_folders(awkward_folder, tmp_path):
    deep = tmp_path / "deep"
    for name in ("b/z/1.jpg", "b/a/2.PNG", "b/0.jpg", "b/a.b/3.jpg", "a/x.JPEG", "a/notes.txt", "a/é.jpg", "a/a b.jpg"):
        (deep / name).parent.mkdir(parents=True, exist_ok=True)
        (deep / name).write_bytes(encoded(picture(0)))
    (deep / "a" / "linked.jpg").symlink_to(deep / "b" / "0.jpg")
    (deep / "b" / "linked folder").symlink_to(deep / "a", target_is_directory=True)
    for root in (awkward_folder, deep):
        ours, theirs = Folder(root), ImageFolder(str(root))
        assert [ours.name(i) for i in range(len(ours))] == [path for path, _ in theirs.samples]
        assert ours.labels.tolist() == theirs.targets
        assert list(ours.classes) == theirs.classes


def test_sizes_are_those_stored(awkward_folder):
    index = Folder(awkward_folder)
    for i in range(len(index)):
        with Image.open(index.name(i)) as image:
            assert index.sizes[i].tolist() == [image.height, image.width]
    assert index.broken == {}


def test_headers_are_read_once(folder, scanned):
    first = Folder(folder)
    assert len(scanned) == 23
    scanned.clear()
    second = Folder(folder)
    assert scanned == []
    assert np.array_equal(first.sizes, second.sizes)
    assert first.digest == second.digest


def test_only_what_changed_is_read_again(folder, scanned):
    before = Folder(folder)
    scanned.clear()
    (folder / "0" / "00000.jpg").write_bytes(encoded(picture(99, 44, 55)))  # another length
    path = folder / "1" / "00001.jpg"
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))  # another time
    (folder / "2" / "new.jpg").write_bytes(encoded(picture(98, 31, 32)))
    (folder / "3" / "00003.jpg").unlink()
    (folder / "4" / "00004.jpg").rename(folder / "4" / "moved.jpg")
    after = Folder(folder)
    assert sorted(scanned) == ["00000.jpg", "00001.jpg", "moved.jpg", "new.jpg"]
    names = [os.path.basename(after.name(i)) for i in range(len(after))]
    assert after.sizes[names.index("00000.jpg")].tolist() == [55, 44]
    assert after.sizes[names.index("new.jpg")].tolist() == [32, 31]
    assert len(after) == 23 and "00003.jpg" not in names
    assert before.digest != after.digest
    scanned.clear()
    Folder(folder)
    assert scanned == []


def test_broken_headers_are_recorded_and_looked_at_again(folder, scanned):
    damage(folder / "0" / "00000.jpg", "garbage")
    damage(folder / "1" / "00001.jpg", "empty")
    (folder / "2" / "dangling.jpg").symlink_to(folder / "nothing.jpg")
    index = Folder(folder)
    assert [os.path.basename(index.name(i)) for i in index.broken] == ["00000.jpg", "00001.jpg", "dangling.jpg"]
    assert [reason.split(",")[0] for reason in index.broken.values()] == [
        "is no image of an accepted format", "is empty", "cannot be read: No such file or directory",
    ]  # fmt: skip
    assert (index.sizes[list(index.broken)] == 0).all()
    scanned.clear()
    assert Folder(folder).broken == index.broken
    assert sorted(scanned) == ["00000.jpg", "00001.jpg", "dangling.jpg"]
    (folder / "1" / "00001.jpg").write_bytes(encoded(picture(1)))
    assert len(Folder(folder).broken) == 2


def test_digest_is_of_names_and_labels(tmp_path):
    one, two = (make_jpeg_folder(tmp_path / name, 10, seed=seed) for name, seed in (("one", 0), ("two", 50)))
    assert Folder(one).digest == Folder(two).digest
    (one / "0").rename(one / "00")
    assert Folder(one).digest != Folder(two).digest


def test_cache_that_cannot_be_read_is_no_error(folder, tmp_path, scanned, caplog):
    cache = tmp_path / "cache"
    Folder(folder, cache=cache)
    (file,) = cache.glob("*.npz")
    file.write_bytes(file.read_bytes()[:100])
    scanned.clear()
    Folder(folder, cache=cache)
    assert len(scanned) == 23
    assert "cannot use the index cache" in caplog.text
    scanned.clear()
    Folder(folder, cache=cache)
    assert scanned == []


def test_cache_that_cannot_be_written_is_no_error(folder, tmp_path, caplog):
    (tmp_path / "file").write_text("not a folder")
    assert len(Folder(folder, cache=tmp_path / "file")) == 23
    assert "cannot write the index cache" in caplog.text
    assert not list(tmp_path.glob("*.tmp"))


def test_two_that_come_at_once_read_the_headers_once(folder, tmp_path, scanned):
    results = []
    threads = [threading.Thread(target=lambda: results.append(Folder(folder, cache=tmp_path / "c"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(scanned) == 23
    assert len(results) == 4


def test_a_cache_that_is_whole_is_used_without_its_lock(folder, tmp_path, scanned):
    """Many ranks that start at once need not wait for one another."""
    first = Folder(folder, cache=tmp_path / "c")
    scanned.clear()
    (file,) = (tmp_path / "c").glob("*.npz")
    with locked(file, "data", 1):
        assert np.array_equal(Folder(folder, cache=tmp_path / "c", timeout=0.5).sizes, first.sizes)
        (folder / "2" / "new.jpg").write_bytes(encoded(picture(98, 31, 32)))
        with pytest.raises(TimeoutError, match="another process that reads"):
            Folder(folder, cache=tmp_path / "c", timeout=0.5)
    assert scanned == []


@pytest.mark.parametrize("change", ["nothing", "gone", "new", "other"])
def test_names_are_read_from_the_cache_only_once_after_a_change(folder, monkeypatch, change):
    """The sizes alone are what a start reads that finds everything as it was."""
    Folder(folder)
    if change == "gone":
        (folder / "3" / "00003.jpg").unlink()
    elif change == "new":
        (folder / "2" / "new.jpg").write_bytes(encoded(picture(98, 31, 32)))
    elif change == "other":
        os.utime(folder / "1" / "00001.jpg", ns=(0, 1))
    asked = []
    read = folder_source.read_cache
    monkeypatch.setattr(folder_source, "read_cache", lambda file, *names: asked.append(names) or read(file, *names))
    for _ in range(2):
        Folder(folder)
    assert [names for names in asked if "files" in names] == [("files", "stats", "sizes")] * (change != "nothing")


def test_a_file_that_takes_the_place_of_another_is_read_again(folder, scanned):
    """Equal length and time under another name are another file."""
    Folder(folder)
    scanned.clear()
    first, second = folder / "0" / "00000.jpg", folder / "0" / "00000.jpeg"  # where it would stand in the old list
    status = first.stat()
    first.rename(second)
    os.utime(second, ns=(0, status.st_mtime_ns))
    Folder(folder)
    assert scanned == ["00000.jpeg"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda root: None, "root must be a folder .* which does not exist"),
        (lambda root: root.mkdir(), "root must be a folder with one sub-folder per class, got .* which has none"),
        (lambda root: root.mkdir() or (root / "a-0.tar").touch(), r"which has none; its shards are '.*/pictures/\*\.tar'"),
        (lambda root: (root / "a").mkdir(parents=True), "root must have images .* whose class 'a' has none"),
        (lambda root: root.write_text(""), "root must be a folder"),
    ],
)
def test_bad_roots_are_named(tmp_path, make, message):
    root = tmp_path / "pictures"
    make(root)
    with pytest.raises(ValueError, match=message) as error:
        Folder(root)
    assert str(root) in str(error.value)


def test_class_without_images_is_named(folder):
    (folder / "5 empty").mkdir()
    (folder / "5 empty" / "readme.txt").write_text("")
    with pytest.raises(ValueError, match="whose class '5 empty' has none"):
        Folder(folder)
