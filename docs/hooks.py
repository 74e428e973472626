"""Hooks of mkdocs: the site is built from the files that are read in the repository, links and reference made to fit.

../examples/imagenet/README.md  ->  that file at the project's home
![...](../benchmarks/x.png)     ->  a copy in the site, which asks nothing of other machines
api.md                          ->  a directive of mkdocstrings for each public name
"""

import importlib.util
import posixpath
import re
import sys
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

_HERE = Path(__file__).parent
_IMAGE = re.compile(r"(!\[[^\]]*\]\()(?![a-z]+:|#)([^)\s#]+)")
_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)")


def on_config(config: Any) -> Any:
    """Pages that other people add are found: ``mixers/*`` of the contents, and whatever the contents leave out."""
    pages = sorted(path.relative_to(_HERE).as_posix() for path in _HERE.rglob("*.md"))
    written = {name for name in _names(config.nav) if "*" not in name}
    for group in config.nav:
        for title, entries in group.items() if isinstance(group, dict) else ():
            group[title] = [page for entry in entries for page in _expand(entry, pages, written)]
    rest = [page for page in pages if page not in set(_names(config.nav))]
    config.nav += [{"More": rest}] if rest else []
    return config


def _expand(entry: str, pages: list[str], written: set[str]) -> list[str]:
    if not entry.endswith("/*"):
        return [entry]
    return [page for page in pages if page.startswith(entry[:-1]) and page not in written]


def _names(nav: Any) -> list[str]:
    if isinstance(nav, str):
        return [nav]
    return [name for entry in (nav.values() if isinstance(nav, dict) else nav) for name in _names(entry)]


def on_page_markdown(markdown: str, *, page: Any, config: Any, files: Any) -> str:
    """The text of a page as the site has it."""
    if page.file.src_uri == "api.md":
        return reference()
    folder = posixpath.dirname(page.file.src_uri)

    def inside(link: str) -> str:
        return posixpath.normpath(posixpath.join("docs", folder, link))

    def shown(match: re.Match[str]) -> str:
        target = inside(match[2])
        if target.startswith("docs/"):
            return match[0]
        if target not in files.src_uris:  # a place of its own: names of two folders may be the same
            files.append(File.generated(config, target, abs_src_path=str(_HERE.parent / target)))
        return match[1] + posixpath.relpath(target, folder or ".")

    def outside(match: re.Match[str]) -> str:
        target = inside(match[1])
        if target.startswith("docs/") and not target.endswith(".py"):
            return match[1]
        kind = "tree" if (_HERE.parent / target).is_dir() else "blob"
        return f"{config.extra['home']}/{kind}/main/{target}"

    return _LINK.sub(outside, _IMAGE.sub(shown, markdown))


def reference() -> str:
    """The reference: the same names as in docs/api.md, by mkdocstrings."""
    spec = importlib.util.spec_from_file_location("api", _HERE / "api.py")
    assert spec is not None and spec.loader is not None
    api = sys.modules.setdefault("api", importlib.util.module_from_spec(spec))
    spec.loader.exec_module(api)
    loader = api.load()
    lines = ["# API reference", "", "`from mixstage import ImageLoader, HMix`: the names of mixops and loaders.", ""]
    for module in api.MODULES:
        lines += [f"## mixstage.{module}", "", api.text(loader.modules_collection[module]), ""]
        for thing in api.public(loader, module).values():
            lines += [f"::: {thing.path}", ""]
    return "\n".join(lines)
