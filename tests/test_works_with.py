"""docs/works-with.md: each framework's code trains 20 steps at once, and 10 and on from its checkpoint: the same batches."""

from __future__ import annotations

import hashlib
import logging
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from support.images import make_jpeg_folder
from support.nightly import nightly

import mixstage
from loaders.image_loader import ImageLoader
from loaders.output import Output
from mixops import HMix

PAGE = Path(__file__).parent.parent / "docs" / "works-with.md"
SECTIONS = PAGE.read_text().split("\n## ")
MODULES = {  # what a section imports
    "Lightning": "lightning",
    "Accelerate": "accelerate",
    "Hugging Face Trainer": "transformers",
    "timm's train.py": "timm",
    "Composer": "composer",
    "Ignite": "ignite",
    "torchdata": "torchdata.nodes",
    "torch.compile": "torch",
}
STEPS, HALF = 20, 10  # of epochs of 13


def block(section: str) -> str:
    (found,) = re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
    return found


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_jpeg_folder(tmp_path / "imagenet" / "train", 210, classes=4)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def no_accelerator_stays() -> Iterator[None]:
    """Its state is the process's: the loaders of all later tests would look for accelerators."""
    yield
    if (accelerate := sys.modules.get("accelerate")) is not None:
        accelerate.state.AcceleratorState._reset_state(reset_partial_state=True)


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Hashes of the batches that loaders deliver."""
    hashes: list[str] = []
    inner = Output.shown

    def record(self: Output, batch: Any) -> Any:
        hashes.append(hashlib.sha256(batch.images[0].cpu().numpy().tobytes()).hexdigest())
        return inner(self, batch)

    monkeypatch.setattr(Output, "shown", record)
    return hashes


HEAVY = ("Lightning", "torch.compile", "Hugging Face Trainer", "Accelerate")
"""Whose imports or compiling take longer than the test."""


def test_every_section_is_run() -> None:
    assert [section.split("\n")[0] for section in SECTIONS[1:]] == list(MODULES)


@pytest.mark.filterwarnings("default")  # of the frameworks, about themselves
@pytest.mark.parametrize("name", [pytest.param(n, marks=pytest.mark.nightly if n in HEAVY else ()) for n in MODULES])
def test_goes_on_with_the_next_batch(
    name: str, place: Path, shown: list[str], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pytest.importorskip("nvidia.dali")
    pytest.importorskip(MODULES[name], exc_type=ImportError)
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))  # no compiler for C++ is asked for
    (section,) = [text for text in SECTIONS[1:] if text.startswith(f"{name}\n")]
    namespace: dict[str, Any] = {"__name__": "works_with"}
    exec(compile(block(SECTIONS[0]), "works-with.md", "exec"), namespace)
    exec(compile(block(section), f"works-with.md, {name}", "exec"), namespace)
    train, runs = namespace["train"], []
    with caplog.at_level(logging.WARNING, logger="mixstage"):
        for calls in ([STEPS], [HALF, STEPS]):
            resume, got = None, []
            for steps in calls:
                shown.clear()
                resume = train(steps, resume)
                got.append(list(shown))
            runs.append(got)
    (whole,), (first, second) = runs
    assert len(set(whole[:STEPS])) == STEPS
    assert first[:HALF] == whole[:HALF]  # behind them may lie batches that were fetched ahead
    assert second[: STEPS - HALF] == whole[HALF:STEPS]
    assert not [r for r in caplog.records if "save_state" in r.getMessage()]


def make(place: Path, **options: Any) -> ImageLoader:
    defaults = {"backend": "torchvision", "batch_size": 16, "size": 32, "mixer": HMix(), "device": "cpu"}
    return ImageLoader(place / "imagenet" / "train", **(defaults | options))


@pytest.mark.parametrize("subclass", [False, True])
def test_an_accelerator_that_would_not_save_the_loader_is_warned_of(
    subclass: bool, place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accelerate = pytest.importorskip("accelerate")
    monkeypatch.delitem(__import__("sys").modules, "transformers.trainer", raising=False)
    kind = type("Own", (accelerate.Accelerator,), {}) if subclass else accelerate.Accelerator
    accelerator = kind(cpu=True)

    def warnings(loader: ImageLoader) -> int:
        caplog.clear()
        with caplog.at_level(logging.WARNING, logger="mixstage"):
            for _ in range(2):
                next(iter(loader))
            loader.close()
        return sum("accelerator.register_for_checkpointing(loader)" in r.getMessage() for r in caplog.records)

    unsaved, saved = make(place), make(place)
    assert accelerator.prepare(unsaved) is unsaved
    accelerator.register_for_checkpointing(saved)
    assert warnings(unsaved) == 1
    assert warnings(saved) == 0
    assert warnings(make(place, split="val", mixer=None)) == 0  # it has no place worth saving
    assert warnings(make(place)) == 1


def test_skipping_batches_is_refused_with_the_line_to_write(place: Path) -> None:
    accelerate = pytest.importorskip("accelerate")
    accelerate.PartialState(cpu=True)
    with make(place) as loader:
        assert not hasattr(loader, "sampler") and not hasattr(loader, "batch_sampler")
        with pytest.raises(AttributeError, match=r"write loader\.set_epoch\(epoch, step\)"):
            accelerate.skip_first_batches(loader, 5)


def test_an_epoch_begins_at_the_step_that_is_set(place: Path, shown: list[str]) -> None:
    with make(place) as loader:
        for _ in range(2):
            for _ in loader:
                pass
        whole = list(shown)
        steps = len(loader)
        for epoch, step in ((1, 7), (0, 0), (0, steps - 1), (1, 0)):
            shown.clear()
            loader.set_epoch(epoch, step)
            loader.set_epoch(epoch)  # as frameworks do at the beginning of each epoch
            for _ in loader:
                pass
            assert shown == whole[epoch * steps + step : (epoch + 1) * steps]
        for step, error in ((steps + 1, ValueError), (-1, ValueError), (1.5, TypeError)):
            with pytest.raises(error, match="step must be"):
                loader.set_epoch(0, step)


@pytest.mark.parametrize("spin", ["spin", "set_epoch"])
def test_composer_goes_on_after_a_kill_with_the_same_losses(spin: str, place: Path) -> None:
    """Killed in the second epoch at step 17, behind the checkpoint of step 15."""
    pytest.importorskip("composer", reason="MosaicML Composer is not installed; it asks for torch below 2.7.1")
    root = Path(__file__).parent.parent

    def run(out: str, killed: int = 0) -> list[str]:
        command = [sys.executable, str(root / "tests" / "support" / "composer_run.py"), str(place / "imagenet" / "train")]
        done = subprocess.run(
            [*command, str(place / out), str(STEPS), spin, str(killed)],
            env=os.environ | {"PYTHONPATH": str(root)}, capture_output=True, text=True,
        )  # fmt: skip
        assert done.returncode == (-signal.SIGKILL if killed else 0), done.stderr[-3000:]
        return [line for line in done.stdout.splitlines() if line.startswith("step ")]

    whole, cut = run("whole"), run("cut", killed=17)
    assert len(set(whole)) == STEPS and cut == whole[:17]
    assert run("cut") == whole[15:]


@pytest.mark.filterwarnings("default")  # Composer's, about itself
@pytest.mark.parametrize("spin", [True, False])
def test_composer_is_refused_a_loader_at_another_place(spin: bool, place: Path) -> None:
    pytest.importorskip("composer", reason="MosaicML Composer is not installed; it asks for torch below 2.7.1")
    from support.composer_run import make as make_run

    loader, trainer = make_run(place / "imagenet" / "train", place / "out", HALF, spin)
    next(iter(make(place)))  # any other loader may be looked at
    trainer.fit()
    with pytest.raises(RuntimeError, match=rf"batch {HALF} of epoch 0.*write loader\.set_epoch\((.*)\) before") as error:
        trainer.fit(duration="2ba")
    line = re.search(r"loader\.set_epoch\(.*?\)(?= before)", str(error.value))
    exec(line[0], {"loader": loader, "trainer": trainer})
    trainer.fit(duration="2ba")
    loader.close()


COMPOSER = """
class Trainer:
    def fit(self):
        for epoch in range(self.state.timestamp.epoch.value if self.spin_dataloaders else 0):
            self.spin()
        return self._iter_dataloader()
    def spin(self):
        for _ in self.state.train_dataloader:
            break
    def _iter_dataloader(self):
        for batch in self.state.train_dataloader:
            return batch
