"""The pipeline benchmark: what it times, what it writes, and that its photographs cost what photographs cost."""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from support.images import make_jpeg_folder
from typer.testing import CliRunner

from benchmarks.claims import claims
from loaders.bench import epoch_timing, pipeline_stages
from loaders.bench.epoch_timing import count_batches, measure_epochs
from loaders.bench.kernel_calls import who_won
from loaders.bench.peers import Setting, plain_dali
from loaders.bench.photos import photo, write_photos
from loaders.bench.pipeline import pipeline
from loaders.bench.pipeline_augment import NONE, POLICIES
from loaders.bench.pipeline_table import speed
from mixops import Key
from mixops.augment import as_augmentation


def test_photographs(tmp_path: Path) -> None:
    write_photos(tmp_path, 6, classes=3)
    files = sorted(tmp_path.glob("*/*.jpg"))
    assert len(files) == 6 and len({file.read_bytes() for file in files}) == 6
    assert all(80_000 < file.stat().st_size < 120_000 for file in files)
    pixels = photo(5)
    assert pixels.shape == (375, 500, 3) and np.array_equal(pixels, photo(5))
    assert 40 < pixels.std() < 70  # contrast of photographs
    before = [file.stat().st_mtime_ns for file in files]
    write_photos(tmp_path, 6, classes=3)
    assert [file.stat().st_mtime_ns for file in files] == before


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    make_jpeg_folder(tmp_path / "images", 16, classes=2)
    return Setting(tmp_path / "images", tmp_path / "images.beton", 2, 32, 2, "cpu")


