"""Previews show what the pipeline makes, and pages need no network."""

import base64
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from loaders.cli.preview import draw_sheet, examples, write_page
from mixops import GMix, MixUp, OptimalMatching

pytest.importorskip("torchvision")
pytest.importorskip("matplotlib")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (folder / name).mkdir()
        for i in range(9):
            pixels = rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{i}.png")
    return folder


@pytest.mark.parametrize(
    "mixer", [GMix(interpolations=2), MixUp(matching=OptimalMatching(4))], ids=lambda m: type(m).__name__
)
def test_an_example_is_its_sources_under_its_mask(root: Path, mixer: object) -> None:
    shown = examples(root, mixer, rows=3, backend="torchvision", size=24)
    assert len(shown) == 3
    for example in shown:
        mask = example.masks[..., None]
        expected = mask * example.own + (1 - mask) * example.other
        assert np.abs(example.mixed - expected).max() <= 0.5 + 1e-3
        assert np.allclose(example.weights, example.masks.mean((1, 2)), atol=1e-6)
        assert example.names[0] in ("cat", "dog")


def test_a_sheet_has_a_row_for_each_mixer(root: Path, tmp_path: Path) -> None:
    options = {"backend": "torchvision", "size": 24}
    draw_sheet(root, [GMix()], tmp_path / "one.png", **options)
    draw_sheet(root, [GMix(), MixUp()], tmp_path / "two.png", **options)
    with Image.open(tmp_path / "one.png") as one, Image.open(tmp_path / "two.png") as two:
        assert two.height == 2 * one.height and two.width == one.width
        assert np.asarray(one.convert("L")).std() > 10


def test_a_page_holds_its_pictures(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_page(root, [GMix(), MixUp()], page, backend="torchvision", size=24)
    text = page.read_text()
    sources = re.findall(r'src="([^"]*)"', text)
    assert len(sources) == 2 and all(source.startswith("data:image/png;base64,") for source in sources)
    assert all(base64.b64decode(source.split(",")[1]).startswith(b"\x89PNG") for source in sources)
    assert "http" not in text


@pytest.mark.nightly
@pytest.mark.skipif(shutil.which("chromium") is None, reason="chromium is not installed")
def test_a_browser_shows_every_picture(root: Path, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    write_page(root, [GMix(), MixUp()], page, backend="torchvision", size=24)
    count = "<script>onload = () => document.title = [...document.images].filter(i => i.naturalWidth > 0).length</script>"
    page.write_text(page.read_text().replace("</html>", f"{count}</html>"))
    flags = "--headless --no-sandbox --disable-gpu --disable-background-networking --disable-component-update --disable-sync"
    command = ["chromium", *flags.split(), f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "<title>2</title>" in shown


def test_class_names_are_text_and_no_formulas(tmp_path: Path) -> None:
    """matplotlib reads what stands between two dollars as a formula, and raises where it is none."""
    for name in ("a$\\frac$b", "[red]{c}"):
        (tmp_path / name).mkdir()
        for i in range(3):
            Image.new("RGB", (30, 20), (60 * i, 9, 9)).save(tmp_path / name / f"{i}.png")
    draw_sheet(tmp_path, [MixUp()], tmp_path / "out" / "sheet.png", rows=2, backend="torchvision", size=16)
    assert (tmp_path / "out" / "sheet.png").stat().st_size > 1000
