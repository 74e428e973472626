"""A classifier and the embeddings it takes, brought to one shape: samples, positions, channels.

Maps (m, d, *spatial) of classifiers with convolutions and tokens (m, r, d) of all others become (m, r, d), without a
copy where they lie channels-last in memory; interpolated embeddings (r, n, d) go back to the shape that the classifier
knows.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from ..runtime.checks import check_tensor


class Head:
    """``features`` (m, r, d) of a classifier; r is 1 unless ``dense``.

    Raises ``ValueError`` or ``TypeError`` for features that the classifier cannot take.
    """

    def __init__(self, classifier: nn.Module, features: Tensor, dense: bool) -> None:
        expected = "(m, d, *spatial) or (m, r, d)" if dense else "(m, d)"
        check_tensor("features", features, "a torch tensor")
        if not features.is_floating_point() or (features.ndim < 3 if dense else features.ndim != 2):
            raise ValueError(
                f"features must be floating-point {expected} for dense = {dense}, "
                f"got {features.dtype} {tuple(features.shape)}"
            )
        if 0 in features.shape:
            raise ValueError(f"features must not be empty, got shape {tuple(features.shape)}")
        self.classifier = classifier
        self.linear = is_linear(classifier)
        channels = _weight(classifier).shape[1] if self.linear else None
        self.spatial: tuple[int, ...] | None = None  # of features with the channels second
        if not dense:
            features = features[:, None]
        elif features.ndim > 3 or _convolves(classifier) or (features.shape[2] != channels == features.shape[1]):
            self.spatial = tuple(features.shape[2:])
            features = features.flatten(2).mT.contiguous()  # (m, d, *spatial) -> (m, r, d)
        if channels not in (None, features.shape[2]):
            raise ValueError(f"features must have the classifier's {channels} channels, got {features.shape[2]}")
        self.features: Float[Tensor, "m r d"] = features
        self.dense = dense

    @property
    def weight(self) -> Float[Tensor, "c d"]:
        """The weights of a linear classifier."""
        return _weight(self.classifier)

    def logits(self) -> Float[Tensor, "m r c"]:
        """The logits of the embeddings under a linear classifier."""
        return self._apply_linear(self.features)

    def classify(self, features: Float[Tensor, "r n d"]) -> Float[Tensor, "r n c"]:
        """The logits of other embeddings at the same positions."""
        if self.linear:
            return self._apply_linear(features)
        if not self.dense:
            return self.classifier(features[0])[None]
        if self.spatial is None:
            return self.classifier(features.transpose(0, 1)).transpose(0, 1)  # (n, r, d) -> (n, r, c) -> (r, n, c)
        maps = features.permute(1, 2, 0).unflatten(2, self.spatial)  # (r, n, d) -> (n, d, *spatial)
        logits = self.classifier(maps if _convolves(self.classifier) else maps.movedim(1, -1))
        if not _convolves(self.classifier):
            logits = logits.movedim(-1, 1)
        if logits.shape[2:] != self.spatial:
            raise ValueError(f"classifier must keep the positions {self.spatial}, got {tuple(logits.shape[2:])}")
        return logits.flatten(2).permute(2, 0, 1)  # (n, c, r) -> (r, n, c)

    def needs_gradient(self) -> bool:
        """Whether autograd records anything here."""
        return torch.is_grad_enabled() and (
            self.features.requires_grad or any(p.requires_grad for p in self.classifier.parameters())
        )

    def _apply_linear(self, features: Tensor) -> Tensor:
        return F.linear(features, self.weight, self.classifier.bias)  # type: ignore[arg-type]


def is_linear(classifier: nn.Module) -> bool:
    """Whether a classifier is W z + b and nothing else: no subclass, which may do more, and no hooks."""
    if classifier._forward_hooks or classifier._forward_pre_hooks:
        return False
    if type(classifier) is nn.Linear:
        return True
    return (
        type(classifier) is nn.Conv2d
        and classifier.kernel_size == classifier.stride == (1, 1)
        and classifier.padding in ((0, 0), "valid", "same")
        and classifier.groups == 1
    )


def _weight(classifier: nn.Module) -> Tensor:
    return classifier.weight.flatten(1)  # type: ignore[operator, union-attr]


def _convolves(classifier: nn.Module) -> bool:
    return any(isinstance(module, _ConvNd) for module in classifier.modules())
