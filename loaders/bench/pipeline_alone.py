"""Loaders alone, nothing being done with their batches: every loader, and every mixer in the DALI loader."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial

from mixops import GMix, HMix, MixUp, OptimalMatching, RandomErasing, TrivialAugmentWide
from mixops.mixers.registry import examples

from ..backends.base import is_installed
from . import peers
from .epoch_timing import Open, count_batches, epochs_in_turn, measure_epochs
from .measure import Report, last, quartiles
from .peers import Setting
from .pipeline_table import (
    AUGMENTED,
    DECODE,
    MIXED,
    PLAIN,
    SECOND,
    TORCHVISION,
    UNMIXED,
    chosen,
    speed,
    table,
)

ALONE = (UNMIXED, MIXED, SECOND, AUGMENTED, PLAIN, DECODE)
"""What says how fast the DALI loader is: itself, and what it is held against."""


def measure_loaders(setting: Setting, rounds: int, only: Sequence[str] | None = None) -> Report:
    """Every loader alone, or those named in ``only``."""
    return last(loaders_in_turn(setting, rounds, only))


def loaders_in_turn(
    setting: Setting, rounds: int, only: Sequence[str] | None = None, seconds: float | None = None
) -> Iterator[Report]:
    """``measure_loaders`` as far as it has come, after each round; none but the first begins after ``seconds``."""
    cases, batches = chosen(_loaders(setting), only), count_batches(setting)
    unmixed = dict.fromkeys((MIXED, SECOND, AUGMENTED), UNMIXED) | {
        "mixstage ffcv, HMix": "mixstage ffcv, no mixing", "FFCV, its own ImageMixup": "FFCV, no mixing",
        TORCHVISION: "torchvision DataLoader, no mixing",
    }  # fmt: skip
    units = {
        name: {
            "x torchvision with mixing": TORCHVISION, "x same loader without mixing": unmixed.get(name),
            "x plain DALI": PLAIN, "x decoding alone": DECODE,
        }
        for name in cases
    }  # fmt: skip
    columns = ["loader", "images/s", *next(iter(units.values()))]
    for rates in epochs_in_turn(setting, cases, rounds, "loaders alone", seconds):
        rows = [
            [name, quartiles(rates[name]), *[speed(rates, name, unit) for unit in units[name].values()]] for name in cases
        ]
        done = len(next(iter(rates.values())))
        notes = [
            "Loaders alone: nothing is done with the batches. FFCV reads its own file, whose images were encoded again.",
            "Decoding alone decodes whole images and crops nothing; loaders that decode only the crop can be faster.",
            f"{done} rounds of epochs of {batches} batches, of which the middle half is timed.",
        ]
        yield table("Loaders alone", setting, columns, rows, notes)


def _loaders(setting: Setting) -> dict[str, Open]:
    """All that are installed."""
    cases: dict[str, Open] = {}
    if is_installed("torchvision"):
        cases[TORCHVISION] = lambda: peers.torchvision_loader(setting, mixing=True)
        cases["torchvision DataLoader, no mixing"] = lambda: peers.torchvision_loader(setting, mixing=False)
    cases["mixstage torchvision, HMix"] = lambda: peers.mixstage(setting, "torchvision", HMix())  # needs only Pillow
    if is_installed("nvidia.dali"):
        augment = [TrivialAugmentWide(), RandomErasing(0.1)]
        cases[DECODE] = lambda: peers.plain_dali(setting, decode_only=True)
        cases[PLAIN] = lambda: peers.plain_dali(setting, decode_only=False)
        cases[UNMIXED] = lambda: peers.mixstage(setting, "dali", None)
        cases[MIXED] = lambda: peers.mixstage(setting, "dali", HMix())
        cases[AUGMENTED] = lambda: peers.mixstage(setting, "dali", HMix(), augment)
        cases[SECOND] = cases[UNMIXED]
    if setting.beton.exists():
        cases["FFCV, no mixing"] = lambda: peers.plain_ffcv(setting, mixing=False)
        cases["FFCV, its own ImageMixup"] = lambda: peers.plain_ffcv(setting, mixing=True)
        cases["mixstage ffcv, no mixing"] = lambda: peers.mixstage(setting, "ffcv", None)
        cases["mixstage ffcv, HMix"] = lambda: peers.mixstage(setting, "ffcv", HMix())
    return cases


def measure_mixers(setting: Setting, rounds: int, only: Sequence[str] | None = None) -> Report:
    """What each mixer and each K costs in the DALI loader, or those named in ``only``; without DALI in torchvision's."""
    backend = peers.own_backend()
    mixers = (
        *examples({"images"}), MixUp(matching=OptimalMatching(16)),
        HMix(interpolations=2), HMix(interpolations=5), GMix(interpolations=5),
    )  # fmt: skip
    cases: dict[str, Open] = {"none": lambda: peers.mixstage(setting, backend, None)}
    cases |= {repr(mixer): partial(peers.mixstage, setting, backend, mixer) for mixer in mixers}
    cases["none, a second time"] = cases["none"]
    cases = chosen(cases, only)
    rates = measure_epochs(setting, cases, rounds, "mixers")
    rows = [[name, quartiles(rates[name]), speed(rates, name, "none")] for name in cases]
    notes = [
        "Source images a second: with K interpolations each becomes K training images. The second line without mixing says "
        "how much two equal loaders differ here."
    ]
    name = "DALI" if backend == "dali" else backend
    return table(f"Mixers in the {name} loader", setting, ["mixer", "images/s", "x without mixing"], rows, notes)
