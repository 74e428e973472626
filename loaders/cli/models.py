"""Models by name and checkpoint: the small net of ``mixstage train``, those of torchvision and of timm."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from .training import small_net

_WRAPPERS = re.compile(r"^(module\.|_orig_mod\.|model\.)+")


def load_model(checkpoint: Path, name: str, classes: int) -> nn.Module:
    """The model of a name, for ``classes`` classes and with the weights of the checkpoint.

    Raises ``ValueError`` naming the model and what does not fit.
    """
    weights = read_weights(checkpoint)
    complaints = []
    for origin, build in _builders(name):
        net = build(classes)
        own = net.state_dict()
        wrong = [key for key in own if key not in weights or weights[key].shape != own[key].shape]
        unknown = sorted(set(weights) - set(own))
        if not wrong and not unknown:
            net.load_state_dict(weights)
            return net
        complaints.append(f"{origin}'s lacks or differs in {wrong[:3]} and does not know {unknown[:3]}")
    if not complaints:
        raise ValueError(f"model must be 'small' or a model of torchvision or timm that is installed, got {name!r}")
    raise ValueError(f"model must be that of {checkpoint} with {classes} classes, got {name!r}: {'; '.join(complaints)}")


def read_weights(checkpoint: Path) -> dict[str, Tensor]:
    """The weights of a checkpoint by the names that they have in the model. Raises ``ValueError`` where there are none."""
    try:
        held: Any = torch.load(checkpoint, map_location="cpu", weights_only=True)
    except Exception as error:  # whatever unpickling raises
        raise ValueError(f"checkpoint must be a file of weights that torch.save wrote, got {str(checkpoint)!r}") from error
    for key in ("state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(key), Mapping):
            held = held[key]
    if not isinstance(held, Mapping) or not held or not all(isinstance(value, Tensor) for value in held.values()):
        raise ValueError(f"checkpoint must hold a state_dict, alone or under 'model' or 'state_dict', got {checkpoint}")
    return {_WRAPPERS.sub("", key): value for key, value in held.items()}


def _builders(name: str) -> Iterator[tuple[str, Callable[[int], nn.Module]]]:
    """Whose models have that name, and how they are made for a number of classes."""
    if name == "small":
        yield "mixstage", small_net
        return
    if importlib.util.find_spec("torchvision") is not None:
        from torchvision.models import get_model, list_models

        if name in list_models():
            yield "torchvision", lambda classes: get_model(name, num_classes=classes)
    if importlib.util.find_spec("timm") is not None:
        import timm

        if timm.is_model(name):
            yield "timm", lambda classes: timm.create_model(name, num_classes=classes)
