"""What a backend is: decodes, crops, resizes and flips what a draw says, and nothing else.

    Recipe.draw(epoch, step)  ->  [ backend ]  ->  uint8 (b, h, w, 3) + ids  ->  mix, normalise, cast, targets (ImageLoader)

A backend draws nothing and knows no labels. It keeps no position: ``open(epoch, step)`` starts anywhere. It runs in a
thread of the loader, one step after the other, and may work ahead of what was taken from it.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Generator
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Protocol

import numpy as np
from jaxtyping import Int64, UInt8

from ..bad_files import BadFiles
from ..sources.folder import Index
from ..step import Recipe

if TYPE_CHECKING:
    import torch
    from torch import Tensor


@dataclass(frozen=True, eq=False)
class Job:
    """What a backend needs to know, fixed for its life.

    ``recipe.draw(epoch, step, bad=bad.known)`` says what to show. A backend that finds a sample bad puts id and reason into
    ``bad.known`` and draws the step anew. ``height`` and ``width`` are those of the output. ``stream`` is the loader's
    own CUDA stream, current while the backend runs, and ``None`` on the CPU. ``prefetch`` is the number of steps to work
    ahead, ``timeout`` the seconds after which a wait must become a ``TimeoutError`` that says what was waited for.
    """

    index: Index
    recipe: Recipe
    bad: BadFiles
    height: int
    width: int
    device: torch.device
    stream: torch.cuda.Stream | None
    num_threads: int
    prefetch: int
    timeout: float


@dataclass(frozen=True, eq=False)
class RawBatch:
    """One step as decoded: NHWC contiguous, on the CPU or on the job's device, and then ready on the job's stream.

    The memory must stay as it is for as long as ``images`` is referenced. ``rejected`` is that of the draw.
    """

    images: UInt8[Tensor, "b h w 3"]
    ids: Int64[np.ndarray, " b"]
    rejected: tuple[int, ...]


class Backend(Protocol):
    """Executes draws. A class in a module of the backend's name, which is imported on first use."""

    eager: bool  # whether images are blended by plain torch, as a reference

    def __init__(self, job: Job) -> None: ...

    @staticmethod
    def read_index(root: str | PathLike[str]) -> Index:
        """The samples under ``root``; ``ValueError`` where there are none."""
        ...

    def open(self, epoch: int, step: int) -> Generator[RawBatch, None, None]:
        """The steps ``step``, ``step + 1``, ... of an epoch to its end.

        A generator: closing it, at any point, ends its threads and drops what was worked ahead.
        """
        ...

    def close(self) -> None:
        """Give back everything that outlives an epoch; may be called twice."""
        ...


_BACKENDS = {  # name: (class, what it needs, extra that installs it)
    "dali": ("Dali", "nvidia.dali", "dali"),
    "ffcv": ("Ffcv", "ffcv", "ffcv"),
    "torchvision": ("Torchvision", "torchvision", "bench"),
}


def find_backend(name: str) -> type[Backend]:
    """The backend class of a name.

    Raises ``ValueError`` for an unknown name and ``ImportError`` with the install line for one that is not installed.
    """
    if name not in _BACKENDS:
        raise ValueError(f"backend must be one of {', '.join(map(repr, _BACKENDS))}, got {name!r}")
    kind, needs, extra = _BACKENDS[name]
    if not _installed(needs):
        raise ImportError(f"backend={name!r} needs {needs}: pip install 'mixstage[{extra}]'")
    backend: type[Backend] = getattr(importlib.import_module(f".{name}", __package__), kind)
    return backend


def _installed(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError):  # no parent package, or blocked
        return False
