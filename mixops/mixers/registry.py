"""What mixers there are: one line each, and the reader of the text that they print.

Whatever goes over all mixers reads this table: the command line and configuration files (``parse_mixer``), the contract that
every mixer is tested against, benchmarks, previews, the pictures and pages of the documentation. So a new mixer is one file
and one line; modules are named as text and imported when they are asked for.
"""

from __future__ import annotations

import ast
import importlib
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from ..pairing.matching import OptimalMatching
from ..runtime.checks import check_type, shown
from .base import Mixer
from .beta import Beta


@dataclass(frozen=True)
class Entry:
    """A mixer: ``path`` is its module in this folder and its class, ``page`` its page in docs/mixers and its picture.

    ``arguments`` are those of its examples, as they are written in a call, the usual ones first; ``pictured`` those of the
    picture.
    """

    path: str
    arguments: tuple[str, ...] = ("",)
    pictured: str = "1.0"

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.path.rsplit(".", 1)[1]

    @property
    def page(self) -> str:
        """docs/mixers/<page>.md, docs/pictures/<page>.jpg."""
        return self.name.lower()

    @property
    def kind(self) -> type[Mixer]:
        """The class, imported now."""
        module = importlib.import_module(f".{self.path.rsplit('.', 1)[0]}", __package__)
        found: type[Mixer] = getattr(module, self.name)
        return found

    def examples(self) -> dict[str, Mixer]:
        """Examples by the text that makes them."""
        return {text: _call(text) for text in (f"{self.name}({arguments})" for arguments in self.arguments)}

    def picture(self) -> Mixer:
        """What its picture shows."""
        return _call(f"{self.name}({self.pictured})")


_SWITCHED = (
    "[MixUp(), CutMix(), GMix()], [1, 2, 1]",
    "[FMix(), GMix()]",
    "[ZetaMixUp(), CutMix()]",
    "[ResizeMix(), HMix()]",
    "[RecursiveMix(), MixUp()]",
)
REGISTRY = (
    Entry("mixup.MixUp"),
    Entry("cutmix.CutMix", ("", "centre='saliency'")),
    Entry("hmix.HMix", ("", "r=0", "r=1.0", "r=Beta(0.5)", "convention='paper'", "r=1, convention='paper'"), "1.0, r=0.75"),
    Entry("gmix.GMix", ("", "convention='paper'")),
    Entry("fmix.FMix"),
    Entry("resizemix.ResizeMix", ("",), "(0.5, 0.8)"),
    Entry("recursive.RecursiveMix", ("",), "0.5"),
    Entry("multi.zeta.ZetaMixUp", ("", "ranks=3"), "1.8"),
    Entry("multi.dirichlet.DirichletMixUp", ("", "sources=2")),
    Entry("saliency.puzzle.PuzzleMix", ("", "transport=False", "saliency='spectral'")),
    Entry("saliency.co_mixup.CoMixUp", ("saliency='spectral'", ""), "saliency='spectral'"),
    Entry("switch.Switch", _SWITCHED, "[MixUp(1.0), CutMix(1.0)]"),
)
_OTHERS: dict[str, Any] = {"OptimalMatching": OptimalMatching, "Beta": Beta}  # what stands in a mixer's arguments


def examples(given: Collection[str] = ()) -> tuple[Mixer, ...]:
    """The usual example of each mixer that needs no more than ``given`` (of "images" and "saliency")."""
    usual = (next(iter(entry.examples().values())) for entry in REGISTRY)
    return tuple(mixer for mixer in usual if mixer.needs <= set(given))


def pictures(given: Collection[str] = ()) -> tuple[Mixer, ...]:
    """What the picture of each mixer shows that needs no more than ``given``."""
    return tuple(mixer for entry in REGISTRY if (mixer := entry.picture()).needs <= set(given))


def parse_mixer(text: str) -> Mixer | None:
    """The mixer that ``text`` says, a name such as "HMix" or a call such as "Switch([MixUp(0.8), CutMix()])".

    "none" is None: no mixing. Only calls with literal arguments are read; nothing is evaluated. Raises ``ValueError`` with
    the names that are known.
    """
    check_type("text", text, str, "the text of a mixer, such as 'HMix(alpha=1, r=0.75)'")
    return None if text.strip().lower() == "none" else _call(text)


def _call(text: str) -> Mixer:
    try:
        mixer = _called(_value(ast.parse(text.strip(), mode="eval").body))
    except (SyntaxError, TypeError, UnicodeError, RecursionError, MemoryError) as error:
        raise ValueError(f"text must read like 'HMix(alpha=1, r=0.75)', got {shown(text)}: {error}") from error
    if not isinstance(mixer, Mixer):
        raise ValueError(f"text must be one of {_names()} or none, got {shown(text)}")
    return mixer


def _value(node: ast.expr) -> Any:
    if isinstance(node, ast.Name):
        if node.id in _OTHERS:
            return _OTHERS[node.id]
        found = [entry for entry in REGISTRY if entry.name == node.id]
        if not found:
            raise ValueError(f"text must be one of {_names()} or none, got {shown(node.id)}")
        return found[0].kind
    if isinstance(node, ast.Call):
        keywords = {keyword.arg: _value(keyword.value) for keyword in node.keywords if keyword.arg is not None}
        return _value(node.func)(*[_value(arg) for arg in node.args], **keywords)
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_called(_value(item)) for item in node.elts]
    return ast.literal_eval(node)


def _called(value: Any) -> Any:
    """A bare name is a call without arguments."""
    return value() if isinstance(value, type) else value


def _names() -> str:
    return ", ".join(entry.name for entry in REGISTRY)
