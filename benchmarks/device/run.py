"""How large everything is, on what device, for how long: the one argument of every part.

``tiny`` is a trial without a device: the same code on the CPU, Triton's kernels interpreted, at sizes that take seconds.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch

from loaders.bench.measure import Report
from loaders.bench.peers import Setting
from loaders.processors import usable_processors

Stem = str
Reports = Iterator[tuple[Stem, Report]]
"""Tables by the name of their file, each as far as it has come; later ones of a name replace earlier ones."""


@dataclass(frozen=True)
class Run:
    """``images`` are photographs, a folder of class folders or a tar file of one; synthetic ones by default.

    ``scratch`` is an empty folder. ``seconds`` is how long a part may take in all.
    """

    save: Path
    scratch: Path
    images: Path | None = None
    seconds: float = 200.0
    tiny: bool = False
    began: float = field(default_factory=time.monotonic)

    @property
    def device(self) -> torch.device:
        """Where everything runs."""
        return torch.device("cpu" if self.tiny else "cuda")

    @property
    def rounds(self) -> int:
        """Alternated rounds, where there is time for them."""
        return 1 if self.tiny else 9

    @property
    def size(self) -> int:
        """The side of an image in pixels."""
        return 16 if self.tiny else 224

    def left(self, share: float = 1.0) -> float:
        """The seconds until ``share`` of the time is over."""
        return self.began + share * self.seconds - time.monotonic()

    def setting(self, batch_size: int, batches: int) -> Setting:
        """What loaders are given: an epoch of ``batches`` batches of photographs."""
        from .photographs import repeated

        folder = repeated(self.images, batch_size * batches, self.scratch, 64 if self.tiny else 1536)
        threads = 1 if self.tiny else usable_processors()
        return Setting(folder, self.scratch / "none.beton", batch_size, self.size, threads, self.device.type)
