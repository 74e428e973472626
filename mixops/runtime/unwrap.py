"""The module that data parallelism and compilation have wrapped.

A teacher copies it, a saliency is taken of it and layers are looked up in it: the wrappers would add hooks, buffers that
communicate, and a prefix to every name.
"""

from __future__ import annotations

from typing import Any

from torch import nn


def unwrap(model: nn.Module) -> nn.Module:
    """The module inside any wrappers of data parallelism and compilation."""
    while True:
        inner: Any = None
        if isinstance(model, (nn.parallel.DistributedDataParallel, nn.DataParallel)):
            inner = model.module
        elif hasattr(model, "_orig_mod"):  # torch.compile
            inner = model._orig_mod
        if inner is None:
            return model
        model = inner
