"""docs/works-with.md: each framework's code trains 20 steps at once, and 10 and on from its checkpoint: the same batches."""

from __future__ import annotations

import hashlib
import logging
import re
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from support.images import make_jpeg_folder

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


def test_every_section_is_run() -> None:
    assert [section.split("\n")[0] for section in SECTIONS[1:]] == list(MODULES)


@pytest.mark.filterwarnings("default")  # of the frameworks, about themselves
@pytest.mark.parametrize("name", list(MODULES))
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
    if name == "Composer":  # it goes through what it has seen
        second = second[HALF:]
    assert len(set(whole[:STEPS])) == STEPS
    assert first[:HALF] == whole[:HALF]  # behind them may lie batches that were fetched ahead
    assert second[: STEPS - HALF] == whole[HALF:STEPS]
    assert not [r for r in caplog.records if "save_state" in r.getMessage()]


def make(place: Path, **options: Any) -> ImageLoader:
    defaults = {"backend": "torchvision", "batch_size": 16, "size": 32, "mixer": HMix(), "device": "cpu"}
    return ImageLoader(place / "imagenet" / "train", **(defaults | options))


def test_an_accelerator_that_would_not_save_the_loader_is_warned_of(
    place: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    accelerate = pytest.importorskip("accelerate")
    monkeypatch.delitem(__import__("sys").modules, "transformers.trainer", raising=False)
    accelerator = accelerate.Accelerator(cpu=True)

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


def test_the_page_is_of_this_package() -> None:
    assert "from mixstage import" in SECTIONS[0] and mixstage.ImageLoader is ImageLoader
