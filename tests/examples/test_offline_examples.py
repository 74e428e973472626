"""The examples of StyleMix, OptTransMix and SuperMix run, on their own pictures and on a user's, and draw."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image

from loaders.cli.training import small_net
from mixops.offline import SuperMixed

EXAMPLES = Path(__file__).parents[2] / "examples"
# the layers of the authors' style network that have weights, with their channels: as the names in the published files
VGG = {0: (3, 3), 2: (3, 64), 5: (64, 64), 9: (64, 128), 12: (128, 128), 16: (128, 256)}
VGG |= {19: (256, 256), 22: (256, 256), 25: (256, 256), 29: (256, 512), 32: (512, 512)}
DECODER = {1: (512, 256), 5: (256, 256), 8: (256, 256), 11: (256, 256), 14: (256, 128)}
DECODER |= {18: (128, 128), 21: (128, 64), 25: (64, 64), 28: (64, 3)}

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")


@pytest.fixture(autouse=True)
def _as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Examples beside tests: their folder on the path, and random state that they leave as it was."""
    monkeypatch.syspath_prepend(EXAMPLES)
    with torch.random.fork_rng([]):
        yield


def example(name: str) -> ModuleType:
    return import_module(name)


def assert_picture(path: Path) -> None:
    with Image.open(path) as picture:
        assert min(picture.size) > 100 and np.asarray(picture.convert("L")).std() > 10


def written(path: Path, layers: dict[int, tuple[int, int]], kernel: int = 3) -> Path:
    """Random weights of convolutions, by their numbers in a network."""
    weights = {}
    for number, (before, after) in layers.items():
        side = kernel if number else 1
        weights[f"{number}.weight"] = torch.randn(after, before, side, side) * (2 / before) ** 0.5 / side
        weights[f"{number}.bias"] = torch.zeros(after)
    torch.save(weights, path)
    return path


def test_opt_trans_mix(tmp_path: Path) -> None:
    example("opt_trans_mix").main(tmp_path / "x.png", pairs=1, outputs=3, iterations=5)
    assert_picture(tmp_path / "x.png")


@pytest.mark.nightly
def test_super_mix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example("super_mix").main(tmp_path / "x.png", batch_size=6, rows=2, steps=30)
    assert "done: " in capsys.readouterr().out
    assert_picture(tmp_path / "x.png")


def test_super_mix_of_a_folder_by_a_trained_model(
    tmp_path: Path, jpeg_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.save({"model": small_net(5).state_dict()}, tmp_path / "teacher.pth")
    script, drawn = example("super_mix"), []
    monkeypatch.setattr(script, "draw", lambda path, problem, found, shown: drawn.append((problem, found, shown)))
    script.main(data=jpeg_folder, model="small", checkpoint=tmp_path / "teacher.pth", size=16, batch_size=8, steps=3)
    ((problem, found, shown),) = drawn
    images, pixels = problem.images, problem.pixels(problem.images)
    assert images.shape == (8, 3, 16, 16) and images.min() < 0 and 0 <= pixels.min() <= pixels.max() <= 1
    levels = pixels * 255
    np.testing.assert_allclose(levels, levels.round(), atol=1e-3)  # they were bytes
    assert f"done: {found.done.sum()} of 8 rows" in capsys.readouterr().out
    assert isinstance(found, SuperMixed) and found.done[shown].all() and len(problem.classes) == 5


def test_rows_of_several_classes_are_drawn_first(monkeypatch: pytest.MonkeyPatch) -> None:
    script, drawn = example("super_mix"), []
    monkeypatch.setattr(script, "draw", lambda path, problem, found, shown: drawn.append((problem, found, shown)))
    script.main(batch_size=24, rows=24, steps=30)
    ((problem, found, shown),) = drawn
    said = problem.teacher(problem.images).argmax(1).numpy()[found.plan.sources[shown]]
    several = said[:, 0] != said[:, 1]
    assert (np.diff(several.astype(int)) <= 0).all() and several[0]
    assert (np.diff(found.logits[shown].softmax(1).amax(1).numpy()[several]) >= 0).all()
    assert sorted(shown) == np.flatnonzero(found.done).tolist()


def test_style_mix(tmp_path: Path) -> None:
    example("style_mix").main(tmp_path / "x.png", steps=3)
    assert_picture(tmp_path / "x.png")


@pytest.mark.nightly
def test_style_mix_of_a_folder_by_the_authors_network(tmp_path: Path, jpeg_folder: Path) -> None:
    vgg, decoder = written(tmp_path / "vgg.pth", VGG), written(tmp_path / "decoder.pth", DECODER)
    example("style_mix").main(tmp_path / "x.png", photos=jpeg_folder, vgg=vgg, decoder=decoder, side=32)
    assert_picture(tmp_path / "x.png")


def test_the_authors_network_is_theirs(tmp_path: Path) -> None:
    vgg, decoder = written(tmp_path / "vgg.pth", VGG), written(tmp_path / "decoder.pth", DECODER)
    with torch.no_grad():
        networks = example("style_mix").authors_network(vgg, decoder)
        features = networks[0](torch.rand(1, 3, 32, 40))
        assert features.shape == (1, 512, 4, 5) and features.min() == 0  # relu4_1
        assert networks[1](features).shape == (1, 3, 32, 40) and networks[1](features).min() < 0


@pytest.mark.parametrize("wrong", [{"side": 36}, {"vgg": Path("vgg.pth")}])
def test_style_mix_refuses(wrong: dict[str, Any], tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match=r"--side must be a multiple of 8, and --vgg and --decoder go together"):
        example("style_mix").main(tmp_path / "x.png", **wrong)


def test_style_mix_refuses_a_folder_of_one_photograph(tmp_path: Path) -> None:
    Image.new("RGB", (40, 30)).save(tmp_path / "one.png")
    with pytest.raises(typer.BadParameter, match="--photos must hold two photographs at least"):
        example("style_mix").main(tmp_path / "x.png", photos=tmp_path)
