"""What is measured on a device, tried without one: every part at tiny sizes on the CPU, Triton's kernels interpreted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import typer
from support.images import make_jpeg_folder
from support.kernel_cases import MIXERS as CUDA_CASES

from benchmarks.device import __main__ as command
from benchmarks.device import right
from benchmarks.device.__main__ import Part
from benchmarks.device.photographs import repeated
from benchmarks.device.run import Run
from loaders.bench.augment_cuda import OPERATIONS, POLICIES
from loaders.bench.kernels_cuda import OUTPUTS, PAIRS, RESULTS, SEVERAL
from loaders.bench.measure import turns
from loaders.bench.multimix_step import STEPS
from loaders.bench.pipeline_alone import ALONE

ROOT = Path(__file__).parents[2]
# all parts in one process: each would import torch anew
SCRIPT = """
import sys, traceback
from pathlib import Path
from benchmarks.device.__main__ import Part, _run
for part in Part:
    try:
        _run(part, Path(sys.argv[1]), Path(sys.argv[2]), 600, tiny=True, commit="abc")
    except BaseException:
        Path(sys.argv[1], f"{part.value}.error").write_text(traceback.format_exc())
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What all parts wrote."""
    for name in ("triton", "timm", "torchvision", "nvidia.dali"):
        pytest.importorskip(name)
    folder = tmp_path_factory.mktemp("device")
    images = make_jpeg_folder(folder / "images", 12, classes=2)
    environment = {**os.environ, "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-c", SCRIPT, str(folder / "results"), str(images)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder / "results"


def table(results: Path, part: Part, name: str) -> dict[str, Any]:
    """A table of a part."""
    error = results / f"{part.value}.error"
    assert not error.exists(), error.read_text()
    assert (results / f"{name}-tiny.md").stat().st_size > 200
    found: dict[str, Any] = json.loads((results / f"{name}-tiny.json").read_text())
    assert found["conditions"]["commit"] == "abc" and {"GPU", "torch", "date"} <= found["conditions"].keys()
    return found


@pytest.mark.nightly
def test_right(results: Path) -> None:
    found = table(results, Part.RIGHT, "tests-gpu")
    (row,) = found["rows"]
    assert row["file"] == "tests/mixops/kernels/test_blend_cuda.py" and row["failed"] == 0
    assert row["skipped"] + row["passed"] == len(CUDA_CASES) + 1, "with a device they pass, without one they are skipped"
    assert (
        "ended with 0" in found["notes"][0]
        and "test_the_kernels_are_the_reference" in (results / "tests-gpu.log").read_text()
    )


@pytest.mark.nightly
def test_why_a_test_failed_is_said_at_once(tmp_path: Path) -> None:
    """Before the summary, which a run that is cut off has not."""
    (tmp_path / "test_one.py").write_text("def test_one():\n    assert 6 * 7 == 41\n")
    command = [sys.executable, "-m", "pytest", "-p", "benchmarks.device.failures", "-p", "no:cacheprovider", "-v", "-n", "1"]
    done = subprocess.run([*command, tmp_path / "test_one.py"], cwd=ROOT, capture_output=True, text=True)
    told = done.stdout.partition("FAILURES ==")[0]
    assert "test_one.py::test_one failed:" in told and "assert (6 * 7) == 41" in told


@pytest.mark.nightly
def test_kernels(results: Path) -> None:
    found = table(results, Part.KERNELS, "kernels-cuda")
    rows = found["rows"]
    kernels = [row for row in rows if row["path"] == "kernel"]
    assert len(kernels) == len(RESULTS) * len(OUTPUTS) * len(PAIRS)
    assert {row["result"] for row in kernels} == {
        f"{dtype} {layout}" for dtype in ("float16", "bfloat16", "float32") for layout in ("NHWC", "NCHW")
    }
    assert {(row["mixer"], row["K"]) for row in kernels} == {(type(m).__name__, k) for m in PAIRS for k in OUTPUTS}
    assert all(row["share of a copy of the same bytes"]["median"] > 0 for row in kernels)
    assert all((row["share of a copy of the same bytes"] is None) == (row["path"] != "kernel") for row in rows)
    told = " ".join(found["notes"])
    assert "timm, with targets, CutMix: " in told and "No other library was measured" not in told
    paths = {row["path"] for row in rows} - {"kernel"}
    assert {
        "mixstage, with targets",
        "eager torch, with targets",
        "torchvision, with targets",
        "timm, with targets",
    } <= paths
    assert all(row[column]["median"] > 0 for row in rows for column in ("GPU µs", "call µs", "host µs"))


@pytest.mark.nightly
def test_kernels_of_several_sources(results: Path) -> None:
    rows = table(results, Part.SEVERAL, "kernels-several-cuda")["rows"]
    assert [(row["mixer"], row["K"]) for row in rows] == [
        (type(mixer).__name__, k) for _ in RESULTS for mixer in SEVERAL for k in OUTPUTS
    ]
    assert all(row["share of a copy of the same bytes"]["median"] > 0 for row in rows)


@pytest.mark.nightly
def test_augmentation(results: Path) -> None:
    rows = table(results, Part.KERNELS, "kernels-augment-cuda")["rows"]
    ours = [row["stage"] for row in rows if row["path"] == "mixstage"]
    assert ours == [*POLICIES, *(op.name.lower() for op in OPERATIONS)]
    theirs = {(row["path"], row["stage"]) for row in rows if row["path"] != "mixstage"}
    assert ("torchvision", "TrivialAugmentWide") in theirs and {stage for _, stage in theirs} <= {*ours}


@pytest.mark.nightly
def test_model(results: Path) -> None:
    rows = table(results, Part.MODEL, "model-steps-cuda")["rows"]
    assert [row["step"] for row in rows][: len(STEPS)] == [
        "cross-entropy", "MultiMix: as in the paper", "MultiMix: mixstage", "dense: as in the paper", "dense: mixstage",
        "cross-entropy + teacher forward", "distilled: as in the paper", "distilled: mixstage",
        "dense, distilled: as in the paper", "dense, distilled: mixstage",
    ]  # fmt: skip
    assert [row["step"] for row in rows][len(STEPS) :] == [
        "cross-entropy, targets of all classes", "MixUp", "HMix", "k-mixup, k=4", "ManifoldMix, one layer", "PuzzleMix, K=1",
    ]  # fmt: skip
    once = [row["step"] for row in rows if row["times the plain step"]["median"] == 1.0]
    assert once == ["cross-entropy", "cross-entropy + teacher forward", "cross-entropy, targets of all classes"]
    plans = table(results, Part.MODEL, "model-puzzle-cuda")["rows"]
    assert [row["plan"] for row in plans] == [
        "K=1, masks",
        "K=1, masks and transport",
        "K=5, masks",
        "K=5, masks and transport",
    ]
    assert all(row["of a step of small"]["median"] > 0 for row in plans)


@pytest.mark.nightly
def test_loader(results: Path) -> None:
    rows = {row["loader"]: row for row in table(results, Part.LOADER, "pipeline-loaders-cuda")["rows"]}
    assert rows.keys() == {*ALONE}
    mixed, second = rows["mixstage dali, HMix"], rows["mixstage dali, no mixing, a second time"]
    assert all(mixed[f"x {what}"] for what in ("same loader without mixing", "plain DALI", "decoding alone"))
    assert second["x same loader without mixing"] and mixed["x torchvision with mixing"] is None
    used = {row["threads"]: row for row in table(results, Part.LOADER, "pipeline-processors-cuda")["rows"]}
    assert "all" in used  # of the others, those that Linux saw working: an epoch takes few of its ticks
    assert 0 < used["all"]["processors busy"] <= (os.cpu_count() or 1) + 1


@pytest.mark.nightly
def test_tuning(results: Path) -> None:
    found = table(results, Part.TUNING, "decode-tuning-cuda")
    assert [row["tried"] for row in found["rows"]] == [
        "whole images", "hw_decoder_load", "whole images again", "batch", "prefetch", "preallocation", "preallocation",
    ]  # fmt: skip
    choices = [row["choice"] for row in found["rows"]]
    assert "whole=True" in choices[0] and "hw_decoder_load=0.5" in choices[1] and "batch=2" in choices[3]
    assert "preallocate_width_hint=5980" in choices[-1] and "Best: batch=" in found["notes"][1]
    assert all(row["x best before"]["median"] > 0 for row in found["rows"])


@pytest.mark.nightly
def test_training(results: Path) -> None:
    rows = {row["fed by"]: row for row in table(results, Part.TRAINING, "training-cuda")["rows"]}
    there, loaded, peer = rows.values()
    assert there["x a batch that is there"]["median"] == 1.0 and "mixstage dali, HMix" in rows
    assert all(row["x a batch that is there"]["median"] > 0 and 0 <= row["waited %"] <= 100 for row in (loaded, peer))


def test_each_part_runs_in_a_process_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One that fails, and one that hangs, do not keep the others from running."""
    ran = []

    def run(words: list[str], *, timeout: float, check: bool) -> subprocess.CompletedProcess[str]:
        ran.append((words[3], words[4:], timeout))
        if words[3] == "kernels":
            raise subprocess.TimeoutExpired(words, timeout)
        return subprocess.CompletedProcess(words, int(words[3] == "model"))

    monkeypatch.setattr(command.subprocess, "run", run)
    with pytest.raises(typer.Exit) as ended:
        command.device(None, tmp_path, tmp_path / "images", 50.0, False, "abc")
    assert ended.value.exit_code == 1 and [part for part, _, _ in ran] == [part.value for part in Part]
    assert {timeout for _, _, timeout in ran} == {80.0}
    assert ran[0][1] == [
        "--save",
        str(tmp_path),
        "--seconds",
        "50.0",
        "--commit",
        "abc",
        "--images",
        str(tmp_path / "images"),
    ]


