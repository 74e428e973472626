"""Writes docs/api.md: every public name with its signature, types and docstring, read from the source by griffe.

python docs/api.py            write it
python docs/api.py --check    exit code 1 if it is not up to date

Nothing is imported, so that neither DALI nor FFCV has to be installed.
"""

import re
import sys
from pathlib import Path

import griffe

ROOT = Path(__file__).resolve().parents[1]
MODULES = (
    "mixops",
    "loaders",
    "pipelines.dali",
    "pipelines.ffcv",
    "loaders.sources",
    "mixops.mixers.timm",
    "mixops.offline",
    "mixops.measures",
)
FILE = Path(__file__).with_name("api.md")
WIDTH = 110
_HEAD = f"""# API reference

Made from the docstrings by `python docs/api.py`. What is in `mixops` and `loaders` is in `mixstage` itself:
`from mixstage import ImageLoader, HMix`. The others are `from mixstage.{MODULES[2]} import mix` and so on.
"""


def load() -> griffe.GriffeLoader:
    """The source of the packages."""
    loader = griffe.GriffeLoader(search_paths=[ROOT])
    for name in {module.split(".")[0] for module in MODULES}:
        loader.load(name)
    loader.resolve_aliases()
    return loader


def public(loader: griffe.GriffeLoader, module: str) -> dict[str, griffe.Object]:
    """What ``module`` names in its ``__all__``, by name."""
    face = loader.modules_collection[module]
    members = {str(name): face.members[str(name)] for name in face.exports or ()}
    return {name: member.final_target if member.is_alias else member for name, member in members.items()}


def describe(name: str, thing: griffe.Object) -> list[str]:
    """Heading, signature and docstring of a name, and of a class's own public members; names of inherited ones."""
    lines = [f"### `{name}`", ""]
    if isinstance(thing, (griffe.Class, griffe.Function)):
        lines += ["```py", signature(name, thing), "```", ""]
    lines += [text(thing), ""]
    if not isinstance(thing, griffe.Class):
        return lines
    for key, member in methods(thing).items():
        if isinstance(member, griffe.Attribute):
            kind = "" if member.annotation is None else f": {member.annotation}"
            lines += [f"**`{key}{kind}`** {' '.join(text(member).split())}", ""]
        else:
            lines += ["```py", signature(f"{name}.{key}", member), "```", "", text(member), ""]
    for base in bases(thing):
        names = [f"`{key}`" for key in methods(base) if key not in thing.members]
        lines += [f"From [`{base.name}`](#{base.name.lower()}): {', '.join(names)}.", ""] if names else []
    return lines


def methods(thing: griffe.Class) -> dict[str, griffe.Object]:
    """The class's own public members that have a docstring, and how it is called."""
    members = {key: member for key, member in thing.members.items() if not member.is_alias and text(member)}
    return {key: member for key, member in members.items() if key == "__call__" or not key.startswith("_")}


def bases(thing: griffe.Class) -> list[griffe.Class]:
    """The classes of ours that it inherits from, the nearest first."""
    return [base for base in thing.mro() if isinstance(base, griffe.Class)]


def signature(name: str, thing: griffe.Class | griffe.Function) -> str:
    """The call with its types, a parameter a line where it is long."""
    call = re.sub(r"\((?:self|cls)(?:, )?", "(", str(thing.signature(name=name)), count=1)
    if isinstance(thing, griffe.Class) and not thing.parameters:
        return name
    if len(call) <= WIDTH:
        return call
    start = call.index("(") + 1
    end = call.rindex(")", start, call.rindex(" -> ") if " -> " in call else None)
    parameters, depth, last = [], 0, start
    for place in range(start, end):
        depth += {"[": 1, "(": 1, "{": 1, "]": -1, ")": -1, "}": -1}.get(call[place], 0)
        if call[place] == "," and not depth:
            parameters.append(call[last:place].strip())
            last = place + 1
    body = ",\n    ".join([*parameters, call[last:end].strip()])
    return f"{call[:start]}\n    {body},\n{call[end:]}"


def text(thing: griffe.Object) -> str:
    """Its docstring."""
    return thing.docstring.value if thing.docstring is not None else ""


def page() -> str:
    """The whole page."""
    loader = load()
    lines = [_HEAD]
    for module in MODULES:
        lines += [f"## mixstage.{module}", "", text(loader.modules_collection[module]), ""]
        named = public(loader, module)
        for thing in list(named.values()):  # what they inherit is said once, behind them
            named |= {base.name: base for base in bases(thing) if methods(base)} if isinstance(thing, griffe.Class) else {}
        for name, thing in named.items():
            lines += describe(name, thing)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).rstrip() + "\n"


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(int(FILE.read_text() != page()))
    FILE.write_text(page())
