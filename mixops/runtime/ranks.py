"""Which of several training processes this one is: one rule for all who ask.

``torch.distributed`` says so once it is initialised. A DataLoader worker that was not forked from an initialised process
has only the environment variable RANK, which launchers set.
"""

from __future__ import annotations

import os


def process_group() -> tuple[int, int] | None:
    """(rank, world size) of ``torch.distributed``, None where it is not initialised."""
    from torch import distributed

    if not (distributed.is_available() and distributed.is_initialized()):
        return None
    return distributed.get_rank(), distributed.get_world_size()


def launched_rank() -> int:
    """The rank in ``process_group``, else the one that a launcher says, else 0."""
    group = process_group()
    return int(os.environ.get("RANK", 0)) if group is None else group[0]
