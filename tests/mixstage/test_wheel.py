"""The wheel installs ``mixstage`` alone: it trains beside a user's own ``loaders`` and ``pipelines``, and they beside it."""

from __future__ import annotations

import os
import pickle
import re
import subprocess
import sys
import sysconfig
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import mixops

pytest.importorskip("hatchling", reason="building the wheel needs hatchling: pip install hatchling")
from hatch_build import index_page, rewrite

ROOT = Path(__file__).parents[2]
STEP = """
import pickle, sys
import torch
from mixstage import HMix, ImageLoader

loader = ImageLoader(sys.argv[1], backend=sys.argv[2], batch_size=8, size=32, mixer=HMix(0.3), num_threads=1, device="cpu")
images, targets = next(iter(loader))
model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(images[0].numel(), targets.shape[1]))
torch.nn.functional.cross_entropy(model(images), targets).backward()
assert model[1].weight.grad.isfinite().all()
import mixstage
assert pickle.loads(pickle.dumps(loader.mixer)) == loader.mixer
print(mixstage.__file__, pickle.dumps(loader.mixer).hex())
"""


@dataclass(frozen=True)
class Installed:
    """A virtual environment with the wheel, and behind it what this one has but the checkout."""

    folder: Path

    @property
    def packages(self) -> Path:
        return next((self.folder / "lib").glob("python*")) / "site-packages"

    def run(self, *command: str | Path, cwd: Path, path: Path | None = None) -> str:
        """What a command of the environment prints; PYTHONPATH is ``path``."""
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        environment |= {} if path is None else {"PYTHONPATH": str(path)}
        program = [self.folder / "bin" / command[0], *command[1:]]
        done = subprocess.run(program, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def train(self, user: Path, root: Path, before: str = "", after: str = "", backend: str = "torchvision") -> str:
        """Trains a step in a script of the folder ``user``; returns the pickled mixer."""
        (user / "train.py").write_text(before + STEP + after)
        file, mixer = self.run("python", "train.py", root, backend, cwd=user).split()
        assert Path(file).is_relative_to(self.packages)
        return mixer


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    environment = Installed(folder)
    install(environment, wheel)
    # a folder named in a .pth file is searched, but its own .pth files, such as that of an editable checkout, are not read
    (environment.packages / "dependencies.pth").write_text(
        "\n".join(sorted({sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}))
    )
    return environment


def install(environment: Installed, wheel: Path) -> None:
    command = [sys.executable, "-m", "pip", "--python", environment.folder, "install", "--no-deps", "--no-index", wheel]
    subprocess.run(command, check=True, capture_output=True)


def test_it_holds_one_name(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names} == {"mixstage", next(n for n in names if "dist-info" in n).split("/")[0]}
    modules = {name.removeprefix("mixstage/") for name in names if name.endswith((".py", ".pyi", "py.typed"))}
    ours = {str(p.relative_to(ROOT)) for name in ("mixops", "pipelines", "loaders") for p in (ROOT / name).rglob("*.py")}
    assert modules == ours | {
        "__init__.py",
        "py.typed",
        *(f"{name}/py.typed" for name in ("mixops", "pipelines", "loaders")),
    }


def test_the_index_page_has_no_link_into_the_checkout(wheel: Path) -> None:
    archive = zipfile.ZipFile(wheel)
    page = archive.read(next(name for name in archive.namelist() if name.endswith("METADATA"))).decode()
    assert "# mixstage" in page and "](https://" in page
    assert re.findall(r"\]\((?!https:|#)[^)]*\)", page) == []


def test_links_of_the_index_page() -> None:
    text = "![two](docs/a.png) [docs](docs/README.md#top) [paper](https://arxiv.org) [below](#x)"
    assert index_page(text, "https://x.org/m") == (
        "![two](https://x.org/m/raw/main/docs/a.png) [docs](https://x.org/m/blob/main/docs/README.md#top) "
        "[paper](https://arxiv.org) [below](#x)"
    )


def test_rewriting() -> None:
    names = {"mixops.key", "mixops.HMix", "loaders.cli"}
    source = '''"""Uses ``mixops.HMix``, see mixops/key.py."""  # mixops.key
import mixops
from loaders import x
from mixops.key import Key  # loaders.items
code = f"from loaders.cli.doctor import probe; {loaders.items()} {x}"
loaders.cli(mixops.HMix)
'''
    expected = '''"""Uses ``mixstage.mixops.HMix``, see mixops/key.py."""  # mixstage.mixops.key
from mixstage import mixops
from mixstage.loaders import x
from mixstage.mixops.key import Key  # loaders.items
code = f"from mixstage.loaders.cli.doctor import probe; {loaders.items()} {x}"
loaders.cli(mixops.HMix)
'''
    assert rewrite(source, names) == expected
    assert rewrite("pattern = 'it comes from loaders that read'", names) == "pattern = 'it comes from loaders that read'"


@pytest.mark.parametrize("source", ["import mixops.key", "import torch, loaders.cli as c", 'f"{loaders.cli}"'])
def test_what_cannot_be_rewritten_is_an_error(source: str) -> None:
    if source.startswith("f") and sys.version_info >= (3, 12):
        assert rewrite(source, {"loaders.cli"}) == source  # the tokens of an f-string are told apart there
        return
    with pytest.raises(ValueError, match=r"x\.py:1"):
        rewrite(source, {"loaders.cli"}, "x.py")


@pytest.mark.nightly
def test_beside_a_module_called_pipelines(installed: Installed, tmp_path: Path, jpeg_folder: Path) -> None:
    (tmp_path / "pipelines.py").write_text("mine = 1")
    mixer = installed.train(tmp_path, jpeg_folder, after="\nimport pipelines\nassert pipelines.mine == 1")
    assert pickle.loads(bytes.fromhex(mixer)) == mixops.HMix(0.3)  # in a checkout too


@pytest.mark.nightly
def test_beside_a_folder_called_loaders_without_init(installed: Installed, tmp_path: Path, jpeg_folder: Path) -> None:
    (tmp_path / "loaders").mkdir()
    (tmp_path / "loaders" / "mine.py").write_text("mine = 1")
    installed.train(tmp_path, jpeg_folder, after="\nfrom loaders.mine import mine\nassert mine == 1")


@pytest.mark.nightly
def test_beside_another_wheel_with_pipelines(installed: Installed, tmp_path: Path, jpeg_folder: Path) -> None:
    other = tmp_path / "other-1.0-py3-none-any.whl"
    with zipfile.ZipFile(other, "w") as file:
        file.writestr("pipelines/__init__.py", "mine = 1")
        file.writestr("other-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: other\nVersion: 1.0\n")
        file.writestr("other-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("other-1.0.dist-info/RECORD", "pipelines/__init__.py,,\n")
    install(installed, other)
    installed.train(tmp_path, jpeg_folder, after="\nimport pipelines\nassert pipelines.mine == 1")


@pytest.mark.nightly
def test_the_command_with_a_python_path(installed: Installed, tmp_path: Path, jpeg_folder: Path) -> None:
    for name in ("pipelines.py", "loaders.py", "mixops.py"):
        (tmp_path / name).write_text("")
    (tmp_path / "train").symlink_to(jpeg_folder)
    (tmp_path / "val").symlink_to(jpeg_folder)
    options = ["--backend", "torchvision", "--model", "small", "--size", "32", "--epochs", "1", "--mixer", "CutMix"]
    pytest.importorskip("torchvision", reason="needs torchvision: pip install torchvision")
    assert "images/s" in installed.run("mixstage", "train", tmp_path, *options, cwd=tmp_path, path=tmp_path)


@pytest.mark.nightly
def test_after_a_package_called_loaders(installed: Installed, tmp_path: Path, jpeg_folder: Path) -> None:
    (tmp_path / "loaders").mkdir()
    (tmp_path / "loaders" / "__init__.py").write_text("mine = 1")
    installed.train(tmp_path, jpeg_folder, "import loaders", "\nassert loaders.mine == 1")


@pytest.mark.nightly
@pytest.mark.parametrize("backend", ["torchvision", "dali"])
def test_both_in_one_step(installed: Installed, tmp_path: Path, jpeg_folder: Path, backend: str) -> None:
    pytest.importorskip("nvidia.dali" if backend == "dali" else backend)
    (tmp_path / "loaders").mkdir()
    (tmp_path / "loaders" / "__init__.py").write_text("from .more import batches")
    (tmp_path / "loaders" / "more.py").write_text("import torch\ndef batches(n): return torch.rand(n, 3, 32, 32)")
    (tmp_path / "pipelines.py").write_text("from mixstage import mixops\ndef scale(x): return x / 2")
    (tmp_path / "mixops.py").write_text("")
    after = "\nfrom loaders import batches; from pipelines import scale; import mixops\n"
    after += "model(scale(torch.cat([images, batches(8)]))).mean().backward()\n"
    after += "assert type(loader.mixer).__module__ == 'mixstage.mixops.mixers.hmix' and not hasattr(mixops, 'HMix')\n"
    installed.train(tmp_path, jpeg_folder, after=after, backend=backend)
