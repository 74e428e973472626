"""The examples refuse validation classes that are not those of training, before anything is trained."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest
from support.imagenet import SMALL, invoke
from support.images import make_jpeg_folder

EXAMPLES = Path(__file__).parents[2] / "examples"
MESSAGE = "val must have the classes of train, but it lacks '2'"


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXSTAGE_CACHE", str(tmp_path / "cache"))
    make_jpeg_folder(tmp_path / "train", 12, classes=4)
    make_jpeg_folder(tmp_path / "val", 12, classes=2)
    (tmp_path / "val" / "3").mkdir()
    (tmp_path / "val" / "3" / "0.jpg").write_bytes((tmp_path / "val" / "0" / "00000.jpg").read_bytes())
    return tmp_path


def load(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["timm_train", "lightning_train"])
def test_scripts(name: str, place: Path) -> None:
    pytest.importorskip("timm")
    if name == "lightning_train":
        pytest.importorskip("lightning")
    with pytest.raises(ValueError, match=MESSAGE):
        load(name).main(place / "train", place / "val", model="test_resnet", batch_size=4, size=32, backend="torchvision")


def test_recipes(place: Path) -> None:
    pytest.importorskip("timm")
    options = ["--train", "train", "--val", "val", "--model", "test_resnet", "--batch-size", "4", "--sizes", "32"]
    with pytest.raises(AssertionError, match=f"train.py: {MESSAGE}"):  # a line on the error stream
        invoke(*options, *SMALL, "--val-size", "32", "--backend", "torchvision")
