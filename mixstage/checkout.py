"""In a checkout ``mixstage.mixops`` is ``mixops``, and so on: one module under two names, never a second copy.

    mixstage.loaders.sources  ->  importlib.import_module("loaders.sources")

so that classes are identical and pickles load whichever name they were imported by. Packages called ``loaders`` or
``pipelines`` are common: one that stands in the place of ours is an error here, not at the first batch. The wheel has no
such file: there the packages lie inside ``mixstage`` and collide with nothing.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

ROOT = Path(__file__).resolve().parents[1]


def name_packages(parent: str, packages: Sequence[str]) -> None:
    """Make each of ``packages``, and all in it, importable as ``parent.package``.

    Raises ``ImportError`` naming the file that is imported in the place of one of them.
    """
    for package in packages:
        found = _place(package)
        if found is None or found.resolve() not in (ROOT / package, ROOT / package / "__init__.py"):
            raise ImportError(
                f"{package} must be {ROOT / package}, got {found or 'no such package'}: rename that file or folder, or "
                "install mixstage instead of using its checkout; what is installed is called mixstage alone"
            )
    sys.meta_path.insert(0, _SecondNames(parent, tuple(packages)))


def _place(package: str) -> Path | None:
    """The file, or the folder without ``__init__.py``, that is or would be imported as ``package``."""
    module = sys.modules.get(package)
    if module is not None:
        places = [getattr(module, "__file__", None), *getattr(module, "__path__", [])]
    else:
        spec = importlib.util.find_spec(package)
        places = [] if spec is None else [spec.origin, *(spec.submodule_search_locations or [])]
    return next((Path(place) for place in places if place is not None), None)


class _SecondNames(MetaPathFinder, Loader):
    """Finds ``parent.package.x`` as the module ``package.x``."""

    def __init__(self, parent: str, packages: tuple[str, ...]) -> None:
        self._prefix, self._packages = f"{parent}.", packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        name = fullname.removeprefix(self._prefix)
        if name == fullname or name.partition(".")[0] not in self._packages:
            return None
        found = importlib.util.find_spec(name)
        if found is None:
            return None
        return ModuleSpec(fullname, self, origin=found.origin, is_package=found.submodule_search_locations is not None)

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(spec.name.removeprefix(self._prefix))
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """It ran under its own name; the import system has just given it the spec of the second one."""
        module.__spec__ = getattr(module.__spec__, "loader_state", None)

    def get_code(self, fullname: str) -> CodeType | None:
        """For ``python -m``."""
        name = fullname.removeprefix(self._prefix)
        spec = importlib.util.find_spec(name)
        code: CodeType | None = spec.loader.get_code(name) if spec is not None and spec.loader is not None else None  # type: ignore[attr-defined]
        return code
