"""A folder of splits is not taken for a data set of the classes train and val."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.images import make_jpeg_folder

from loaders import ImageLoader
from loaders.sources.folder import Folder
from loaders.sources.splits import find_splits


def make(root: Path, *names: str) -> Path:
    for name in names:
        make_jpeg_folder(root / name, 4, classes=2)
    return root


@pytest.mark.parametrize(
    "names", [("train", "val"), ("train", "test", "val"), ("train",), ("Train", "Validation"), ("test",)]
)
def test_splits_are_named_with_what_to_pass(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = make(tmp_path / "imagenet", *names)
    with pytest.raises(ValueError, match="root must be the folder of one split") as error:
        ImageLoader(root, backend="torchvision", batch_size=2)
    assert f"({', '.join(sorted(names))})" in str(error.value) and "`mixstage train` takes" in str(error.value)
    assert f"pass {str(root / names[0])!r}" in str(error.value)
    assert len(Folder(root / names[0])) == 4


def test_classes_that_are_named_like_splits(tmp_path: Path) -> None:
    assert Folder(make(tmp_path / "a", "train", "bus")).classes == ("bus", "train")  # a bus is no split
    for name in ("train", "test"):
        make_jpeg_folder(tmp_path / "flat" / name, 4, classes=1)
        (folder,) = (tmp_path / "flat" / name).iterdir()
        for file in folder.iterdir():
            file.rename(tmp_path / "flat" / name / file.name)
        folder.rmdir()
    assert Folder(tmp_path / "flat").classes == ("test", "train")  # their images lie in them: classes


def test_finds_the_splits_to_train_and_test_on(tmp_path: Path) -> None:
    root = make(tmp_path / "a", "train", "test")
    assert find_splits(root) == (root / "train", root / "test")
    make(root, "val")
    assert find_splits(root) == (root / "train", root / "val")
    with pytest.raises(ValueError, match="root must hold train/ and one of val/, test/"):
        find_splits(root / "train")


def test_nothing_is_said_to_be_missing_that_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.beton").mkdir()
    for make_one, message in (
        (lambda: Folder(tmp_path / "a.txt"), "which is no folder"),
        (lambda: Folder(tmp_path / "none"), "which does not exist"),
        (lambda: ImageLoader(tmp_path / "b.beton", batch_size=2, backend="torchvision"), "which is no file"),
        (lambda: ImageLoader(tmp_path / "c.beton", batch_size=2, backend="torchvision"), "which does not exist"),
    ):
        with pytest.raises(ValueError, match=message):
            make_one()
