"""What the arguments of ``MixLoader`` must be; FFCV itself hands many of them to compiled code as they are."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from ffcv.loader.loader import OrderOption
from ffcv.pipeline import PipelineSpec
from ffcv.traversal_order.base import TraversalOrder
from numba import config

from mixops.key import Key
from mixops.mixers.base import Mixer
from mixops.mixers.needs import refuse_needs
from mixops.runtime.checks import check_count, check_flag, check_type, shown
from mixops.runtime.ranks import process_group


def check_arguments(
    *, fname: Any, batch_size: Any, num_workers: Any, order: Any, seed: Any, pipelines: Any, custom_fields: Any,
    batches_ahead: Any, mixer: Any, rank: Any, **flags: Any,
) -> None:  # fmt: skip
    """Raises ``TypeError`` or ``ValueError`` naming the argument."""
    check_path(fname)
    check_count("batch_size", batch_size)
    check_count("batches_ahead", batches_ahead, 1, 4096)
    most = config.NUMBA_NUM_THREADS
    if check_count("num_workers", num_workers, -1) > most:
        raise ValueError(f"num_workers must be at most {most}, the processors that numba found, got {num_workers}")
    if not isinstance(order, OrderOption) and not (isinstance(order, type) and issubclass(order, TraversalOrder)):
        raise TypeError(f"order must be one of FFCV's OrderOption or a class of TraversalOrder, got {shown(order)}")
    Key(0 if seed is None else check_count("seed", seed, 0, 2**32 - 1))  # NumPy's generators in FFCV take no larger one
    if rank is not None:
        check_count("rank", rank, 0)
    for name, value in flags.items():
        check_flag(name, value)
    if flags["distributed"] and process_group() is None:
        raise ValueError("distributed must be False before torch.distributed is initialised, got True")
    for name, value in (("pipelines", pipelines), ("custom_fields", custom_fields)):
        if value is not None:
            check_type(name, value, Mapping, "a mapping from the names of fields")
    for name, spec in (pipelines or {}).items():
        if spec is not None:
            check_type(f"pipelines[{name!r}]", spec, (Sequence, PipelineSpec), "a list of stages or None")
    if mixer is not None:
        check_type("mixer", mixer, Mixer, "a mixer or None")
    refuse_needs(mixer, {"images"}, "an FFCV loader")


def check_path(fname: Any) -> None:
    """Raises unless ``fname`` is something that the system takes for a path."""
    check_type("fname", fname, (str, os.PathLike), "the path of a .beton file")
    try:
        os.fsencode(fname)
    except UnicodeEncodeError as error:
        raise ValueError(f"fname must be the path of a .beton file, got {shown(fname)}: {error}") from error
