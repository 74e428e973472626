"""Mixed-sample augmentation as a stage of the image loader: ``from mixstage import ImageLoader, HMix``.

Holds every public name of ``mixops`` and ``loaders``, each imported on first use; importing ``mixstage`` loads no backend.
In an installation the three packages lie in here. In a checkout they lie beside this folder and are the same modules under
both names (``checkout.py``).
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
_PACKAGES = ("mixops", "pipelines", "loaders")

if not Path(__file__).with_name("mixops").is_dir():
    from .checkout import name_packages

    name_packages(__name__, _PACKAGES)

if TYPE_CHECKING:
    from . import loaders as loaders
    from . import mixops as mixops
    from . import pipelines as pipelines
    from .loaders import *
    from .mixops import *
else:

    def __getattr__(name: str) -> Any:
        if name in _PACKAGES:
            return importlib.import_module(f"{__name__}.{name}")
        if name == "__all__":
            return sorted({*_PACKAGES, *_names("mixops"), *_names("loaders")})
        for package in ("loaders", "mixops") if not name.startswith("_") else ():
            if name in _names(package):
                globals()[name] = getattr(importlib.import_module(f"{__name__}.{package}"), name)
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return [*__getattr__("__all__"), "__version__"]

    def _names(package: str) -> list[str]:
        """The public names of a package; that of ``loaders`` is asked first because it imports nothing for them."""
        return importlib.import_module(f"{__name__}.{package}").__all__
