"""Mixing hidden activations: one layer of a list, chosen anew each step, has its output mixed by any mixer.

    h~ = mix(h_s(x), h_s(x'); lambda_k),  y~_k = mix(y, y'; lambda_k)        (multi-mix, arXiv 2406.01417, III-A.1, eq. 6)

With one interpolation it is manifold mixup (arXiv 1806.05236), with K it is manifold multi-mix, with a matching it is
manifold k-mixup (arXiv 2106.02933, section 5), with ``align`` it is AlignMixup (arXiv 2103.15375). The plan can only be
drawn when the activation is there: masks have its size, and a matching looks at it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ..apply.images import mix_images
from ..apply.targets import mix_targets
from ..key import Key, Stream
from ..mixers.base import Mixer, image_size
from ..mixers.needs import refuse_needs
from ..plan import MixPlan
from ..runtime.checks import check_sequence, check_tensor, check_type, set_fields, shown
from ..runtime.unwrap import unwrap
from .align import Sinkhorn, mix_aligned


@dataclass(frozen=True, eq=False)
class ManifoldMix:
    """Runs ``model`` with the output of one of ``layers`` mixed by ``mixer``.

    A layer is the name of a module ("layer1", "encoder.layers.encoder_layer_3"), a number s >= 1 for the output of the
    model's s-th child, or 0 for the input. Its output is a tensor (b, ...) that the rest of the model takes with any
    batch size; it runs once a step. Masks that vary over the image need maps (b, c, h, w); constant masks (mixup,
    k-mixup, multi-mix of either) fit vectors, tokens and maps. ``model`` may be wrapped in DistributedDataParallel and
    may run under autocast; ranks choose their layers independently. ``align`` lays one activation of each pair over the
    other before they are mixed, by constant masks, at every layer but the input. Hooks are there only while the model
    runs. Raises ``ValueError`` or ``TypeError`` naming the argument.

    Two models that are called with one key are mixed at the same layer by the same plan, unless a matching looks at their
    activations: so does the teacher of ``MultiMix``, which adds distillation and the dense loss to the maps returned here.
    """

    model: nn.Module
    layers: Sequence[int | str]
    mixer: Mixer
    align: Sinkhorn | None = None

    def __post_init__(self) -> None:
        check_type("model", self.model, nn.Module, "an nn.Module")
        check_type("mixer", self.mixer, Mixer, "a mixer such as MixUp")
        refuse_needs(self.mixer, {"images"}, "ManifoldMix")  # its images are the activations
        check_type("align", self.align, (Sinkhorn, type(None)), "a Sinkhorn or None")
        layers = check_sequence("layers", self.layers, "a list of names or numbers")
        if not layers:
            raise ValueError(f"layers must be a list of names or numbers, got {self.layers!r}")
        set_fields(self, layers=layers)
        for layer in self.layers:
            self._module(layer)

    def __call__(
        self, images: Float[Tensor, "b ..."], labels: Tensor, *, key: Key, num_classes: int | None = None,
        smoothing: float = 0.0,
    ) -> tuple[Any, Float[Tensor, "n classes"]]:  # fmt: skip
        """The model's output for the mixed activations, b * K rows, and the targets (b * K, classes) that go with it.

        ``labels`` are int (b,) with ``num_classes``, or soft (b, classes), as in ``mix_targets``.
        """
        check_type("key", key, Key, "a Key")
        for name, value in (("images", images), ("labels", labels)):
            if not check_tensor(name, value).ndim or len(value) != len(images):
                raise ValueError(f"{name} must have a row for each image, got {shown(value)}")
        layer = self.layer(key)
        plans: list[MixPlan] = []

        def mix(hidden: Any) -> Tensor:
            if plans:
                raise ValueError(f"layers must run once a step, got {layer!r}, which runs again")
            if not isinstance(hidden, Tensor) or hidden.ndim < 2 or len(hidden) != len(labels):
                got = describe(hidden)
                raise ValueError(f"layers must return tensors of {len(labels)} rows, got {got} from {layer!r}")
            plans.append(self.plan(key, hidden))
            if self.align is not None and layer != 0:
                return mix_aligned(hidden, plans[0], self.align, key)
            mixed: Tensor = mix_images(hidden, plans[0])
            return mixed

        if layer == 0:
            output = self.model(mix(images))
        else:
            handle = self._module(layer).register_forward_hook(lambda module, arguments, hidden: mix(hidden))
            try:
                output = self.model(images)
            finally:
                handle.remove()
            if not plans:
                raise ValueError(f"layers must run in the model's forward pass, got {layer!r}, which did not")
        return output, mix_targets(labels, plans[0], num_classes=num_classes, smoothing=smoothing)

    def layer(self, key: Key) -> int | str:
        """The layer that is mixed in the step of ``key``."""
        check_type("key", key, Key, "a Key")
        return self.layers[int(key.words(Stream.LAYER, 1)[0] % np.uint64(len(self.layers)))]

    def plan(self, key: Key, hidden: Float[Tensor, "b ..."]) -> MixPlan:
        """The plan for an activation: masks of its height and width, a matching by its values."""
        height, width = image_size(hidden) if hidden.ndim == 4 else (1, 1)
        with torch.no_grad():
            plan = self.mixer.plan(key, batch_size=len(hidden), height=height, width=width, images=hidden.detach())
        if hidden.ndim != 4 and not plan.constant:
            raise ValueError(f"mixer must have constant masks for activations {describe(hidden)}, got {self.mixer!r}")
        return plan

    def _module(self, layer: int | str) -> nn.Module:
        model = unwrap(self.model)
        if isinstance(layer, bool) or not isinstance(layer, (int, str)):
            raise TypeError(f"layers must be names or numbers, got {shown(layer)}")
        if isinstance(layer, str):
            modules = dict(model.named_modules())
            if layer not in modules or layer == "":
                raise ValueError(f"layers must be names of modules of the model, got {layer!r}")
            return modules[layer]
        children = list(model.children())
        if not 0 <= layer <= len(children):
            raise ValueError(f"layers must be from 0 to {len(children)}, the model's children, got {shown(layer)}")
        return model if layer == 0 else children[layer - 1]


def describe(value: Any) -> str:
    """The shape of a tensor, or the type of something else."""
    return f"of shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
