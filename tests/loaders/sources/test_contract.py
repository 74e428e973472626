"""The contract of all sources: what is made of an image folder is, to the loader, that folder.

A source that is decoded is compared with a folder of PNG files of one size, any other with JPEG files of many sizes.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.images import encoded, make_jpeg_folder, picture
from support.source_cases import CASES, ENCODED

from loaders import ImageLoader
from loaders.sources import open_source
from mixops import HMix, RandomErasing

BACKENDS = ("dali", "torchvision", "ffcv")
COUNT = 26
MODULES = {"dali": "nvidia.dali", "torchvision": "PIL", "ffcv": "ffcv"}


def in_turn(names: list[str]) -> list[Any]:
    """Sources and backends: of each source one backend by day, the others by night."""
    return [
        pytest.param(name, backend, marks=() if i % len(BACKENDS) == j else pytest.mark.nightly)
        for i, name in enumerate(names)
        for j, backend in enumerate(BACKENDS)
    ]


def make_png_folder(root: Path, count: int, classes: int) -> Path:
    for i in range(count):
        (root / f"{i % classes}").mkdir(parents=True, exist_ok=True)
        (root / f"{i % classes}" / f"{i:05d}.png").write_bytes(encoded(picture(i, 40, 36), "PNG"))
    return root


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Good folders of both kinds, and bad ones with a file that is no image."""
    found = {}
    for kind in ("good", "bad"):
        place = tmp_path_factory.mktemp(kind)
        found[f"{kind} jpeg"] = make_jpeg_folder(place / "jpeg", COUNT, classes=3)
        found[f"{kind} png"] = make_png_folder(place / "png", COUNT, classes=3)
    (found["bad jpeg"] / "1" / "00004.jpg").write_bytes(b"<html>404</html>")
    (found["bad png"] / "1" / "00004.png").write_bytes(b"<html>404</html>")
    return found


@pytest.fixture(scope="module")
def made(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The folder of a case and what was made of it, each once."""
    roots: dict[tuple[str, str], Any] = {}

    def make(name: str, kind: str = "good") -> tuple[Path, Any]:
        folder = folders[f"{kind} {'jpeg' if name in ENCODED else 'png'}"]
        if (name, kind) not in roots:
            roots[name, kind] = CASES[name].root(folder, tmp_path_factory.mktemp("made"))
        return folder, roots[name, kind]

    return make


def loader(root: Any, backend: str = "torchvision", **options: Any) -> ImageLoader:
    pytest.importorskip(MODULES[backend])
    defaults: dict[str, Any] = {
        "batch_size": 8, "size": 28, "mixer": HMix(), "augment": RandomErasing(0.5), "seed": 3, "device": "cpu",
        "num_threads": 2, "drop_last": False,
    }  # fmt: skip
    return ImageLoader(root, backend=backend, **defaults | options)


def same(first: Any, second: Any) -> None:
    for (images, targets), (right_images, right_targets) in zip(first, second, strict=True):
        assert torch.equal(images, right_images) and torch.equal(targets, right_targets)


@pytest.mark.parametrize("name", CASES)
def test_labels_classes_and_sizes(made: Any, name: str) -> None:
    folder, root = made(name)
    expected, source = open_source(folder), open_source(root)
    assert np.array_equal(source.labels, expected.labels) and source.labels.dtype == np.int64
    assert tuple(source.classes) == expected.classes
    assert np.array_equal(source.sizes, expected.sizes)
    assert not source.broken and len(source) == COUNT
    assert source.digest == open_source(root).digest and len({source.name(i) for i in range(COUNT)}) == COUNT


@pytest.mark.parametrize(("name", "backend"), in_turn(list(CASES)))
def test_batches_are_those_of_the_folder(made: Any, name: str, backend: str) -> None:
    folder, root = made(name)
    with loader(folder, backend) as expected, loader(root, backend) as one:
        for epoch, step in ((0, 0), (1, 3)):
            plan, right = one.draw(epoch, step), expected.draw(epoch, step)
            assert np.array_equal(plan.ids, right.ids) and np.array_equal(plan.windows, right.windows)
        same(one, expected)


@pytest.mark.parametrize("name", CASES)
def test_resumes_in_the_middle(made: Any, name: str) -> None:
    _, root = made(name)
    with loader(root) as one, loader(root) as later:
        batches = iter(one)
        next(batches)
        later.load_state_dict(one.state_dict())
        same(later, batches)


@pytest.mark.parametrize("name", CASES)
def test_ranks_have_each_sample_once(made: Any, name: str) -> None:
    folder, root = made(name)
    ids = []
    for rank in range(2):
        options = {"rank": rank, "world_size": 2, "batch_size": 4}
        with loader(root, ids=True, **options) as one, loader(folder, **options) as expected:
            for (images, targets, samples), (right, right_targets) in zip(one, expected, strict=True):
                assert torch.equal(images, right) and torch.equal(targets, right_targets)
                ids += samples.tolist()
    assert sorted(ids) == list(range(COUNT))


@pytest.mark.parametrize(("name", "backend"), in_turn([name for name, case in CASES.items() if case.holds_bad]))
def test_a_bad_sample_is_named_and_another_takes_its_place(made: Any, name: str, backend: str) -> None:
    folder, root = made(name, "bad")
    with loader(folder, backend, on_error="skip") as expected, loader(root, backend, on_error="skip", ids=True) as one:
        (bad,) = open_source(folder).broken
        shown = []
        for (images, targets, ids), (right, right_targets) in zip(one, expected, strict=True):
            assert torch.equal(images, right) and torch.equal(targets, right_targets)
            shown += ids.tolist()
        assert bad not in shown and set(range(COUNT)) - {bad} <= set(shown)
        assert one.stats().bad_files == 1
    with loader(root, backend) as one, pytest.raises(RuntimeError) as error:
        list(one)
    assert open_source(root).name(bad) in str(error.value)
