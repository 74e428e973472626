"""What mixers need, and that every place which cannot give it says so when it is constructed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from loaders import ImageLoader
from mixops import CutMix, Key, ManifoldMix, MixUp, OptimalMatching, PuzzleMix, Switch
from mixops.mixers.base import Mixer
from mixops.mixers.needs import refuse_needs
from pipelines import dali

SALIENT = [PuzzleMix(1.0), Switch([PuzzleMix(1.0), CutMix(1.0)])]
matched = OptimalMatching(2)


@pytest.mark.parametrize(
    ("mixer", "needs"),
    [
        (MixUp(), set()),
        (CutMix(matching=OptimalMatching(1)), set()),
        (MixUp(matching=matched), {"images"}),
        (Switch([MixUp(), CutMix()], matching=matched), {"images"}),
        (PuzzleMix(), {"images", "saliency"}),
        (PuzzleMix(matching=matched), {"images", "saliency"}),
        (Switch([CutMix(), PuzzleMix()]), {"images", "saliency"}),
    ],
    ids=lambda value: "-".join(sorted(value)) if isinstance(value, set) else repr(value),  # sets print in any order
)
def test_needs(mixer: Mixer, needs: set[str]) -> None:
    """A plan is drawn from what the mixer needs and from nothing less."""
    assert mixer.needs == needs and isinstance(mixer.needs, frozenset)
    given = {"images": torch.rand(8, 3, 8, 8), "saliency": torch.rand(8, 8, 8)}
    size = {"batch_size": 8, "height": 8, "width": 8}
    plan = mixer.plan(Key(), **size, **{name: given[name] for name in needs})
    assert plan.to_json() == mixer.plan(Key(), **size, **given).to_json(), "it looks at more than it says"
    for name in needs:
        with pytest.raises(ValueError, match=f"{name} must be given to "):
            mixer.plan(Key(), **size, **{other: given[other] for other in needs - {name}})


def test_sizes_are_those_of_the_images_where_these_are_given() -> None:
    images = np.zeros((6, 3, 5, 7), np.uint8)
    plan = CutMix().plan(Key(), images=images)
    assert plan.to_json() == CutMix().plan(Key(), batch_size=6, height=5, width=7).to_json()
    with pytest.raises(TypeError, match="height must be an integer, got None"):
        CutMix().plan(Key(), batch_size=6)


def test_saliency_may_be_a_function_of_the_images() -> None:
    images = torch.rand(4, 3, 8, 8)
    plans = [PuzzleMix().plan(Key(), images=images, saliency=s) for s in (images[:, 0], lambda x: x[:, 0])]
    assert plans[0].to_json() == plans[1].to_json()


@pytest.mark.parametrize("mixer", SALIENT, ids=repr)
def test_places_that_know_no_model_refuse_saliency(mixer: Mixer, jpeg_folder: Path) -> None:
    message = r"mixer must need no .*saliency in .*, got .*PuzzleMix.*gradient_saliency\(model, images, labels\)"
    with pytest.raises(ValueError, match=message):
        ImageLoader(jpeg_folder, backend="torchvision", batch_size=8, mixer=mixer)
    with pytest.raises(ValueError, match=message):
        dali.plan_source(mixer, batch_size=8, height=8, width=8, epoch_size=16)
    with pytest.raises(ValueError, match=message):
        ManifoldMix(torch.nn.Sequential(torch.nn.Linear(2, 2)), [0], mixer)


@pytest.mark.parametrize("mixer", SALIENT, ids=repr)
def test_ffcv_refuses_saliency(mixer: Mixer) -> None:
    pytest.importorskip("ffcv", reason="ffcv is not installed")
    from pipelines.ffcv import MixLoader

    with pytest.raises(ValueError, match=r"mixer must need no .*saliency in an FFCV loader"):
        MixLoader("not-looked-at.beton", 8, mixer=mixer)


class Peeping(MixUp):
    """A mixer whose masks look at the images."""

    @property
    def mask_needs(self) -> frozenset[str]:
        return frozenset({"images"})


def test_a_plan_drawn_before_the_images_refuses_masks_that_look_at_them() -> None:
    with pytest.raises(ValueError, match="mixer must need no images in a DALI pipeline, got Peeping"):
        dali.plan_source(Peeping(), batch_size=8, height=8, width=8, epoch_size=16)
    dali.plan_source(MixUp(matching=matched), batch_size=8, height=8, width=8, epoch_size=16)  # matched in the pipeline


def test_what_is_given_is_not_refused() -> None:
    refuse_needs(None, (), "a place")
    refuse_needs(MixUp(), (), "a place")
    refuse_needs(PuzzleMix(), {"images", "saliency"}, "a place")
    with pytest.raises(ValueError, match="mixer must need no images and no saliency in a place"):
        refuse_needs(PuzzleMix(), (), "a place")
