"""The ImageNet example: a run that is killed and resumed must end with the weights of one that was left alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.imagenet import SCRIPT, SMALL, invoke
from support.images import make_jpeg_folder
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook

pytest.importorskip("timm", reason="needs timm: pip install 'mixstage[bench]'")
pytest.importorskip("nvidia.dali", reason="needs DALI: pip install 'mixstage[dali]'")

# trains undisturbed, then until a rank kills itself in the middle of a step, then goes on; each time as two new processes,
# which are forked from one that has imported torch, timm and DALI
KILLED = """
import os, signal, socket, sys
import torch
import typer
from importlib.util import module_from_spec, spec_from_file_location
from torch.optim.optimizer import register_optimizer_step_post_hook

script, kill_at, *options = sys.argv[1:]
torch.set_num_threads(1)
sys.path.append(os.path.dirname(script))
spec = spec_from_file_location("train", script)
train = module_from_spec(spec)
spec.loader.exec_module(train)
app = typer.Typer()
app.command()(train.main)
done = 0

def kill(*_):
    global done
    done += 1
    if done == int(kill_at) and os.environ["RANK"] == "1":
        os.kill(os.getpid(), signal.SIGKILL)

def rank(number, port, kills, *more):
    os.environ |= {"RANK": number, "LOCAL_RANK": number, "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    if kills:
        register_optimizer_step_post_hook(kill)
    app([*options, *more], standalone_mode=False)

def ranks(*run):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    children = []
    for number in "01":
        if not (child := os.fork()):
            try:
                rank(number, port, *run)
            except BaseException:
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)
        children.append(child)
    return [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]

assert ranks(False, "--out", "whole") == [0, 0]
first, second = ranks(True, "--out", "killed")
assert second == -signal.SIGKILL and first != 0, (first, second)
assert torch.load("killed/last.pt")["step"] == int(os.environ["CHECKPOINT"])
assert ranks(False, "--out", "killed", "--resume") == [0, 0]
"""


class Stop(Exception):
    """Ends a run in the place of a kill."""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The options that name 40 training and 12 validation images, as seen from tmp_path."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MIXSTAGE_CACHE", str(tmp_path / "cache"))
    make_jpeg_folder(tmp_path / "train", 40, classes=4)
    make_jpeg_folder(tmp_path / "val", 12, classes=4, seed=1000)
    return ["--train", "train", "--val", "val"]


def run_killed_and_resumed(tmp_path: Path, options: list[str], kill_at: int, checkpoint: int) -> None:
    """Trains undisturbed; trains, is killed at a step and resumes from the checkpoint; compares."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(SCRIPT.parents[2]), "CHECKPOINT": str(checkpoint)}
    command = [sys.executable, "-c", KILLED, str(SCRIPT), str(kill_at), *options]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    compare(tmp_path / "whole", tmp_path / "killed")


def compare(whole: Path, resumed: Path) -> None:
    """Final weights, averages and optimizer states are equal bit for bit."""
    expected, got = (flatten(torch.load(folder / "last.pt")) for folder in (whole, resumed))
    assert expected.keys() == got.keys() and any(isinstance(value, torch.Tensor) for value in got.values())
    for name, value in expected.items():
        same = torch.equal(value, got[name]) if isinstance(value, torch.Tensor) else value == got[name]
        assert same, name


def flatten(state: Any, prefix: str = "") -> dict[str, Any]:
    if isinstance(state, (dict, list)):
        items = state.items() if isinstance(state, dict) else enumerate(state)
        return {name: value for key, part in items for name, value in flatten(part, f"{prefix}.{key}").items()}
    return {prefix: state}