def test_times_the_middle_of_epochs_in_turn(setting: Setting, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock: each batch takes a second, but the first two and the last two ten; what is said to be made ahead none."""
    clock = [0.0]
    monkeypatch.setattr(epoch_timing.time, "perf_counter", lambda: clock[0])
    monkeypatch.setattr(epoch_timing.time, "sleep", lambda seconds: None)
    order: list[str] = []

    def case(name: str, seconds: float) -> Any:
        @contextmanager
        def opened() -> Generator[Any, None, None]:
            def epoch() -> Generator[None, None, None]:
                order.append(name)
                for batch in range(8):
                    clock[0] += seconds if 2 <= batch < 6 else 10
                    yield

            yield epoch

        return opened

    rates = measure_epochs(setting, {"a": case("a", 1), "b": case("b", 4)}, rounds=3, describe="")
    assert rates["a"].tolist() == [2.0] * 3 and rates["b"].tolist() == [0.5] * 3  # images/s of batches of two
    assert order == ["a", "b", "a", "b", "b", "a", "a", "b"]
    assert speed(rates, "b", "a") == (0.25, 0.25, 0.25) and speed(rates, "b", "c") is None


def test_an_epoch_of_another_length_is_noticed(setting: Setting) -> None:
    @contextmanager
    def short() -> Generator[Any, None, None]:
        yield lambda: iter(range(7))

    with pytest.raises(RuntimeError, match="7 batches instead of 8"):
        measure_epochs(setting, {"short": short}, 1, "")


def run(*arguments: str) -> None:
    app = typer.Typer()
    app.command()(pipeline)
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == 0, result.output


@pytest.mark.nightly
def test_mixers_table(tmp_path: Path, setting: Setting) -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip("matplotlib")
    options = ["--part", "mixers", "--batch-size", "4", "--size", "32", "--rounds", "1", "--device", "cpu"]
    make_jpeg_folder(tmp_path / "many", 128, classes=2)
    options[3] = "32"  # a matching needs two blocks of 16
    run(str(tmp_path / "many"), *options, "--out", str(tmp_path / "out"), "--json", str(tmp_path / "all.json"))
    (report,) = json.loads((tmp_path / "all.json").read_text())
    rows = {row["mixer"]: row for row in report["rows"]}
    assert rows["none"]["x without mixing"]["median"] == 1.0
    assert {"HMix(alpha=1.0)", "GMix(alpha=1.0, interpolations=5)"} <= rows.keys()
    assert all(row["images/s"]["median"] > 0 for row in rows.values())
    for ending in ("md", "json", "png"):
        assert (tmp_path / "out" / f"pipeline-mixers-cpu.{ending}").stat().st_size > 500
    assert "torch" in report["conditions"] and "CPU" in report["conditions"]


@pytest.mark.slow
def test_all_tables(tmp_path: Path) -> None:
    for name in ("nvidia.dali", "torchvision", "matplotlib"):
        pytest.importorskip(name)
    run("--images", "128", "--batch-size", "32", "--size", "64", "--rounds", "1", "--device", "cpu",
        "--out", str(tmp_path), "--json", str(tmp_path / "all.json"))  # fmt: skip
    titles = [report["title"] for report in json.loads((tmp_path / "all.json").read_text())]
    assert [title.split(",")[0].split(" over")[0] for title in titles] == [
        "Loaders alone", "Stages", "Mixers in the DALI loader", "Augmentation", "Loaders alone", "Training",
    ]  # fmt: skip
    assert "| what | measured | on |" in claims(tmp_path) and "DALI loader with mixing" in claims(tmp_path)


def test_claims_come_from_the_file(tmp_path: Path) -> None:
    figure = {"median": 2.5, "low": 2.25, "high": 2.75}
    report = {
        "conditions": {"CPU": "Some CPU", "GPU": "none", "date": "2026-11-21 10:00 UTC"},
        "rows": [{"loader": "mixstage dali, HMix", "x torchvision with mixing": figure, "x plain DALI": None}],
    }
    (tmp_path / "pipeline-loaders-cpu.json").write_text(json.dumps(report))
    (row,) = claims(tmp_path).splitlines()[2:]
    assert "2.50x (2.25 to 2.75)" in row and "Some CPU, 2026-11-21" in row


def test_claims_of_a_gpu(tmp_path: Path) -> None:
    """The least of all rows where a claim is of all, and nothing where a row has no figure."""
    figures = [{"median": value, "low": value - 0.01, "high": value + 0.01} for value in (0.88, 0.86, 0.9)]
    share = "share of a copy of the same bytes"
    rows: list[dict[str, Any]] = [{"path": "kernel", "mixer": "HMix", share: figure} for figure in figures]
    rows.append({"path": "torchvision, with targets", "mixer": "MixUp", share: None, "times the GPU time of mixstage": None})
    report = {"conditions": {"CPU": "Some CPU", "GPU": "Some GPU", "date": "2026-11-21 10:00 UTC"}, "rows": rows}
    (tmp_path / "kernels-cuda.json").write_text(json.dumps(report))
    (row,) = claims(tmp_path).splitlines()[2:]
    assert "0.86x (0.85 to 0.87)" in row and "[Some GPU, 2026-11-21](results/kernels-cuda.md)" in row


def test_only_some_contestants(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    root = make_jpeg_folder(tmp_path / "images", 16, classes=2)
    options = ["--part", "mixers", "--batch-size", "4", "--size", "32", "--rounds", "1", "--device", "cpu"]
    run(str(root), *options, "--only", "none", "--only", "HMix(alpha=1.0)", "--json", str(tmp_path / "some.json"))
    (report,) = json.loads((tmp_path / "some.json").read_text())
    assert [row["mixer"] for row in report["rows"]] == ["none", "HMix(alpha=1.0)"]
    with pytest.raises(ValueError, match=r"only must be names of none, .* got HMix"):
        run(str(root), *options, "--only", "HMix")
    with pytest.raises(AssertionError, match="only takes contestants of --part"):
        run(str(root), *options[:1], "training", *options[2:], "--only", "none")


@pytest.mark.nightly
def test_augmentation_table(tmp_path: Path) -> None:
    """A policy beside the loader without, and beside torchvision's with the same."""
    for name in ("nvidia.dali", "torchvision"):
        pytest.importorskip(name)
    root = make_jpeg_folder(tmp_path / "images", 16, classes=2)
    options = ["--part", "augment", "--batch-size", "4", "--size", "32", "--rounds", "1", "--device", "cpu"]
    names = [NONE, "mixstage dali, RandAugment(2, 9)", "torchvision DataLoader, RandAugment(2, 9)"]
    only = [word for name in names for word in ("--only", name)]
    run(str(root), *options, *only, "--json", str(tmp_path / "some.json"))
    (report,) = json.loads((tmp_path / "some.json").read_text())
    none, ours, theirs = report["rows"]
    assert [none["loader"], ours["loader"], theirs["loader"]] == names
    assert none["x no augmentation"]["median"] == 1.0 and ours["x no augmentation"]["median"] > 0
    ratio = ours["images/s"]["median"] / theirs["images/s"]["median"]
    assert ours["x torchvision with the same policy"]["median"] == pytest.approx(ratio)


def test_stages_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Clock: reading a batch takes two seconds, what is done to it four and eight; nothing else any."""
    for name in ("nvidia.dali", "torchvision"):
        pytest.importorskip(name)
    monkeypatch.setitem(sys.modules, "ffcv", None)
    clock = [0.0]

    def takes(name: str, seconds: float, owner: Any = pipeline_stages) -> None:
        function = getattr(owner, name)

        def slow(*arguments: Any, **options: Any) -> Any:
            clock[0] += seconds
            return function(*arguments, **options)

        monkeypatch.setattr(owner, name, slow)

    monkeypatch.setattr(pipeline_stages, "_clock", lambda: clock[0])
    takes("read", 2, pipeline_stages.Walk)
    takes("_other", 3)
    takes("decode", 5, pipeline_stages.CropDecoder)
    takes("crop_rows", 4)
    takes("mix_images", 8)
    root = make_jpeg_folder(tmp_path / "images", 16, classes=2)
    damaged = min(root.rglob("*.jpg"))
    Image.open(damaged).save(damaged, "PNG")  # whatever its name says, no JPEG
    file = tmp_path / "stages.json"
    options = ["--part", "stages", "--batch-size", "4", "--size", "32", "--rounds", "1", "--json", str(file)]
    run(str(root), *options, "--out", str(tmp_path))
    (report,) = json.loads(file.read_text())
    found = {row["stage"]: row["CPU ms/image"]["median"] for row in report["rows"]}
    stages = dict.fromkeys(pipeline_stages.STAGES, 0.0)
    stages |= {"read and check": 0.5, pipeline_stages.LIMIT: 5 / 4, pipeline_stages.OTHERS: 3 / 16, "resize": 1.0}
    stages["mix, normalise (HMix)"] = 2.0
    assert {name: found[name] / 1e3 for name in stages} == pytest.approx(stages)
    assert found[pipeline_stages.ALL] == pytest.approx(1e3 * sum(stages.values()))
    ratios = {row["stage"]: row["x the limit"]["median"] for row in report["rows"]}
    assert ratios[pipeline_stages.LIMIT] == 1 and ratios["read and check"] == pytest.approx(0.5 / (5 / 4))
    assert {"mixstage dali, HMix", "DALI, its own pipeline", "torchvision's dataset"} <= found.keys()
    assert "1 of 16 images are no plain JPEG" in report["notes"][2]
    assert (tmp_path / "pipeline-stages-cpu.png").stat().st_size > 500


def test_few_images_of_a_large_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are spread over the classes, and are the folder's own files."""
    root = make_jpeg_folder(tmp_path / "images", 24, classes=3)
    assert pipeline_stages.some_images(root, tmp_path / "links") == root
    monkeypatch.setattr(pipeline_stages, "_MOST", 6)
    links = pipeline_stages.some_images(root, tmp_path / "links")
    found = sorted(links.rglob("*.jpg"))
    assert len(found) == 6 and len({link.parent.name for link in found}) == 3
    assert all(link.resolve().is_relative_to(root.resolve() / link.parent.name) for link in found)


@pytest.mark.parametrize("policy", POLICIES, ids=lambda policy: policy.name)
def test_policies_are_those_that_are_named(policy: Any) -> None:
    """Both sides take the images that loaders give them."""
    for name in ("torchvision", "timm"):
        pytest.importorskip(name)
    before, behind = policy.theirs()
    image = Image.fromarray(photo(1)[:64, :64])
    for stage in before:
        image = stage(image)
    assert image.size == (64, 64)
    pixels = torch.zeros(3, 64, 64)
    for stage in behind:
        pixels = stage(pixels)
    assert pixels.shape == (3, 64, 64)
    plan = as_augmentation(policy.ours).draw(Key(), np.arange(4), (64, 64))
    assert plan.box.shape[1] == len(behind)


def test_without_anything_to_compare_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but Pillow: the loader on it is measured, mixers run in it, and training says what it needs."""
    for module in ("nvidia.dali", "torchvision", "ffcv"):
        monkeypatch.setitem(sys.modules, module, None)
    root = make_jpeg_folder(tmp_path / "images", 16, classes=2)
    options = ["--batch-size", "4", "--size", "32", "--rounds", "1", "--device", "cpu", "--json", str(tmp_path / "all.json")]
    run(str(root), *options, "--part", "loaders")
    (report,) = json.loads((tmp_path / "all.json").read_text())
    assert [row["loader"] for row in report["rows"]] == ["mixstage torchvision, HMix"]
    run(str(root), *options, "--part", "mixers", "--only", "none", "--only", "HMix(alpha=1.0)")
    (report,) = json.loads((tmp_path / "all.json").read_text())
    assert report["title"].startswith("Mixers in the torchvision loader") and len(report["rows"]) == 2
    with pytest.raises(ImportError, match="part 'training' needs torchvision: pip install"):
        run(str(root), *options, "--part", "training")


def test_images_in_nested_folders_count(tmp_path: Path) -> None:
    """A data set may have folders within its class folders; every contestant lists them."""
    root = make_jpeg_folder(tmp_path / "images", 32, classes=2)
    for folder in list(root.iterdir()):
        (folder / "a" / "b").mkdir(parents=True)
        for file in list(folder.glob("*.jpg"))[1:]:
            file.rename(folder / "a" / "b" / file.name)
    setting = Setting(root, tmp_path / "images.beton", 4, 32, 2, "cpu")
    assert count_batches(setting) == 8
    pytest.importorskip("nvidia.dali")
    for decode_only in (False, True):
        with plain_dali(setting, decode_only) as epoch:
            assert sum(1 for _ in epoch()) == 8


def test_who_won_is_said_of_those_that_ran() -> None:
    assert who_won(["timm's MixUp"], ["mixstage", "timm"]) == "mixstage lost to timm's MixUp."
    assert who_won([], ["mixstage", "timm"]) == "mixstage lost to none of these."
    alone = who_won([], ["mixstage", "eager torch, with plan and targets"])
    assert alone == "No other library was measured: none of torchvision, timm, kornia is installed."
