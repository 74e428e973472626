"""Runs a model for a gradient by its input without a trace in the training loop around it.

Parameters take part as constants, so that no gradient reaches them and no hook of DistributedDataParallel runs; buffers are
copies; training flags and random states are put back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from .unwrap import unwrap


@contextmanager
def traceless(model: nn.Module) -> Iterator[Callable[..., Any]]:
    """``model`` as a function, in evaluation mode, of the module inside any wrappers; gradients are recorded."""
    module = unwrap(model)
    constants = {name: parameter.detach() for name, parameter in module.named_parameters()}
    constants.update({name: buffer.detach().clone() for name, buffer in module.named_buffers()})
    training = [(part, part.training) for part in module.modules()]
    devices = {tensor.device for tensor in constants.values() if tensor.is_cuda}
    try:
        with torch.random.fork_rng(devices), torch.enable_grad():
            module.eval()
            yield lambda *inputs: torch.func.functional_call(module, constants, inputs)
    finally:
        for part, flag in training:
            part.training = flag
