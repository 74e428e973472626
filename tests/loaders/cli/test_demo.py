"""The demo compares what it says it compares, on images that a seed chooses, and draws its sheet."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.images import make_jpeg_folder
from typer.testing import CliRunner

from loaders.cli.demo import Clock, few
from loaders.cli.main import app

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


def test_the_demo_learns_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    arguments = [
        "--out",
        str(tmp_path),
        "--epochs",
        "8",
        "--seeds",
        "2",
        "--per-class",
        "20",
        "--json",
        str(tmp_path / "d.json"),
    ]
    result = CliRunner().invoke(app, ["demo", *arguments])
    assert result.exit_code == 0, result.output
    figures = json.loads((tmp_path / "d.json").read_text())
    assert len(figures) == 4
    for name, run in figures.items():
        assert len(run["accuracies"]) == 2 and min(run["accuracies"]) > 0.3, name
        outputs = 3 if "K=3" in name else 1
        assert run["outputs_per_second"] == pytest.approx(outputs * run["sources_per_second"])
    with Image.open(tmp_path / "preview.png") as sheet:
        assert sheet.width > 600
    assert sorted(folder.name for folder in (tmp_path / "digits" / "train").iterdir()) == list("0123456789")
    assert len(list((tmp_path / "digits").rglob("*.jpg"))) == 1797


@pytest.mark.nightly
def test_the_demo_takes_a_folder_and_says_what_it_lacks(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    result = CliRunner().invoke(app, ["demo", str(tmp_path)])
    assert result.exit_code and "root must hold train/ and test/ or val/" in f"{result.output} {result.exception}"
    make_jpeg_folder(tmp_path / "train", 60, classes=2)
    make_jpeg_folder(tmp_path / "val", 8, classes=2, seed=100)
    options = f"--out {tmp_path / 'out'} --epochs 2 --seeds 1 --per-class 25 --backend torchvision".split()
    result = CliRunner().invoke(app, ["demo", str(tmp_path), *options])
    assert result.exit_code == 0, result.output
    assert "25 images a class" in " ".join(result.output.split())
    assert (tmp_path / "out" / "preview.png").exists()


def test_few_images_a_class_are_drawn_anew_from_each_seed() -> None:
    labels = np.array([0] * 40 + [1] * 3 + [2] * 17)
    chosen = [few(labels, 5, seed) for seed in range(3)]
    for ids in chosen:
        assert len(set(ids)) == 13 and np.bincount(labels[ids]).tolist() == [5, 3, 5]
    assert chosen[0] == few(labels, 5, 0) and len({tuple(ids) for ids in chosen}) == 3


def test_the_demo_does_not_count_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([0.0, 100.0, 101.0, 102.0, 103.0])  # the first two steps compile and start
    monkeypatch.setattr("loaders.cli.demo.time.perf_counter", lambda: next(times))
    clock = Clock(warm=2, then=lambda: None)
    for _ in range(5):
        clock()
    assert clock.steps_per_second() == 1.0