def test_every_file_with_marked_tests_is_run() -> None:
    found = {str(path.relative_to(ROOT)) for path in right.files()}
    assert {"tests/mixops/test_cuda.py", "tests/mixops/kernels/test_augment_cuda.py"} <= found
    assert all("gpu" in (ROOT / path).read_text() for path in found)


def test_outcomes_are_read_from_what_pytest_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    said = """
tests/a/test_x.py::test_one[FAILED-a b] PASSED [ 10%]
[gw3] [ 20%] PASSED tests/a/test_x.py::test_two
[gw0] [ 30%] FAILED tests/test_y.py::test_three[FAILED]
tests/test_y.py::test_four SKIPPED (needs DALI) [ 40%]
FAILED tests/test_y.py::test_three[FAILED] - AssertionError
SKIPPED [1] tests/test_y.py:4: needs DALI
"""
    monkeypatch.setattr(right, "sys", type("sys", (), {"executable": "sh"}))
    (tmp_path / "said").write_text(f"cat <<'END'\n{said}END\nexit 1\n")
    monkeypatch.setattr(right, "ROOT", tmp_path)
    monkeypatch.setattr(right, "files", list)
    monkeypatch.setattr(right, "COMMAND", [str(tmp_path / "said")])
    ((stem, report),) = right.reports(Run(tmp_path / "results", tmp_path))
    assert stem == "tests-gpu" and report.rows == [["tests/a/test_x.py", 2, 0, 0], ["tests/test_y.py", 0, 1, 1]]
    assert "ended with 1" in report.notes[0] and report.notes[1] == "Failed: tests/test_y.py::test_three[FAILED]"