@pytest.mark.nightly
def test_two_ranks_killed_in_mid_epoch_and_resumed(tmp_path: Path, data: list[str]) -> None:
    options = [*data, *SMALL, "--model", "test_resnet", "--epochs", "2", "--batch-size", "2", "--checkpoint-every", "4"]
    options += ["--mixer", "Switch([HMix(1.0), CutMix(1.0)])", "--sizes", "32@0 48@1", "--val-size", "32"]
    run_killed_and_resumed(tmp_path, options, kill_at=15, checkpoint=12)  # ten steps an epoch


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_thousand_images_killed_in_mid_epoch_and_resumed(tmp_path: Path, data: list[str]) -> None:
    make_jpeg_folder(tmp_path / "thousand", 1000, classes=4)
    options = [*data, *SMALL, "--train", "thousand", "--model", "resnet18", "--epochs", "2", "--batch-size", "25"]
    options += ["--checkpoint-every", "7", "--mixer", "HMix(alpha=1, r=0.75)", "--sizes", "64", "--val-size", "64"]
    run_killed_and_resumed(tmp_path, options, kill_at=31, checkpoint=28)  # twenty steps an epoch


RECIPES = {
    "everything": ["--model", "test_resnet", "--mixer", "GMix(0.5, interpolations=2)", "--sizes", "32@0 48@1 32@2",
                   "--mix-off", "1", "--ema", "0.9", "--clip-grad", "1", "--backend", "torchvision"],
    "multimix": ["--model", "test_resnet", "--tuples", "20", "--dense", "--distill", "0.5", "--ema", "0.9", "--sizes", "64"],
    "vit": ["--model", "test_vit", "--drop-path", "0.3", "--optimizer", "adamw", "--lr", "0.001", "--sizes", "160",
            "--val-size", "160", "--tuples", "20", "--mixer", "MixUp(1.0)"],
    "alternating": ["--model", "test_resnet", "--tuples", "20", "--multimix-prob", "0.5", "--mixer", "MixUp(1.0)",
                    "--ema", "0.9", "--distill", "0.5", "--views", "2", "--sizes", "32",
                    "--backend", "torchvision", "--mix-off", "1"],
    "puzzle": ["--model", "test_resnet", "--mixer", "PuzzleMix(1.0, interpolations=2, std=(0.229, 0.224, 0.225))",
               "--clean-loss", "1", "--sizes", "32", "--backend", "torchvision", "--mix-off", "1"],
}  # fmt: skip


DEFAULT = ("everything",)


@pytest.mark.parametrize(
    "recipe", [pytest.param(name, marks=() if name in DEFAULT else pytest.mark.nightly) for name in RECIPES]
)
def test_resume_in_one_process(recipe: str, tmp_path: Path, data: list[str]) -> None:
    options = [*data, *SMALL, "--epochs", "3", "--batch-size", "8", "--val-size", "32", *RECIPES[recipe]]  # 5 steps an epoch
    invoke(*options, "--out", "whole")
    for name, stop_at, checkpoint in (("middle", 9, "4"), ("boundary", 12, "5")):
        hook = register_optimizer_step_post_hook(stop_after(stop_at))
        try:
            with pytest.raises(Stop):
                invoke(*options, "--out", name, "--checkpoint-every", checkpoint)
        finally:
            hook.remove()
        assert torch.load(tmp_path / name / "last.pt")["step"] == {"middle": 8, "boundary": 10}[name]
        invoke(*options, "--out", name, "--resume")
        compare(tmp_path / "whole", tmp_path / name)
    assert list((tmp_path / "whole").glob("events.out.tfevents.*"))


def test_another_total_batch_and_wrong_options_are_one_line(tmp_path: Path, data: list[str]) -> None:
    """At the end of an epoch, too, where the position of the loader is not needed."""
    options = [*data, *SMALL, "--model", "test_resnet", "--epochs", "1", "--val-size", "32", "--sizes", "32", "--out", "one"]
    invoke(*options, "--batch-size", "8")
    with pytest.raises(AssertionError, match=r"train\.py: state must .* global_batch_size was 8 and is 4"):
        invoke(*options, "--batch-size", "4", "--resume")
    with pytest.raises(AssertionError, match=r"train\.py: root must be one of: .*'nowhere', which does not exist"):
        invoke(*options, "--batch-size", "4", "--train", "nowhere")
    with pytest.raises(AssertionError, match=r"train\.py: schedule must be one of"):
        invoke(*options, "--schedule", "cosin")


def stop_after(steps: int) -> Callable[[Optimizer, Any, Any], None]:
    done = iter(range(1, 10**6))

    def stop(*_: Any) -> None:
        if next(done) == steps:
            raise Stop

    return stop
