"""Writes docs/api.md: every public name with its signature and docstring.

python docs/api.py            write it
python docs/api.py --check    exit code 1 if it is not up to date
"""

import importlib
import inspect
import re
import sys
from pathlib import Path

MODULES = ("mixops", "mixops.measures", "loaders", "pipelines.dali")
FFCV = "pipelines.ffcv"  # importing it needs FFCV, so it is left to its docstrings
FILE = Path(__file__).with_name("api.md")


def describe(name: str, thing: object, level: int) -> list[str]:
    """Heading, signature and docstring of a name, and of the public methods of a class."""
    lines = [f"{'#' * level} `{name.rsplit('.', 1)[-1]}`", ""]
    if inspect.isclass(thing) or callable(thing):
        lines += ["```text", signature(name.rsplit(".", 1)[-1], thing), "```", ""]
    lines += [inspect.getdoc(thing) or "", ""]
    if inspect.isclass(thing):
        for key, member in vars(thing).items():
            if key.startswith("_") or not inspect.getdoc(member):
                continue
            if isinstance(member, property):
                lines += [f"**`{key}`** {' '.join((inspect.getdoc(member) or '').split())}", ""]
            elif inspect.isfunction(member) or isinstance(member, (classmethod, staticmethod)):
                function = member.__func__ if isinstance(member, (classmethod, staticmethod)) else member
                lines += [f"**`{signature(key, function)}`**", "", inspect.getdoc(function) or "", ""]
    return lines


def signature(name: str, thing: object) -> str:
    """The call as text, without types that only readers of the code need."""
    try:
        found = inspect.signature(thing)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return name
    parameters = [p.replace(annotation=p.empty) for p in found.parameters.values() if p.name != "self"]
    text = str(found.replace(parameters=parameters, return_annotation=found.empty))
    return name + re.sub(r"<(?:function )?([\w.]+)(?: object)? at 0x[0-9a-f]+>", r"\1", text)


def page() -> str:
    """The whole page."""
    lines = ["# API reference", "", "Made from the docstrings by `python docs/api.py`.", ""]
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines += [f"## {module_name}", "", inspect.getdoc(module) or "", ""]
        for name in module.__all__:
            lines += describe(f"{module_name}.{name}", getattr(module, name), 3)
    lines += [f"`{FFCV}` holds `MixLoader`, `MixImage` and `MixLabel`: see [moving from FFCV](moving-from-ffcv.md).", ""]
    text = "\n".join(lines)
    return re.sub(r"\n{3,}", "\n\n", text)


if __name__ == "__main__":
    if "--check" in sys.argv:
        sys.exit(int(FILE.read_text() != page()))
    FILE.write_text(page())