@pytest.mark.parametrize("packed", [False, True])
def test_photographs_are_repeated_under_new_names(tmp_path: Path, packed: bool) -> None:
    images = make_jpeg_folder(tmp_path / "images", 6, classes=3)
    given = images
    if packed:
        given = tmp_path / "images.tar"
        with tarfile.open(given, "w") as tar:
            tar.add(images, ".")
    (tmp_path / "scratch").mkdir()
    folder = repeated(given, 20, tmp_path / "scratch", 8)
    files = sorted(folder.glob("*/*.jpg"))
    assert len(files) == 20 and len({file.read_bytes() for file in files}) == 6
    assert {file.stat().st_ino for file in files} == {
        file.stat().st_ino for file in (tmp_path / "scratch/originals").glob("*/*")
    }
    assert {file.parent.name for file in files} == {folder.name for folder in images.iterdir()}
    assert repeated(given, 20, tmp_path / "scratch", 8) == folder
    assert repeated(images, 6, tmp_path / "scratch", 8) == images, "there are enough"


def test_no_photographs(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("no photograph")
    (tmp_path / "scratch").mkdir()
    with tarfile.open(tmp_path / "images.tar", "w") as tar:
        tar.add(tmp_path / "words.txt", "class/words.txt")
    with pytest.raises(ValueError, match="images must hold class folders of photographs, got none in"):
        repeated(tmp_path / "images.tar", 4, tmp_path / "scratch", 8)


def test_rounds_end_when_the_time_is_over() -> None:
    def case() -> Any:
        return lambda: 1.0

    seen = [len(found["a"]) for found in turns({"a": case, "b": case}, rounds=3, describe="", seconds=60)]
    assert seen == [1, 2, 3]
    assert [len(found["b"]) for found in turns({"a": case, "b": case}, rounds=3, describe="", seconds=-1)] == [1]
