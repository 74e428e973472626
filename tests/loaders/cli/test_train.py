"""mixstage train: a line an epoch, every mixer, and a resumed run that ends with the weights of one that was not stopped."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import make_jpeg_folder
from typer.testing import CliRunner

from loaders.cli.main import app
from mixops.mixers.registry import REGISTRY

OPTIONS = ["--model", "small", "--backend", "torchvision", "--size", "16", "--batch-size", "12", "--device", "cpu",
           "--num-threads", "2"]  # fmt: skip


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("splits")
    make_jpeg_folder(folder / "train", 60, classes=3)
    make_jpeg_folder(folder / "test", 12, classes=3, seed=1000)
    return folder


def run(root: Path, *arguments: str) -> Any:
    result = CliRunner().invoke(app, ["train", str(root), *OPTIONS, *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result


def test_a_line_and_an_entry_for_each_epoch(root: Path) -> None:
    result = run(root, "--epochs", "2", "--mixer", "HMix(interpolations=3)", "--json", "-")
    figures = json.loads(result.stdout)
    assert [one["epoch"] for one in figures["epochs"]] == [1, 2] and figures["accuracy"] == figures["epochs"][1]["accuracy"]
    for one in figures["epochs"]:
        assert 0 < one["loss"] < 10 and 0 <= one["accuracy"] <= 1
        assert one["outputs_per_second"] == pytest.approx(3 * one["images_per_second"]) and one["images_per_second"] > 0
    assert "epoch 1 of 2: loss " in result.stderr and "epoch 2 of 2: loss " in result.stderr
    assert "epoch 1 of 1: loss " in run(root, "--epochs", "1").stdout


def test_a_resumed_run_ends_with_the_same_weights(root: Path, tmp_path: Path) -> None:
    common = ["--mixer", "CutMix(0.5)", "--seed", "3"]
    run(root, *common, "--epochs", "3", "--out", str(tmp_path / "whole.pt"))
    saved = tmp_path / "checkpoint.pt"
    # ended by an error in the middle of its second epoch
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyError):
        steps, inner = iter(range(1000)), torch.optim.SGD.step

        def step(self: Any, *args: Any) -> Any:
            if next(steps) == 7:
                raise KeyError
            return inner(self, *args)

        patch.setattr(torch.optim.SGD, "step", step)
        run(root, *common, "--epochs", "3", "--checkpoint", str(saved))
    result = run(root, *common, "--epochs", "3", "--resume", str(saved), "--out", str(tmp_path / "two.pt"), "--json", "-")
    assert len(json.loads(result.stdout)["epochs"]) == 3
    whole, two = (torch.load(tmp_path / name, weights_only=True) for name in ("whole.pt", "two.pt"))
    assert whole.keys() == two.keys() and all(torch.equal(whole[name], two[name]) for name in whole)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["checkpoint.pt", "two.pt", "whole.pt"]


def test_another_run_is_refused_by_name(root: Path, tmp_path: Path) -> None:
    saved = tmp_path / "checkpoint.pt"
    run(root, "--epochs", "1", "--checkpoint", str(saved))
    for arguments, message in (
        (["--epochs", "2"], "epochs was 1 and is 2"),
        (["--epochs", "1", "--lr", "0.2"], "lr was 0.1 and is 0.2"),
        (["--epochs", "1", "--mixer", "HMix"], "mixer was 'None' and is 'HMix"),
    ):
        with pytest.raises(ValueError, match=message):
            run(root, *arguments, "--resume", str(saved))
    (tmp_path / "text.pt").write_text("no checkpoint")
    for name in ("text.pt", "none.pt"):
        with pytest.raises(ValueError, match="resume must be a checkpoint of mixstage train"):
            run(root, "--epochs", "1", "--resume", str(tmp_path / name))


def test_files_are_checked_before_the_work(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody should train for days to learn that the folder of the weights is not there."""
    out, saved = tmp_path / "new" / "deep" / "out.pt", tmp_path / "kept" / "checkpoint.pt"
    run(root, "--epochs", "1", "--checkpoint", str(saved), "--out", str(out))
    assert out.is_file() and saved.is_file()
    with pytest.raises(ValueError, match=r"which --checkpoint writes and --out does not, got '.*out\.pt'"):
        run(root, "--epochs", "1", "--resume", str(out))
    monkeypatch.setattr("loaders.cli.train.Training", None)  # no work begins
    for option in ("out", "checkpoint"):
        with pytest.raises(ValueError, match=f"{option} must be a file that can be written, got '{tmp_path}'"):
            run(root, "--epochs", "1", f"--{option}", str(tmp_path))


@pytest.mark.parametrize(
    "mixer", [text for entry in REGISTRY for text, made in entry.examples().items() if made.needs <= {"images"}]
)
def test_every_mixer_that_a_loader_can_have(root: Path, mixer: str) -> None:
    assert json.loads(run(root, "--epochs", "1", "--mixer", mixer, "--json", "-").stdout)["loss"] > 0


@pytest.mark.parametrize("arguments, message", [
    (["--model", "resnet1"], "model must be 'small' or a torchvision model"),
    (["--device", "tpu"], "device must be 'cpu' or 'cuda'"),
])  # fmt: skip
def test_bad_arguments_are_named(root: Path, arguments: list[str], message: str) -> None:
    pytest.importorskip("torchvision")
    with pytest.raises(ValueError, match=message):
        run(root, "--epochs", "1", *arguments)
