"""Validation classes that are not the training classes are refused by name."""

from __future__ import annotations

import pytest
from support.images import make_jpeg_folder

from loaders.classes import check_same_classes
from loaders.cli.train import train_folder


@pytest.mark.parametrize(
    ("val", "message"),
    [
        (["a", "c"], "val must have the classes of train, but it lacks 'b'$"),
        (["a", "b", "c", "d"], "but it has besides 'd'$"),
        (["a", "b", "d"], "but it lacks 'c' and has besides 'd'$"),
        (["b", "a", "c"], "but it has them in another order$"),
        ([], "lacks 'a', 'b', 'c'$"),
        (["a", "b", "c", *"defghijk"], "has besides 'd', 'e', 'f', 'g', 'h' and 3 more$"),
    ],
)
def test_differences_are_named(val, message):
    with pytest.raises(ValueError, match=message):
        check_same_classes(["a", "b", "c"], val)
    check_same_classes(["a", "b", "c"], ("a", "b", "c"))


def test_training_refuses_other_classes(tmp_path, monkeypatch):
    monkeypatch.setenv("MIXSTAGE_CACHE", str(tmp_path / "cache"))
    make_jpeg_folder(tmp_path / "train", 12, classes=3)
    make_jpeg_folder(tmp_path / "val", 12, classes=3)
    (tmp_path / "val" / "1").rename(tmp_path / "val" / "11")
    with pytest.raises(ValueError, match="val must have the classes of train, but it lacks '1' and has besides '11'"):
        train_folder(tmp_path, None, "small", 1, 0.05, batch_size=4, size=16, seed=0, backend="torchvision")
