"""README and docs: links lead somewhere, Python blocks run, commands run as written (these under make docs-check)."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from PIL import Image
from support.images import make_jpeg_folder

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]
RUN_ELSEWHERE = ROOT / "docs" / "works-with.md"  # test_works_with.py: not every framework is installed
NOT_RUN = {  # first words of commands that cannot be run in a test, and why
    "pip": "installs",
    "sudo": "installs",
    "git": "needs the network",
    "sbatch": "needs a cluster",
    "docker": "needs its daemon",
}


def blocks(page: Path, *languages: str) -> list[str]:
    """The fenced blocks of a page in one of the languages."""
    found = re.findall(r"^```(\w+)\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)
    return [text for language, text in found if language in languages]


def commands(page: Path) -> list[str]:
    """The lines of a page's bash blocks that can be run."""
    text = "\n".join(blocks(page, "bash", "sh")).replace("\\\n", " ")
    lines = [line.strip() for line in text.splitlines()]
    return [line for line in lines if line and not line.startswith("#") and line.split()[0] not in NOT_RUN]


def named(pages: list[Path], nightly: tuple[str, ...] = ()) -> list[Any]:
    names = [str(page.relative_to(ROOT)) for page in pages]
    marks = [pytest.mark.nightly if name in nightly else () for name in names]
    return [pytest.param(page, id=name, marks=mark) for page, name, mark in zip(pages, names, marks, strict=True)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as the pages have it: imagenet/train, imagenet/val and the example scripts."""
    folder = tmp_path_factory.mktemp("docs")
    make_jpeg_folder(folder / "imagenet" / "train", 256, classes=4)
    make_jpeg_folder(folder / "imagenet" / "val", 16, classes=4, seed=1000)
    make_jpeg_folder(folder / "photos", 4, classes=2)
    for file in (*(ROOT / "examples").glob("*.py"), *(ROOT / "examples" / "imagenet").glob("*.*")):
        shutil.copy(file, folder)
    shutil.copytree(ROOT / "examples" / "imagenet" / "recipes", folder / "recipes")
    for name in ("examples", "docs", "benchmarks", "Makefile", "pyproject.toml", "constraints.txt"):
        (folder / name).symlink_to(ROOT / name)
    return folder


@pytest.mark.parametrize("page", named(PAGES))
def test_links(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"https?:|mailto:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), target


def test_every_page_is_linked_from_the_contents() -> None:
    reached, todo = set(), [ROOT / "docs" / "README.md"]
    while todo:
        page = todo.pop().resolve()
        if page in reached or not page.exists():
            continue
        reached.add(page)
        if page.suffix == ".md":
            todo += [page.parent / link.split("#")[0] for link in re.findall(r"\]\(([^)\s:]+)\)", page.read_text())]
    expected = {*(ROOT / "docs").rglob("*.md"), *(ROOT / "docs" / "pictures").glob("*.jpg")}
    assert not expected - reached


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")  # on machines with fewer cores than a page's
@pytest.mark.parametrize(
    "page",
    named(
        [page for page in PAGES if blocks(page, "python") and page != RUN_ELSEWHERE],
        nightly=("docs/accuracy-on-mixed-data.md", "docs/dali.md"),
    ),
)
def test_python_blocks(page: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("nvidia.dali", "torchvision"):
        pytest.importorskip(module)
    monkeypatch.chdir(place)
    monkeypatch.setenv("MIXSTAGE_CACHE", str(place / "cache"))
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, text in enumerate(blocks(page, "python")):
        file = place / f"{page.stem}_{number}.py"  # a file, for DALI's conditionals read a pipeline's source
        file.write_text(text)
        exec(compile(text, str(file), "exec"), namespace)


@pytest.mark.nightly
def test_the_first_code_of_the_readme_trains_on_two_photographs_in_a_fresh_interpreter(tmp_path: Path) -> None:
    pytest.importorskip("nvidia.dali")
    sample_images = pytest.importorskip("sklearn.datasets").load_sample_images()
    for name, pixels in zip(("temple", "flower"), sample_images.images, strict=True):
        (tmp_path / "photos" / name).mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / "photos" / name / "1.jpg")
    seen = "assert images.shape == (2, 3, 224, 224) and targets.shape == (2, 2) and model[1].weight.grad.abs().max() > 0"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "MIXSTAGE_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-c", f"{blocks(ROOT / 'README.md', 'python')[0]}\n{seen}\n"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("page", named([page for page in PAGES if commands(page)]))
def test_commands(page: Path, place: Path) -> None:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "MIXSTAGE_CACHE": str(place / "cache"), "PYTHONPATH": str(ROOT)}
    for command in commands(page):
        words = shlex.split(command, comments=True)
        if words[0] == "make":  # its recipes set up an environment: only whether there are such targets
            command = shlex.join(["make", "-n", *words[1:]])
        if "convert" in words:
            (place / words[words.index("convert") + 2]).unlink(missing_ok=True)  # it refuses to overwrite
        done = subprocess.run(command, shell=True, cwd=place, env=environment, capture_output=True, text=True, timeout=900)
        assert done.returncode == 0, f"{command}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_api_reference_is_up_to_date() -> None:
    pytest.importorskip("nvidia.dali")
    api = load(ROOT / "docs" / "api.py")
    assert api.FILE.read_text() == api.page(), "run: python docs/api.py"


def test_table_of_recipes_is_up_to_date() -> None:
    recipes = load(ROOT / "docs" / "recipes.py")
    assert recipes.FILE.read_text() == recipes.page(), "run: python docs/recipes.py"
    commands = "\n".join(blocks(recipes.FILE, "console"))
    for file in (recipes.EXAMPLE / "recipes").glob("*.ini"):
        (line,) = [line for line in commands.splitlines() if f"--config {file.stem} " in line]
        nodes = re.search(r"--nodes (\d+)|--nproc-per-node (\d+)", line)
        assert recipes.ranks(file) == (1 if nodes is None else int(nodes[1]) * 8 if nodes[1] else int(nodes[2])), line
        assert f"`{file.stem}`" in recipes.FILE.read_text().split(recipes.END)[1], file.stem  # said what is identical


def test_api_reference_has_every_public_name() -> None:
    import loaders
    import loaders.sources
    import mixops
    import mixops.measures
    import mixops.offline

    text = (ROOT / "docs" / "api.md").read_text()
    sections = dict(re.findall(r"^## mixstage\.(\S+)\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    for module in (mixops, mixops.measures, mixops.offline, loaders, loaders.sources):
        for name in module.__all__:
            assert f"### `{name}`" in sections[module.__name__], f"{module.__name__}.{name}"
    shown = [line for page in PAGES for block in blocks(page, "python") for line in block.splitlines()]
    found = [re.match(r"\s*from mixstage\.(\S+) import ([\w, ]+)", line) for line in shown]
    used = {(match[1], name) for match in found if match for name in match[2].split(", ")}
    assert len(used) > 15
    for module_name, name in used - {("pipelines", "dali")}:  # a module
        assert f"### `{name}`" in sections[module_name], f"{module_name}.{name}"


@pytest.mark.parametrize("page", ["README.md", "benchmarks/README.md", "docs/evidence.md", "docs/choosing-a-mixer.md"])
def test_figures_of_the_pages_are_the_committed_results(page: str) -> None:
    from benchmarks.claims import PLACES, filled

    text = (ROOT / page).read_text()
    assert len(PLACES) == 4 and filled(page, text, ROOT / "benchmarks" / "results") == text


def test_the_first_page_has_four_figures() -> None:
    table = (ROOT / "README.md").read_text().partition("<!-- claims -->")[2].partition("<!-- /claims -->")[0]
    rows = table.strip().splitlines()[2:]
    every = (ROOT / "benchmarks" / "README.md").read_text()
    assert len(rows) == 4 and all(row.replace("benchmarks/", "") in every for row in rows)


def test_a_broken_link_a_failing_block_and_a_stale_page_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "page.md"
    page.write_text("[x](gone.md)\n\n```python\nassert 1 == 2\n```\n\n```bash\n# a comment\npip install x\nfalse\n```\n")
    with pytest.raises(AssertionError, match=r"gone\.md"):
        test_links(page)
    with pytest.raises(AssertionError):
        test_python_blocks(page, tmp_path, monkeypatch)
    assert commands(page) == ["false"]
    with pytest.raises(AssertionError, match="false"):
        test_commands(page, tmp_path)
