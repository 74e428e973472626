"""The loss of RecursiveMix (arXiv 2203.06844, eq. 4, 5): what stands in the box is what the model said of it before.

    omega (1 - w_i) CE(head(mean of the last map of row i in its box), softmax(logits of the row before)),  mean over rows

The mean is RoIAlign's with one cell (arXiv 1703.06870; torchvision's ``aligned=True, sampling_ratio=-1``): of samples that
are linear between the pixels of the map, as many a side as the box has pixels, begun or whole. They lie on a grid, so that
the mean is a product of weights of rows and of columns, which come from the plan alone; nothing waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float64
from torch import Tensor, nn

from ..losses import soft_cross_entropy
from ..masks import X0, X1, Y0, Y1
from ..plan import MixPlan
from ..runtime.checks import check_number, check_tensor, check_type, shown
from ..runtime.devices import to_device


class HistoryLoss(nn.Module):
    """RecursiveMix' consistency loss, to be added to that of the mixed targets.

    ``head`` maps (n, d) features to logits: the model's own classifier, or another ``nn.Linear`` as the authors have, which
    then is trained by this loss alone and thrown away. ``omega`` >= 0 is the loss' weight (the authors: 0.5 on ImageNet, 0.1
    on CIFAR). Raises ``ValueError`` or ``TypeError`` naming the argument.
    """

    def __init__(self, head: Callable[[Tensor], Tensor], omega: float = 0.5) -> None:
        super().__init__()
        if not callable(head) or isinstance(head, type):
            raise TypeError(f"head must be a module or function of features, got {shown(head)}")
        self.head = head
        self.omega = check_number("omega", omega, 0)

    def forward(self, maps: Float[Tensor, "n d h w"], plan: MixPlan, before: Float[Tensor, "m classes"] | None) -> Tensor:
        """The mean over all rows n = b * k, of which those whose partner is not in the past have no loss.

        ``maps`` are the last maps of the mixed images, before pooling, of any size; ``before`` the logits of the batch mixed
        before, without which (None) there is no loss. Raises ``ValueError`` or ``TypeError`` naming the argument.
        """
        check_type("plan", plan, MixPlan, "a MixPlan")
        b, k = plan.weight.shape
        if check_tensor("maps", maps).ndim != 4 or len(maps) != b * k:
            raise ValueError(f"maps must have shape ({b * k}, d, h, w) for this plan, got {tuple(maps.shape)}")
        if before is None or plan.past is None:
            return maps.new_zeros(())
        if check_tensor("before", before).ndim != 2 or len(before) < b * k:
            raise ValueError(f"before must be the logits of at least {b * k} rows, got shape {tuple(before.shape)}")
        boxes = plan.params.reshape(b * k, -1)
        axes = ((Y0, Y1), plan.height, maps.shape[2]), ((X0, X1), plan.width, maps.shape[3])
        weights = (box_weights(boxes[:, edges], side, pixels) for edges, side, pixels in axes)
        rows, columns = (to_device(weight.astype(np.float32), maps.device).to(maps.dtype) for weight in weights)
        logits = self.head(torch.einsum("ndhw,nh,nw->nd", maps, rows, columns))
        said = before.detach()[::k][to_device(plan.partner, maps.device)].softmax(-1).repeat_interleave(k, 0)
        share = self.omega * np.where(plan.past[:, None], 1 - plan.weight, 0).reshape(-1)
        loss = soft_cross_entropy(logits, said.to(logits.dtype), reduction="none")
        return (loss * to_device(share.astype(np.float32), maps.device)).mean()


def box_weights(edges: Float64[np.ndarray, "n 2"], side: int, pixels: int) -> Float64[np.ndarray, "n pixels"]:
    """What each of ``pixels`` along an axis has of the mean over a box [first, last) of ``side`` pixels; 0 of an empty one.

    ``ceil(length)`` samples, each linear between its two neighbours and beyond the first and the last that one alone.
    """
    first, last = (edges.astype(np.float64) * pixels / side).T[..., None]
    count = np.ceil((edges[:, 1:] - edges[:, :1]) * pixels / side)  # (n, 1), of whole numbers: no last digit adds a sample
    i = np.arange(max(int(count.max(initial=0)), 1))
    at = np.clip(first + (i + 0.5) * (last - first) / np.maximum(count, 1) - 0.5, 0, pixels - 1)  # (n, samples)
    near = np.maximum(1 - np.abs(at[..., None] - np.arange(pixels)), 0)  # (n, samples, pixels)
    return (near * (i < count)[..., None]).sum(1) / np.maximum(count, 1)
