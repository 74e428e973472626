"""In a checkout ``mixstage`` gives the very modules of the three packages, and names whoever stands in their place."""

from __future__ import annotations

import importlib
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

import loaders
import mixops
import mixstage

ROOT = Path(__file__).parents[2]


def test_names_are_those_of_the_packages() -> None:
    assert set(mixstage.__all__) == {"mixops", "pipelines", "loaders", *mixops.__all__, *loaders.__all__}
    assert all(getattr(mixstage, name) is getattr(mixops, name) for name in mixops.__all__)
    assert mixstage.ImageLoader is loaders.ImageLoader
    assert set(mixstage.__all__) < set(dir(mixstage))
    with pytest.raises(ImportError, match="Nothing"):
        from mixstage import Nothing  # noqa: F401


@pytest.mark.parametrize("name", ["mixops", "mixops.mixers.hmix", "loaders.sources", "pipelines.dali", "loaders.cli.doctor"])
def test_a_module_is_one_under_both_names(name: str) -> None:
    module = importlib.import_module(f"mixstage.{name}")
    assert module is importlib.import_module(name)
    assert module.__name__ == name and module.__spec__ is not None and module.__spec__.name == name


def test_a_module_that_is_not_there() -> None:
    with pytest.raises(ModuleNotFoundError, match=r"mixstage\.loaders\.nothing"):
        importlib.import_module("mixstage.loaders.nothing")


def test_pickles_load_by_both_names() -> None:
    mixer = mixops.HMix(0.3, r=0.5)
    text = pickle.dumps(mixer, protocol=0)
    assert b"cmixops.mixers.hmix\n" in text
    for written in (text, text.replace(b"cmixops.", b"cmixstage.mixops.")):
        assert pickle.loads(written) == mixer


def run(folder: Path, code: str) -> subprocess.CompletedProcess[str]:
    """Runs code as a script of ``folder``, with the checkout behind that on the path, as an editable installation has it."""
    (folder / "script.py").write_text(f"import sys; sys.path.insert(1, {str(ROOT)!r})\n{code}")
    return subprocess.run([sys.executable, folder / "script.py"], capture_output=True, text=True, check=False)


@pytest.mark.parametrize("file", ["pipelines.py", "loaders/__init__.py", "mixops/__init__.py"])
@pytest.mark.parametrize("first", ["", "mine"])
def test_a_package_in_the_place_of_ours_is_named(tmp_path: Path, file: str, first: str) -> None:
    (tmp_path / file).parent.mkdir(exist_ok=True)
    (tmp_path / file).write_text("")
    name = file.split("/")[0].removesuffix(".py")
    done = run(tmp_path, f"import {name if first else 'sys'}\nfrom mixstage import ImageLoader")
    error = done.stderr.strip().splitlines()[-1]
    assert (
        done.returncode and error.startswith("ImportError") and str(tmp_path / file) in error and str(ROOT / name) in error
    )


def test_so_it_is_where_the_loaders_are_imported_by_their_own_name(tmp_path: Path) -> None:
    (tmp_path / "pipelines.py").write_text("")
    done = run(tmp_path, "from loaders import ImageLoader")
    assert done.returncode and f"pipelines must be {ROOT / 'pipelines'}, got {tmp_path / 'pipelines.py'}" in done.stderr


def test_a_folder_without_init_is_no_package_in_our_place(tmp_path: Path) -> None:
    (tmp_path / "loaders").mkdir()
    done = run(tmp_path, "import mixstage; print(mixstage.loaders.__file__)")
    assert done.stdout.strip() == str(ROOT / "loaders" / "__init__.py"), done.stderr


@pytest.mark.nightly
def test_runs_modules_by_both_names() -> None:
    command = [sys.executable, "-m", "mixstage.loaders.cli.main", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stderr
