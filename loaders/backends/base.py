"""What a backend is: reads, decodes, crops, resizes and flips what a step's plan says, and nothing else.

    StepPlanner.draw(epoch, step)  ->  [ backend ]  ->  Decoded: uint8 (b, h, w, 3) + plan  ->  mix, normalise, cast, targets

A backend draws nothing and knows no labels. It keeps no position: ``open(epoch, step)`` starts anywhere. It runs in a
thread of the loader, one step after the other, and may work ahead of what was taken from it. The pixels are worked on by an
executor of ``pipelines``; the backend's own part is what is read ahead and what becomes of bad files.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from jaxtyping import UInt8

from mixops.augment.plan import AugmentPlan
from mixops.runtime.checks import check_choice

from ..bad_files import BadFiles
from ..sources.base import Opened
from ..step import StepPlan, StepPlanner

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class BackendConfig:
    """What a backend needs to know, fixed for its life.

    ``planner.draw(epoch, step, bad=bad.known)`` says what to show. A backend that finds a sample bad puts id and reason
    into ``bad.known`` and has the step drawn anew. ``stream`` is the loader's own CUDA stream, current while the backend
    runs, and ``None`` on the CPU. ``prefetch`` is the number of steps to work ahead, ``timeout`` the seconds after which a
    wait must become a ``TimeoutError`` that says what was waited for.
    """

    source: Opened
    planner: StepPlanner
    bad: BadFiles
    device: torch.device
    stream: torch.cuda.Stream | None
    num_threads: int
    prefetch: int
    timeout: float

    @property
    def augments_on_device(self) -> bool:
        """Whether images are augmented on the loader's CUDA stream, behind the backend, and not on the CPU by it."""
        return self.device.type == "cuda" and is_installed("triton")


@dataclass(frozen=True, eq=False)
class Decoded:
    """One step as decoded: NHWC contiguous, on the CPU or on the config's device, and then ready on the config's stream.

    ``augment`` is what is left to be done to them, on their way to the mix. ``more`` are images and augmentation of the
    batches after the first in ``plan.shown``. The memory must stay as it is for as long as ``images`` is referenced.
    """

    images: UInt8[Tensor, "b h w 3"]
    plan: StepPlan
    augment: AugmentPlan | None = None
    more: tuple[tuple[UInt8[Tensor, "n h w 3"], AugmentPlan | None], ...] = ()


class Backend(Protocol):
    """Executes plans. A class in a module of the backend's name, which is imported on first use."""

    eager: bool  # whether images are blended by plain torch, as a reference
    scales: bool  # whether it decodes at a fraction of the size, for ``decode="fast"``

    def __init__(self, config: BackendConfig) -> None: ...

    def open(self, epoch: int, step: int) -> Generator[Decoded, None, None]:
        """The steps ``step``, ``step + 1``, ... of an epoch to its end.

        A generator: closing it, at any point, ends its threads and drops what was worked ahead.
        """
        ...

    def close(self) -> None:
        """Give back everything that outlives an epoch; may be called twice."""
        ...


_BACKENDS = {  # name: (class, what it needs, what installs it)
    "dali": ("Dali", "nvidia.dali", "'mixstage[dali]'"),
    "ffcv": ("Ffcv", "ffcv", "'mixstage[ffcv]'"),
    "torchvision": ("Torchvision", "PIL", "pillow"),
}
BACKENDS = tuple(_BACKENDS)


def find_backend(name: str, decode: str = "exact") -> type[Backend]:
    """The backend class of a name, which can decode as ``decode`` says: "exact" or "fast".

    Raises ``ValueError`` for an unknown name and ``ImportError`` with the install line for one that is not installed.
    """
    check_choice("backend", name, tuple(_BACKENDS))
    check_choice("decode", decode, ("exact", "fast"))
    kind, needs, package = _BACKENDS[name]
    if not is_installed(needs):
        others = [other for other, (_, module, _) in _BACKENDS.items() if is_installed(module)]
        instead = f"; or take backend={' or '.join(map(repr, others))}, which this machine has" if others else ""
        raise ImportError(f"backend={name!r} needs {needs}: pip install {package}{instead}")
    backend: type[Backend] = getattr(importlib.import_module(f".{name}", __package__), kind)
    if decode == "fast" and not backend.scales:
        raise ValueError(
            f"decode must be 'exact' for backend={name!r}, whose decoder makes images of full size only, got {decode!r}; "
            "backend='ffcv' and 'torchvision' have libjpeg's scaled inverse transform"
        )
    return backend


def is_installed(module: str) -> bool:
    """Whether a module can be found, without importing more than its parent."""
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # no parent package, or blocked
        return False
