"""The teacher of self-distillation: an exponential moving average of the model (MultiMix, section 3.3).

    theta' <- decay * theta' + (1 - decay) * theta

Every rank of a distributed run averages its own copy of the same parameters, so nothing is communicated. The copy is taken
of the model itself, not of what DistributedDataParallel or torch.compile wraps around it. torch's ``AveragedModel`` does the
same arithmetic, but its first update forgets the copy, and it averages counters, which a batch norm of cumulative statistics
divides by.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn

from ..runtime.checks import check_number, check_type
from ..runtime.unwrap import unwrap


class EmaTeacher(nn.Module):
    """A copy of ``model`` that follows it, in evaluation mode and without gradients.

    Parameters and floating-point buffers (batch statistics) are averaged with ``decay`` in [0, 1), in their own dtype: a
    bfloat16 model cannot follow with a decay above 0.99. Other buffers are copied. Call ``update(model)`` after each step
    of the optimiser. Attributes that are not the teacher's own are those of the copy, so that ``teacher.fc`` is its
    classifier. Raises ``TypeError`` or ``ValueError`` naming the argument.
    """

    def __init__(self, model: nn.Module, decay: float = 0.999) -> None:
        super().__init__()
        check_type("model", model, nn.Module, "an nn.Module")
        self.decay = check_number("decay", decay, 0, 1, below=True)
        self.module = copy.deepcopy(unwrap(model)).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Moves the average towards ``model``, wrapped or not; ``ValueError`` if its tensors are not the teacher's."""
        averaged: tuple[list[Tensor], list[Tensor]] = ([], [])
        check_type("model", model, nn.Module, "an nn.Module")
        mine, theirs = tensors(self.module), tensors(unwrap(model))
        if mine.keys() != theirs.keys():
            names = sorted(mine.keys() ^ theirs.keys())
            raise ValueError(f"model must have the parameters and buffers of the teacher, got a difference in {names}")
        if other := [name for name, own in mine.items() if _kind(own) != _kind(theirs[name])]:
            raise ValueError(f"model must have the teacher's shapes, dtypes and devices, got others for {other}")
        for name, own in mine.items():
            if own.is_floating_point() or own.is_complex():
                averaged[0].append(own)
                averaged[1].append(theirs[name].detach())
            else:
                own.copy_(theirs[name])
        torch._foreach_lerp_(*averaged, 1 - self.decay)  # one kernel for all of them, as torch's AveragedModel does

    @torch.no_grad()
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the copy returns, without gradients."""
        return self.module(*args, **kwargs)

    def train(self, mode: bool = True) -> EmaTeacher:
        """Stays in evaluation mode, also where the teacher is a part of a model that is set to train."""
        return super().train(False)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "module":  # not made yet
                raise
            return getattr(self.module, name)

    def extra_repr(self) -> str:
        """The decay."""
        return f"decay={self.decay}"


def tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, also buffers that are not saved; shared ones once."""
    return {**dict(model.named_parameters()), **dict(model.named_buffers())}


def _kind(x: Tensor) -> tuple[torch.Size, torch.dtype, torch.device]:
    return x.shape, x.dtype, x.device
