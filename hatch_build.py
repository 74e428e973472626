"""Builds the wheel: one package, ``mixstage``, that holds the three folders of the checkout.

    mixops/key.py                 ->  mixstage/mixops/key.py
    from mixops.key import Key    ->  from mixstage.mixops.key import Key

so that nothing of ours stands at the top of site-packages, where somebody else's ``loaders`` or ``pipelines`` may be. Lines
stay where they are. An editable installation is the checkout itself; nothing is rewritten for it.

The README becomes the page of a package index, where a link to a file of the checkout leads nowhere: it becomes one to that
file at the project's home.
"""

from __future__ import annotations

import ast
import io
import itertools
import re
import shutil
import tempfile
import tokenize
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface
from hatchling.metadata.plugin.interface import MetadataHookInterface

PACKAGES = ("mixops", "pipelines", "loaders")
_ANY = "|".join(PACKAGES)
_FROM = re.compile(rf"\b(from )({_ANY})(?=[\w.]* import\b)")  # in code, in examples of docstrings, in code for a subprocess
_PLAIN = re.compile(rf"^([ ]*)import ({_ANY})$", re.MULTILINE)
_LINK = re.compile(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)\s]+)\)")  # to a file of the checkout
_DOTTED = re.compile(rf"(?<![\w./])({_ANY})\.([a-zA-Z]\w*)")


class CustomBuildHook(BuildHookInterface):  # type: ignore[misc]
    """Gives the rewritten files to the wheel."""

    _scratch: Path | None = None

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":
            return
        root, self._scratch = Path(self.root), Path(tempfile.mkdtemp())
        for package in PACKAGES:
            write(root / package, self._scratch / package, root)
            build_data["force_include"][str(self._scratch / package)] = f"mixstage/{package}"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if self._scratch is not None:
            shutil.rmtree(self._scratch)


class CustomMetadataHook(MetadataHookInterface):  # type: ignore[misc]
    """Gives the package its page."""

    def update(self, metadata: dict[str, Any]) -> None:
        text = (Path(self.root) / "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": index_page(text, metadata["urls"]["Homepage"])}


def index_page(text: str, home: str) -> str:
    """A page whose links and pictures lead to the files at ``home``."""

    def link(match: re.Match[str]) -> str:
        picture, label, target = match.groups()
        return f"{picture}[{label}]({home}/{'raw' if picture else 'blob'}/main/{target})"

    return _LINK.sub(link, text)


def write(source: Path, target: Path, root: Path) -> None:
    """Copy a folder of modules from the checkout at ``root``, with the names that they have in the wheel."""
    names = public_names(root)
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        if path.suffix == ".py":
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_text(rewrite(path.read_text(encoding="utf-8"), names, str(path)), encoding="utf-8")
        elif path.name == "py.typed":
            shutil.copy(path, copy)


def public_names(root: Path) -> set[str]:
    """What may follow ``mixops.`` in a text that means the package: its modules and what its face imports or defines."""
    names = set()
    for package in PACKAGES:
        face = ast.parse((root / package / "__init__.py").read_text(encoding="utf-8"))
        words = {alias.asname or alias.name for node in ast.walk(face) for alias in getattr(node, "names", ())}
        modules = {path.stem for path in (root / package).iterdir() if path.suffix == ".py" or path.is_dir()}
        names |= {f"{package}.{word}" for word in words | modules}
    return names


def rewrite(source: str, names: set[str], file: str = "source") -> str:
    """A module's text with ``mixstage.`` before each of the packages, in imports, strings and comments.

    Raises ``ValueError`` where a package would still be imported by its own name: write ``from package import ...``.
    """
    for start, end in reversed(list(_texts(source))):  # from the end, so that places stay right
        text = _DOTTED.sub(lambda match: f"mixstage.{match[0]}" if match[0] in names else match[0], source[start:end])
        source = source[:start] + text + source[end:]
    done = _PLAIN.sub(r"\1from mixstage import \2", _FROM.sub(r"\1mixstage.\2", source))
    for node in ast.walk(ast.parse(done, file)):
        modules = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        modules += [node.module or ""] if isinstance(node, ast.ImportFrom) and not node.level else []
        if any(module.split(".")[0] in PACKAGES for module in modules):
            raise ValueError(f"{file}:{node.lineno}: must be written `from package import name`, got {ast.unparse(node)!r}")
        if isinstance(node, ast.Name) and node.id == "mixstage":
            raise ValueError(f"{file}:{node.lineno}: must not use a package's name for something else within an f-string")
    return done


def _texts(source: str) -> Iterator[tuple[int, int]]:
    """Where each string and each comment begins and ends."""
    kinds = {tokenize.STRING, tokenize.COMMENT, getattr(tokenize, "FSTRING_MIDDLE", tokenize.STRING)}
    lines = [0, *itertools.accumulate(map(len, source.splitlines(keepends=True)))]
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in kinds:
            yield lines[token.start[0] - 1] + token.start[1], lines[token.end[0] - 1] + token.end[1]
