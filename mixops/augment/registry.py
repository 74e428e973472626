"""All augmentations by name, for command lines, contract tests and documentation, and the text that they print.

Only calls with literal arguments are read; nothing is evaluated.
"""

from __future__ import annotations

import ast
import math
from typing import Any

from .composition import Augmentation, as_augmentation
from .erasing import Cutout, Erasing, RandomErasing
from .policies.augmix import AugMix
from .policies.auto_augment import AutoAugment
from .policies.base import Policy
from .policies.color_jitter import ColorJitter
from .policies.rand_augment import RandAugment
from .policies.single import GaussianBlur, RandomGrayscale, RandomSolarize
from .policies.three_augment import ThreeAugment
from .policies.trivial_augment import TrivialAugmentWide
from .timm.policies import TimmAugMix, TimmAutoAugment, TimmRandAugment
from .timm.strings import HEADS, is_timm

AUGMENTATIONS: dict[str, type[Policy] | type[Erasing]] = {
    kind.__name__: kind
    for kind in (
        TrivialAugmentWide, RandAugment, AutoAugment, AugMix, ThreeAugment, ColorJitter, RandomGrayscale, RandomSolarize,
        GaussianBlur, TimmRandAugment, TimmAutoAugment, TimmAugMix, RandomErasing, Cutout,
    )
}  # fmt: skip
_KNOWN: dict[str, Any] = {**AUGMENTATIONS, "Augmentation": Augmentation, "inf": math.inf}


def parse_augment(text: str, *, interpolation: str = "random") -> Augmentation | None:
    """The augmentation that ``text`` says: one of timm's strings, "RandAugment(2, 9)", or "[RandAugment(), Cutout(16)]".

    "none" is None. ``interpolation`` is that of ``as_augmentation``. Raises ``ValueError`` with the names that are known.
    """
    text = text.strip()
    if text.lower() == "none":
        return None
    if is_timm(text):
        return as_augmentation(text, interpolation=interpolation)
    try:
        value = _value(ast.parse(text, mode="eval").body)
        return as_augmentation(_called(value), interpolation=interpolation)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"augment must read like 'RandAugment(2, 9)' or 'rand-m9-inc1', got {text!r}: {error}") from error


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        if node.id not in _KNOWN:
            raise ValueError(f"augment must be one of {', '.join(AUGMENTATIONS)}, begin as {', '.join(HEADS)}, or be none, "
                             f"got {node.id!r}")  # fmt: skip
        return _KNOWN[node.id]
    if isinstance(node, ast.Call):
        keywords = {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None}
        return _value(node.func)(*[_value(arg) for arg in node.args], **keywords)
    if isinstance(node, (ast.List, ast.Tuple)):
        return tuple(_called(_value(item)) for item in node.elts)
    return ast.literal_eval(node)


def _called(value: Any) -> Any:
    """A bare name is a call without arguments."""
    return value() if isinstance(value, type) else value
