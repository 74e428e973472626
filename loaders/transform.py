"""A function of the user's own on the decoded batch, with random numbers that follow from the key.

    crops, augmentation  ->  transform(images, generator)  ->  mixing, normalisation

It is called for the rows that are mixed with one another, once a view, with a generator of their key: so with a fixed
``mix_group`` it does not depend on the number of ranks, and nothing has to be saved to resume.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from jaxtyping import UInt8
from torch import Tensor

from mixops.key import Key, Stream
from mixops.runtime.checks import shown

Transform = Callable[[UInt8[Tensor, "b 3 h w"], torch.Generator], UInt8[Tensor, "b 3 h w"]]


def check_transform(transform: Any) -> None:
    """Raises ``TypeError`` unless ``transform`` is None or can be called."""
    if transform is not None and not callable(transform):
        raise TypeError(f"transform must be a function of (images, generator) or None, got {shown(transform)}")


def transform_name(transform: Transform | None) -> str | None:
    """What a state remembers of a function: where it is defined, since its memory address is another in each run."""
    if transform is None:
        return None
    while isinstance(transform, partial):
        transform = transform.func
    named: Any = transform if hasattr(transform, "__qualname__") else type(transform)
    return f"{named.__module__}.{named.__qualname__}"


def transform_rows(
    transform: Transform, images: UInt8[Tensor, "b 3 h w"], groups: Iterable[tuple[Key, int]], views: int, nth: int = 0
) -> UInt8[Tensor, "b 3 h w"]:
    """What ``transform`` makes of the rows of each group, in all views, of the ``nth`` batch of a step.

    ``groups`` are the key and the number of rows of each, one behind the other. Raises ``ValueError`` where the function
    returns anything but images of the dtype and shape and on the device that it was given.
    """
    parts: list[list[Tensor]] = [[] for _ in range(views)]
    at = 0
    for key, size in groups:
        generator = torch.Generator(images.device)
        generator.manual_seed(int(key.words(Stream.TRANSFORM, 1, start=nth)[0] >> 1))
        for view, done in enumerate(parts):
            first = view * (len(images) // views) + at
            done.append(_checked(transform(images[first : first + size], generator), images, size))
        at += size
    rows = [part for done in parts for part in done]
    return rows[0] if len(rows) == 1 else torch.cat(rows)


def _checked(result: Any, images: Tensor, size: int) -> Tensor:
    shape = (size, *images.shape[1:])
    if isinstance(result, Tensor) and (result.shape, result.dtype, result.device) == (shape, images.dtype, images.device):
        return result
    got = f"{result.dtype} {tuple(result.shape)} on {result.device}" if isinstance(result, Tensor) else repr(type(result))
    kind = str(images.dtype).removeprefix("torch.")
    raise ValueError(f"transform must return {kind} images {shape} on {images.device}, got {got}")
