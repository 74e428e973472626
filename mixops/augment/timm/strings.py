"""timm's configuration strings: "rand-m9-mstd0.5-inc1", "augmix-m5-w4-d2", "original-mstd0.5", "3a".

timm ignores sections that it does not understand; here they are errors.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable
from typing import Any

from ..checks import Colour
from .policies import TimmAugMix, TimmAutoAugment, TimmPolicy, TimmRandAugment
from .tables import CHOICES, POLICIES

_UNIFORM = 100.0  # a RandAugment deviation above this asks for uniform magnitudes
_RAND: dict[str, tuple[str, Callable[[str], Any]]] = {
    "m": ("magnitude", int), "n": ("num_layers", int), "p": ("prob", float), "mstd": ("magnitude_std", float),
    "mmax": ("magnitude_max", int), "inc": ("inc", int),
}  # fmt: skip
_AUGMIX: dict[str, tuple[str, Callable[[str], Any]]] = {
    "m": ("magnitude", int), "w": ("width", int), "d": ("depth", int), "a": ("alpha", float), "b": ("blended", int),
    "mstd": ("magnitude_std", float),
}  # fmt: skip
_AUTO: dict[str, tuple[str, Callable[[str], Any]]] = {"mstd": ("magnitude_std", float)}
HEADS = ("rand", "augmix", *POLICIES)


def is_timm(text: str) -> bool:
    """Whether a text begins as one of timm's strings does."""
    return text.split("-")[0].strip() in HEADS


def parse_timm(text: str, *, interpolation: str = "random", fill: Colour = "mean") -> TimmPolicy:
    """The policy that a string says; ``interpolation`` and ``fill`` are what timm takes from the crop and the data.

    Raises ``ValueError`` saying what of the text is not understood.
    """
    head, *sections = text.strip().split("-")
    options: dict[str, Any] = {"interpolation": interpolation, "fill": fill}
    if head == "rand":
        return _rand(text, sections, options)
    if head == "augmix":
        found = _read(text, sections, _AUGMIX)
        if found.pop("blended", 0):
            raise ValueError(f"text must not ask for blended chains (b1), which timm calls untested, got {text!r}")
        return TimmAugMix(**found, **options)
    if head in POLICIES:
        return TimmAutoAugment(head, **_read(text, sections, _AUTO), **options)
    raise ValueError(f"text must begin with one of {', '.join(HEADS)}, got {text!r}")


def _rand(text: str, sections: list[str], options: dict[str, Any]) -> TimmRandAugment:
    named = [section[1:] for section in sections if section.startswith("t")]
    sets = [name for name in CHOICES if name not in ("plain", "increasing")]
    if len(named) > 1 or any(name not in sets for name in named):
        raise ValueError(f"text must name one set of {', '.join('t' + name for name in sets)}, got {text!r}")
    found = _read(text, (section for section in sections if not section.startswith("t")), _RAND)
    if found.get("magnitude_std", 0.0) > _UNIFORM:
        found["magnitude_std"] = math.inf
    increasing = bool(found.pop("inc", 0))
    found["transforms"] = named[0] if named else "increasing" if increasing else "plain"
    return TimmRandAugment(**found, **options)


def _read(text: str, sections: Iterable[str], known: dict[str, tuple[str, Callable[[str], Any]]]) -> dict[str, Any]:
    """Keyword arguments from sections such as "m9"."""
    found: dict[str, Any] = {}
    for section in sections:
        match = re.fullmatch(r"([a-z]+)(\d.*)", section)
        if match is None or match[1] not in known:
            raise ValueError(f"text must have sections of {', '.join(known)} with a number, got {section!r} in {text!r}")
        name, kind = known[match[1]]
        try:
            found[name] = kind(match[2])
        except ValueError as error:
            raise ValueError(f"text must have a number after {match[1]}, got {section!r} in {text!r}") from error
    return found
