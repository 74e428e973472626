"""Rank and world size: arguments, else ``torch.distributed`` once it is initialised, else one process alone."""

from __future__ import annotations

import logging
import os

from mixops.runtime.ranks import process_group

_log = logging.getLogger("mixstage")


def find_rank(rank: int | None, world_size: int | None) -> tuple[int, int]:
    """(rank, world size). Raises ``ValueError`` where arguments are impossible or disagree with ``torch.distributed``."""
    if world_size is not None and world_size < 1:
        raise ValueError(f"world_size must be at least 1, got {world_size}")
    if (rank is None) != (world_size is None):
        raise ValueError(f"rank and world_size must be given together, got rank={rank}, world_size={world_size}")
    if rank is not None and world_size is not None and not 0 <= rank < world_size:
        raise ValueError(f"rank must be in [0, {world_size}), got {rank}")
    group = process_group()
    if rank is not None and world_size is not None:
        if group not in (None, (rank, world_size)):
            raise ValueError(
                f"rank and world_size must agree with torch.distributed, which has {group}, got {(rank, world_size)}"
            )
        return rank, world_size
    if group is not None:
        return group
    return 0, 1


def warn_if_alone(world_size: int) -> None:
    """Warn if a launcher started several processes and this one knows of no others."""
    launched = os.environ.get("WORLD_SIZE", "1")
    if world_size == 1 and launched not in ("", "1") and process_group() is None:
        _log.warning(
            "WORLD_SIZE is %s but torch.distributed is not initialised and no rank is given: each process loads all data",
            launched,
        )
