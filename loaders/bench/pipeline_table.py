"""What the tables of ``mixstage bench pipeline`` share: names of contestants, ratios, conditions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .epoch_timing import Open
from .measure import Quartiles, Report, conditions, quartiles
from .peers import Setting

TORCHVISION = "torchvision DataLoader, v2.RandomChoice([MixUp, CutMix])"
DECODE = "decoding alone (DALI)"
UNMIXED = "mixstage dali, no mixing"
MIXED = "mixstage dali, HMix"
SECOND = f"{UNMIXED}, a second time"
AUGMENTED = f"{MIXED}, TrivialAugmentWide, erasing .1"
PLAIN = "DALI, no mixing"
_PACKAGES = ("torchvision", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "ffcv", "numba", "triton")


def table(title: str, setting: Setting, columns: list[str], rows: list[list[Any]], notes: list[str]) -> Report:
    """A report titled by what was measured and under which setting."""
    about = f"{setting.device}, {setting.cores} processors, batches of {setting.batch_size}, {setting.size} pixels"
    notes = ["Medians (and quartiles) of alternated rounds.", *notes]
    return Report(f"{title}, {about}", columns, rows, conditions(_PACKAGES), notes)


def chosen(cases: dict[str, Open], only: Sequence[str] | None) -> dict[str, Open]:
    """The cases named in ``only``, by default all. Raises ``ValueError`` for other names."""
    unknown = set(only or ()) - set(cases)
    if unknown:
        raise ValueError(f"only must be names of {', '.join(cases)}, got {', '.join(sorted(unknown))}")
    return {name: case for name, case in cases.items() if not only or name in only}


def speed(rates: dict[str, Any], name: str, unit: str | None) -> Quartiles | None:
    """How many times as fast as ``unit`` a case is, round by round; None where there is no such case."""
    return quartiles(rates[name] / rates[unit]) if unit in rates else None
