"""Loaders alone, nothing being done with their batches: every loader, and every mixer in the DALI loader."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mixops import CutMix, GMix, HMix, MixUp, OptimalMatching, Switch

from ..backends.base import is_installed
from . import peers
from .epoch_timing import Open, measure_epochs
from .measure import Report, quartiles
from .peers import Setting
from .pipeline_table import DECODE, MIXED, TORCHVISION, UNMIXED, chosen, speed, table


def measure_loaders(setting: Setting, rounds: int, only: Sequence[str] | None = None) -> Report:
    """Every loader alone, or those named in ``only``."""
    cases: dict[str, Open] = {}
    if is_installed("torchvision"):
        cases[TORCHVISION] = lambda: peers.torchvision_loader(setting, mixing=True)
        cases["torchvision DataLoader, no mixing"] = lambda: peers.torchvision_loader(setting, mixing=False)
    cases["mixstage torchvision, HMix"] = lambda: peers.mixstage(setting, "torchvision", HMix())  # needs only Pillow
    if is_installed("nvidia.dali"):
        cases[DECODE] = lambda: peers.plain_dali(setting, decode_only=True)
        cases["DALI, no mixing"] = lambda: peers.plain_dali(setting, decode_only=False)
        cases[UNMIXED] = lambda: peers.mixstage(setting, "dali", None)
        cases[MIXED] = lambda: peers.mixstage(setting, "dali", HMix())
    if setting.beton.exists():
        cases["FFCV, no mixing"] = lambda: peers.plain_ffcv(setting, mixing=False)
        cases["FFCV, its own ImageMixup"] = lambda: peers.plain_ffcv(setting, mixing=True)
        cases["mixstage ffcv, no mixing"] = lambda: peers.mixstage(setting, "ffcv", None)
        cases["mixstage ffcv, HMix"] = lambda: peers.mixstage(setting, "ffcv", HMix())
    cases = chosen(cases, only)
    rates = measure_epochs(setting, cases, rounds, "loaders alone")
    columns = ["loader", "images/s", "x torchvision with mixing", "x same loader without mixing", "x plain DALI"]
    unmixed = {MIXED: UNMIXED, "mixstage ffcv, HMix": "mixstage ffcv, no mixing",
               "FFCV, its own ImageMixup": "FFCV, no mixing", TORCHVISION: "torchvision DataLoader, no mixing"}  # fmt: skip
    units = {name: (TORCHVISION, unmixed.get(name), "DALI, no mixing") for name in cases}
    rows = [[name, quartiles(rates[name]), *[speed(rates, name, unit) for unit in units[name]]] for name in cases]
    notes = [
        "Loaders alone: nothing is done with the batches. FFCV reads its own file, whose images were encoded again.",
        "Decoding alone decodes whole images and crops nothing; loaders that decode only the crop can be faster.",
    ]
    return table("Loaders alone", setting, columns, rows, notes)


def measure_mixers(setting: Setting, rounds: int, only: Sequence[str] | None = None) -> Report:
    """What each mixer and each K costs in the DALI loader, or those named in ``only``; without DALI in torchvision's."""
    backend = peers.own_backend()
    mixers = (
        MixUp(), CutMix(), HMix(), GMix(), Switch([MixUp(0.8), CutMix()]), MixUp(matching=OptimalMatching(16)),
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