"""  # what Composer 0.32 does with an iterable


@pytest.mark.parametrize(
    ("epoch", "batch", "spin"),
    [
        (0, 5, True),
        (2, 5, False),
        *nightly([(0, 0, True), (0, 0, False), (0, 5, False), (2, 5, True)]),
    ],
)
def test_the_place_that_composer_goes_on_from_is_looked_at(
    place: Path, monkeypatch: pytest.MonkeyPatch, epoch: int, batch: int, spin: bool
) -> None:
    """Without Composer: a Trainer of its module's name that begins epochs in the same way."""
    module = ModuleType("composer.trainer.trainer")
    exec(COMPOSER, vars(module))
    monkeypatch.setitem(sys.modules, "composer.trainer.trainer", module)
    trainer, loader = module.Trainer(), make(place)
    timestamp = SimpleNamespace(epoch=SimpleNamespace(value=epoch), batch_in_epoch=SimpleNamespace(value=batch))
    trainer.state = SimpleNamespace(train_dataloader=loader, timestamp=timestamp, dataset_resumption={})
    trainer.spin_dataloaders = spin

    right = (0, 0) if spin else (epoch, batch)
    found = {(0, 0), (0, 1), (1, 0), (3, 5), (epoch, batch), (epoch, batch + 1)} - {right}
    if spin and epoch:  # only the first of the epochs before begins late
        found -= {(0, 1)}
    for wrong in found:
        loader.set_epoch(*wrong)
        with pytest.raises(RuntimeError, match=r"write loader\.set_epoch\("):
            trainer.fit()
        loader.close()
    loader.set_epoch(*right)
    trainer.fit()
    assert (loader.state_dict()["epoch"], loader.state_dict()["step"]) == (epoch, 1 if spin else batch + 1)
    loader.set_epoch(3, 1)
    next(iter(loader))  # whoever else asks
    loader.set_epoch(3, 1)
    trainer.state.train_dataloader, other = make(place), loader
    trainer.state.train_dataloader.set_epoch(*right)
    trainer.fit()
    other.close()
    trainer.state.train_dataloader.close()


def test_the_page_is_of_this_package() -> None:
    assert "from mixstage import" in SECTIONS[0] and mixstage.ImageLoader is ImageLoader
