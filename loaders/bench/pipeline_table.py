"""What the tables of ``mixstage bench pipeline`` share: names of contestants, ratios, conditions."""

from __future__ import annotations

from typing import Any

from .measure import Quartiles, Report, conditions, quartiles
from .peers import Setting

TORCHVISION = "torchvision DataLoader, v2.RandomChoice([MixUp, CutMix])"
DECODE = "decoding alone (DALI)"
UNMIXED = "mixstage dali, no mixing"
MIXED = "mixstage dali, HMix"
_PACKAGES = ("torchvision", "nvidia-dali-cuda130", "nvidia-dali-cuda120", "ffcv", "numba", "triton")


def table(title: str, setting: Setting, columns: list[str], rows: list[list[Any]], notes: list[str]) -> Report:
    """A report titled by what was measured and under which setting."""
    about = f"{setting.device}, {setting.cores} processors, batches of {setting.batch_size}, {setting.size} pixels"
    notes = ["Medians (and quartiles) of alternated rounds.", *notes]
    return Report(f"{title}, {about}", columns, rows, conditions(_PACKAGES), notes)


def speed(rates: dict[str, Any], name: str, unit: str | None) -> Quartiles | None:
    """How many times as fast as ``unit`` a case is, round by round; None where there is no such case."""
    return quartiles(rates[name] / rates[unit]) if unit in rates else None
