"""The faults that ``tests.support.mutants`` plants, a file for each package.

A fault that only a slow or a GPU test could catch does not belong here.
"""

from . import augment, loaders, mixops, pipelines, sources
from .base import Fault

FAULTS: tuple[Fault, ...] = (*mixops.FAULTS, *augment.FAULTS, *pipelines.FAULTS, *loaders.FAULTS, *sources.FAULTS)

__all__ = ["FAULTS", "Fault"]
