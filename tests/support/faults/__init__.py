"""The faults that ``tests.support.mutants`` plants, a file for each package.

A fault that only a slow or a GPU test could catch does not belong here.
"""

from . import augment, loaders, mixops, offline, pipelines, sources
from .base import Fault

FAULTS: tuple[Fault, ...] = (
    *mixops.FAULTS, *offline.FAULTS, *augment.FAULTS, *pipelines.FAULTS, *loaders.FAULTS, *sources.FAULTS,
)  # fmt: skip

__all__ = ["FAULTS", "Fault"]
