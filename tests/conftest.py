"""What all tests share: reproducible hypothesis, a private cache folder, small image folders; GPU tests skip without one.

Imports stand in functions: the process that hands the tests out to the others needs neither torch nor the images.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

# the same examples in every run; HYPOTHESIS_PROFILE=search looks for new ones
settings.register_profile("repeat", derandomize=True, deadline=None, database=None)
settings.register_profile("search", deadline=None, max_examples=1000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeat"))


# what takes long begins first, so that no worker has much left when the others are done; the first worker compiles kernels,
# while the second begins with files that need few and finds them compiled
LONG = (
    "sources/test_contract.py",
    "mixers/test_registry.py",
    "embedding/test_multimix.py",
    "kernels/test_blend_cuda.py",
    "kernels/test_puzzle_cuda.py",
    "augment/test_contract.py",
    "mixops/test_key.py",
    "mixops/test_measures.py",
    "tests/test_imports.py",
    "loaders/test_resume.py",
    "mixers/test_contract.py",
    "loaders/test_bad_files.py",
    "examples/test_cifar.py",
    "tests/test_works_with.py",
    "tests/test_docs.py",
)


def pytest_sessionstart(session: pytest.Session) -> None:
    """What is collected imports FFCV: said before, its dictionaries are not compiled in every process of the tests."""
    if not session.config.getoption("numprocesses", None):  # the process that hands tests out has it, and runs none
        from pipelines.ffcv.dictionaries import keep_dictionaries

        keep_dictionaries()


def _turn(item: pytest.Item) -> int:
    path = item.path.as_posix()
    return next((i for i, end in enumerate(LONG) if path.endswith(end)), len(LONG))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; tests marked gpu need a device."""
    import torch

    items.sort(key=_turn)
    if not torch.cuda.is_available():
        for item in items:
            if "gpu" in item.keywords:
                item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """What torch draws without a generator, as the weights of a network, does not depend on the tests before."""
    import torch

    torch.default_generator.manual_seed(0)  # torch.manual_seed also writes down where devices that are absent were asked


@pytest.fixture(scope="session", autouse=True)
def _private_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Indexes of test folders must not fill the user's cache; kernels of other processes are compiled once for all tests."""
    from mixops.runtime.jit import kernel_folder

    if (kernels := kernel_folder()) is not None:
        os.environ["NUMBA_CACHE_DIR"] = kernels
    os.environ["MIXSTAGE_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def awkward_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """85 images of all formats and shapes in 3 classes."""
    from support.images import make_folder

    return make_folder(tmp_path_factory.mktemp("awkward"), 85)


@pytest.fixture(scope="session")
def jpeg_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """101 small JPEGs in 5 classes."""
    from support.images import make_jpeg_folder

    return make_jpeg_folder(tmp_path_factory.mktemp("jpegs"), 101)


@pytest.fixture(scope="session")
def roots(jpeg_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The JPEGs in the form that a backend reads; skips where the backend is not installed."""
    written: list[Path] = []

    def root(backend: str) -> Path:
        if backend != "ffcv":
            return jpeg_folder
        pytest.importorskip("ffcv", reason="ffcv is not installed")
        if not written:
            from loaders.cli.convert import convert

            written.append(tmp_path_factory.mktemp("beton") / "jpegs.beton")
            convert(jpeg_folder, written[0], num_threads=2)
        return written[0]

    return root
