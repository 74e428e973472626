"""FFCV loaders for the tests, with and without compilation."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("ffcv", reason="ffcv is not installed")

from ffcv.fields.basics import IntDecoder
from ffcv.loader import OrderOption
from ffcv.pipeline.compiler import Compiler
from ffcv.transforms import ToTensor

from mixops.augment.crops import RandomResizedCrop
from pipelines.ffcv import MixImage, MixLabel, MixLoader, PlannedCrop

SIZE = (20, 28)
CLASSES = 3


@pytest.fixture
def interpreted() -> Iterator[None]:
    """FFCV runs its stages as plain Python: the same code, without ten seconds of compilation."""
    Compiler.set_enabled(False)
    yield
    Compiler.set_enabled(True)


def image_pipeline(*after: Any, size: tuple[int, int] = SIZE) -> list[Any]:
    return [PlannedCrop(size, RandomResizedCrop()), *after]


def loader(
    path: Path, *image: Any, label: list[Any] | None = None, batch_size: int = 8, order: Any = None, **options: Any
) -> MixLoader:
    """A MixLoader with two workers over planned crops; ``image`` are the stages behind the decoder."""
    pipelines = {
        "image": image_pipeline(*(image or (ToTensor(), MixImage()))),
        "label": label or [IntDecoder(), ToTensor(), MixLabel(CLASSES)],
    }
    options = {"drop_last": False, "num_workers": 2, **options}
    return MixLoader(str(path), batch_size, pipelines=pipelines, order=order or OrderOption.RANDOM, **options)


def kept(batches: Any) -> list[tuple[torch.Tensor, ...]]:
    """All batches, copied as they come."""
    return [tuple(torch.as_tensor(x).clone() for x in batch) for batch in batches]


def same(one: Any, two: Any) -> bool:
    """Whether two lists of batches are equal bit for bit."""
    return len(one) == len(two) and all(
        torch.equal(torch.as_tensor(x), torch.as_tensor(y))
        for a, b in zip(one, two, strict=True)
        for x, y in zip(a, b, strict=True)
    )
