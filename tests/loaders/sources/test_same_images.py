"""CIFAR's kind of images in every form that they come in: one key, one batch, on every backend."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.images import encoded, picture
from support.same_images import FILES, PIXELS, differences
from support.source_cases import CASES

from loaders.sources.registry import SOURCES

NEEDS = ("nvidia.dali", "ffcv", "pyarrow", "datasets", "lmdb")


def test_the_same_batch_whatever_holds_the_images(tmp_path: Path) -> None:
    for module in NEEDS:
        pytest.importorskip(module)
    for i in range(48):
        (tmp_path / "folder" / f"{i % 3}").mkdir(parents=True, exist_ok=True)
        (tmp_path / "folder" / f"{i % 3}" / f"{i:04d}.jpg").write_bytes(encoded(picture(i, 32, 32)))
    found = list(differences(tmp_path / "folder", tmp_path))
    assert len(found) == 3 * (len(FILES) + len(PIXELS) + 2)
    assert [one for one in found if not one.good] == []


def test_every_kind_of_source_is_in_the_contract() -> None:
    words = " ".join(CASES).lower()
    assert [kind for kind in SOURCES if kind != "folder" and kind not in words] == []
