"""Every argument of the stages for DALI and FFCV meets hostile values: what is wrong is refused by its name."""

from __future__ import annotations

from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from support.hostile_arguments import Call, no_surprise

from mixops import MixUp, RandomResizedCrop
from pipelines import dali


def test_plan_source() -> None:
    arguments = {"mixer": MixUp(), "batch_size": 4, "height": 8, "width": 8, "steps_per_epoch": 3}
    no_surprise(Call(dali.PlanSource, partial(dict, arguments)), "PlanSource")


def test_augment_source() -> None:
    arguments = {"augment": "rand-m9", "batch_size": 4, "height": 8, "width": 8, "steps_per_epoch": 3}
    no_surprise(Call(dali.AugmentSource, partial(dict, arguments)), "AugmentSource")


ARGUMENTS: dict[str, dict[str, Any]] = {
    "AugmentImage": {"augment": "rand-m9"},
    "MixImage": {},
    "MixLabel": {"num_classes": 3},
    "PlannedCrop": {"size": (8, 8), "law": RandomResizedCrop()},
}


@pytest.mark.skipif(find_spec("ffcv") is None, reason="ffcv is not installed")
@pytest.mark.parametrize("name", ARGUMENTS)
def test_ffcv_stages(name: str) -> None:
    from pipelines import ffcv

    no_surprise(Call(getattr(ffcv, name), partial(dict, ARGUMENTS[name])), name)


@pytest.mark.skipif(find_spec("ffcv") is None, reason="ffcv is not installed")
def test_mix_loader(jpeg_folder: Path, tmp_path: Path) -> None:
    from ffcv.fields.basics import IntDecoder
    from ffcv.pipeline.compiler import Compiler
    from ffcv.transforms import ToTensor

    from loaders.cli.convert import convert
    from pipelines import ffcv

    file = tmp_path / "a.beton"
    convert(jpeg_folder, file, num_threads=1)

    def arguments() -> dict[str, Any]:
        image = [ffcv.PlannedCrop((8, 8), RandomResizedCrop()), ToTensor(), ffcv.MixImage()]
        label = [IntDecoder(), ToTensor(), ffcv.MixLabel(5)]
        fields = {"image": image, "label": label}
        return {"fname": file, "batch_size": 4, "num_workers": 1, "pipelines": fields, "mixer": MixUp()}

    Compiler.set_enabled(False)  # plain Python, without ten seconds of compilation
    try:
        no_surprise(Call(ffcv.MixLoader, arguments, outside=frozenset({"fname"})), "MixLoader")
    finally:
        Compiler.set_enabled(True)
