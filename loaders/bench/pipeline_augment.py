"""What augmentation costs: the DALI loader with each policy beside itself without, and torchvision's with the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from mixops import RandAugment, RandomErasing, ThreeAugment, TrivialAugmentWide

from ..backends.base import is_installed
from . import peers
from .epoch_timing import Open, measure_epochs
from .measure import Report, quartiles
from .peers import Setting
from .pipeline_table import chosen, speed, table

NONE = "mixstage dali, no augmentation"


@dataclass(frozen=True)
class Policy:
    """A policy of ours, and what people write for it today: stages before ``PILToTensor``, and behind ``Normalize``."""

    name: str
    ours: Sequence[Any]
    theirs: peers.Stages


class BlackIfRefused:
    """A transform of timm's; at times it posterizes to 0 bits, which Pillow 13 refuses: such an image is black."""

    def __init__(self, transform: Any) -> None:
        self._transform = transform

    def __call__(self, image: Any) -> Any:
        """Transforms a PIL image."""
        try:
            return self._transform(image)
        except ValueError:
            return image.point(lambda v: 0)


def _erasing(p: float) -> list[Any]:
    from torchvision.transforms import v2

    return [v2.RandomErasing(p)]


def _trivial() -> tuple[list[Any], list[Any]]:
    from torchvision.transforms import v2

    return [v2.TrivialAugmentWide()], _erasing(0.1)


def _rand() -> tuple[list[Any], list[Any]]:
    from torchvision.transforms import v2

    return [v2.RandAugment(2, 9)], []


def _timm() -> tuple[list[Any], list[Any]]:
    from timm.data.auto_augment import rand_augment_transform
    from timm.data.random_erasing import RandomErasing as TimmErasing

    options = {"translate_const": 100, "img_mean": (124, 116, 104)}
    operations = BlackIfRefused(rand_augment_transform("rand-m9-mstd0.5-inc1", options))
    return [operations], [TimmErasing(0.25, mode="pixel", device="cpu")]


def _three() -> tuple[list[Any], list[Any]]:
    from torchvision.transforms import v2

    one = [v2.RandomGrayscale(1.0), v2.RandomSolarize(128, 1.0), v2.GaussianBlur(9, (0.1, 2.0))]
    return [v2.RandomChoice(one), v2.ColorJitter(0.3, 0.3, 0.3)], []


POLICIES = (
    Policy("TrivialAugmentWide, erasing .1", (TrivialAugmentWide(), RandomErasing(0.1)), _trivial),
    Policy("RandAugment(2, 9)", (RandAugment(2, 9),), _rand),
    Policy("rand-m9-mstd0.5-inc1, erasing .25", ("rand-m9-mstd0.5-inc1", RandomErasing(0.25, value="pixel")), _timm),
    Policy("3-Augment, jitter .3", (ThreeAugment(0.3),), _three),
)


def measure_augmentation(setting: Setting, rounds: int, only: Sequence[str] | None = None) -> Report:
    """Every policy in both loaders, or those named in ``only``."""
    cases: dict[str, Open] = {NONE: lambda: peers.mixstage(setting, "dali", None)}
    units: dict[str, str] = {}
    for policy in POLICIES:
        ours, theirs = f"mixstage dali, {policy.name}", f"torchvision DataLoader, {policy.name}"
        cases[ours] = partial(peers.mixstage, setting, "dali", None, list(policy.ours))
        if is_installed("torchvision") and (policy.theirs is not _timm or is_installed("timm")):
            cases[theirs] = partial(peers.torchvision_loader, setting, False, policy.theirs)
            units[ours] = theirs
    cases[f"{NONE}, a second time"] = cases[NONE]
    cases = chosen(cases, only)
    rates = measure_epochs(setting, cases, rounds, "augmentation")
    columns = ["loader", "images/s", "x no augmentation", "x torchvision with the same policy"]
    rows: list[list[Any]] = []
    for name in cases:
        unit = NONE if "dali" in name else None
        rows.append([name, quartiles(rates[name]), speed(rates, name, unit), speed(rates, name, units.get(name))])
    notes = [
        "Loaders alone: nothing is done with the batches, nothing is mixed. The last line says how much two equal loaders "
        "differ here. torchvision's policies work on PIL images, as the recipes do; timm's policy is timm's own code there."
    ]
    return table("Augmentation", setting, columns, rows, notes)
