"""Mixers from the text that they print: ``parse_mixer("HMix(alpha=1, r=0.75)")``, for command lines and configuration files.

Only calls of mixers and ``OptimalMatching`` with literal arguments are read; nothing is evaluated.
"""

from __future__ import annotations

import ast
from typing import Any

from ..pairing.matching import OptimalMatching
from .base import Mixer
from .cutmix import CutMix
from .fmix import FMix
from .gmix import GMix
from .hmix import HMix
from .mixup import MixUp
from .switch import Switch

MIXERS: dict[str, type[Mixer]] = {m.__name__: m for m in (MixUp, CutMix, HMix, GMix, FMix, Switch)}


def parse_mixer(text: str) -> Mixer | None:
    """The mixer that ``text`` says, a name such as "HMix" or a call such as "Switch([MixUp(0.8), CutMix()])".

    "none" is None: no mixing. Raises ``ValueError`` with the names that are known.
    """
    if text.strip().lower() == "none":
        return None
    try:
        tree = ast.parse(text.strip(), mode="eval").body
        mixer = _value(tree)
    except (SyntaxError, TypeError) as error:
        raise ValueError(f"mixer must read like 'HMix(alpha=1, r=0.75)', got {text!r}: {error}") from error
    mixer = mixer() if isinstance(mixer, type) else mixer
    if not isinstance(mixer, Mixer):
        raise ValueError(f"mixer must be one of {', '.join(MIXERS)} or none, got {text!r}")
    return mixer


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        known: dict[str, Any] = {**MIXERS, "OptimalMatching": OptimalMatching}
        if node.id not in known:
            raise ValueError(f"mixer must be one of {', '.join(MIXERS)} or none, got {node.id!r}")
        return known[node.id]
    if isinstance(node, ast.Call):
        keywords = {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None}
        return _value(node.func)(*[_value(arg) for arg in node.args], **keywords)
    if isinstance(node, (ast.List, ast.Tuple)):
        members = [_value(item) for item in node.elts]
        return [member() if isinstance(member, type) else member for member in members]
    return ast.literal_eval(node)
