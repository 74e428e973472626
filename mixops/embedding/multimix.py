"""Embedding-space MultiMix: n interpolations of all m embeddings of a batch, just before the classifier.

"Embedding space interpolation beyond mini-batch, beyond pairs and beyond examples" (Venkataramanan et al., NeurIPS 2023,
arXiv 2311.05538); equations are numbered as in its first version, "Teach me how to interpolate a myriad of embeddings"
(arXiv 2206.14868), eq. 6 to 15, which has the distillation too. Not to be confused with multi-mix (several interpolations of
a pair of images), which is a mixer. With a linear classifier, interpolating embeddings and then classifying is classifying
and then interpolating logits, which ``multimix_stream`` does without ever holding the n interpolated logits of all
positions; any other classifier takes the equations as they stand (``multimix_literal``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ..apply.targets import check_labels, check_smoothing
from ..key import Key
from ..mixers.keyless import StepCounter
from ..runtime.checks import (
    check_choice,
    check_count,
    check_flag,
    check_number,
    check_sequence,
    check_tensor,
    check_type,
    shown,
)
from .attention import ATTENTIONS, NONLINEARITIES, average_scores, class_scores, normalise
from .classifier import Head, is_linear
from .dirichlet import Alpha, Weights, check_alpha, gammas, normalised
from .literal import View, literal_loss
from .streamed import Linear, streamed_loss


class MultiMix(nn.Module):
    """The MultiMix loss of a batch of embeddings, in the place of classifier and cross-entropy.

    ``classifier`` takes embeddings to logits and stays the model's own module: its gradients arrive there. ``tuples`` n
    interpolations are made of each batch, their weights Dirichlet with one concentration a tuple, uniform in the range
    ``alpha`` (0.01 to 1e5) or one number. ``dense`` interpolates and takes the loss at each position r, weighted by
    ``attention`` "gap", "cam" or "uniform" under ``nonlinearity`` "relu" (and division by the sum) or "softmax" (eq. 10
    to 15). ``distill`` in [0, 1] is the share 1 - gamma of the distillation loss (eq. 9; the paper's is 0.5).
    ``smoothing`` in [0, 1) smooths labels as torch's cross-entropy does. Raises ``ValueError`` or ``TypeError`` naming
    the argument.

    Called with features and targets that another mixup has mixed and ``lam`` an identity, it is that mixup with the dense
    loss (``attention="uniform"``) and distillation (appendix A.5, table 9).

    ``path`` says how the last loss was computed: "commuted", if the classifiers are ``nn.Linear`` or ``nn.Conv2d`` of
    1x1 and something needs a gradient, else "literal".
    """

    def __init__(
        self,
        classifier: nn.Module,
        tuples: int = 1000,
        alpha: Alpha = (0.5, 2.0),
        dense: bool = False,
        attention: Literal["gap", "cam", "uniform"] = "gap",
        nonlinearity: Literal["relu", "softmax"] = "relu",
        distill: float = 0.0,
        *,
        smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        check_type("classifier", classifier, nn.Module, "an nn.Module")
        tuples = check_count("tuples", tuples)
        dense = check_flag("dense", dense)
        check_choice("attention", attention, ATTENTIONS)
        check_choice("nonlinearity", nonlinearity, NONLINEARITIES)
        distill, smoothing = check_number("distill", distill, 0, 1), check_smoothing(smoothing)
        low, high = check_alpha(alpha)
        alpha = low if low == high else (low, high)
        if dense and attention == "cam" and not is_linear(classifier):
            raise ValueError(f"attention must be 'gap' or 'uniform' if classifier is not linear, got {attention!r}")
        self.classifier = classifier
        self.tuples, self.alpha, self.dense = tuples, alpha, dense
        self.attention, self.nonlinearity = attention, nonlinearity
        self.distill, self.smoothing = distill, smoothing
        self.path: Literal["commuted", "literal"] = "literal"
        self._counter = StepCounter()

    def forward(
        self,
        features: Float[Tensor, "m d *spatial"],
        labels: Tensor,
        *,
        lam: Tensor | None = None,
        teacher: tuple[Tensor, nn.Module] | None = None,
        key: Key | torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, a scalar.

        ``features`` are (m, d); dense, (m, d, *spatial) or tokens (m, r, d). Three axes are tokens unless only the
        second has the size of the classifier. ``labels`` are int (m,) or probabilities (m, c). ``lam``, (m, n) or dense
        (r, m, n), takes the place of the draw; its columns sum to 1. ``teacher`` is required by ``distill`` > 0: the
        features that the teacher sees, of the same positions, and its classifier. The draw is a function of ``key``, a
        ``Key`` or a ``torch.Generator``; without one the module counts its calls, and ``state_dict`` holds the count.
        """
        if torch.compiler.is_compiling():  # dynamo would trace the draw, which is NumPy's, as if it were torch's
            return _uncompiled_loss()(self, features, labels, lam, teacher, key)
        return self._loss(features, labels, lam, teacher, key)

    def _loss(
        self,
        features: Tensor,
        labels: Tensor,
        lam: Tensor | None,
        teacher: tuple[Tensor, nn.Module] | None,
        key: Key | torch.Generator | None,
    ) -> Tensor:
        if (teacher is None) != (self.distill == 0):
            need = "given" if self.distill else "None"
            raise ValueError(f"teacher must be {need} for distill = {self.distill}, got {shown(teacher)}")
        head = Head(self.classifier, features, self.dense)
        teacher_head = None if teacher is None else _teacher_head(teacher, self.dense)
        if teacher_head is not None and teacher_head.features.device != features.device:
            raise ValueError(f"teacher must have features on {features.device}, got {teacher_head.features.device}")
        if teacher_head is not None and teacher_head.features.shape[:2] != head.features.shape[:2]:
            raise ValueError(
                f"teacher must have features of {tuple(head.features.shape[:2])} samples and positions, "
                f"got {tuple(teacher_head.features.shape[:2])}"
            )
        if teacher_head is not None and head.linear and teacher_head.linear and len(head.weight) != len(teacher_head.weight):
            raise ValueError(
                f"teacher must have the classifier's {len(head.weight)} classes, got {len(teacher_head.weight)}"
            )
        m, r, _ = head.features.shape
        _check_labels(labels, m, features.device)
        weights, tuples = self._weights(lam, m, r, features.device, key)
        heads = [head] if teacher_head is None else [head, teacher_head]
        commutes = all(is_linear(h.classifier) for h in heads) and head.needs_gradient()
        self.path = "commuted" if commutes else "literal"
        loss = self._commuted if commutes else self._literal
        return loss(head, teacher_head, labels, weights, tuples)

    def _commuted(self, head: Head, teacher: Head | None, labels: Tensor, weights: Weights, tuples: int) -> Tensor:
        logits = head.logits()
        precise = torch.promote_types(logits.dtype, torch.float32)
        seen_by_teacher = None
        if teacher is not None:
            with torch.no_grad():
                seen_by_teacher = Linear(teacher.logits().to(precise), self._attention(teacher, labels))
        return streamed_loss(
            Linear(logits.to(precise), self._attention(head, labels)),
            make_targets(labels, logits.shape[-1], self.smoothing, precise),
            weights,
            tuples,
            distill=self.distill,
            teacher=seen_by_teacher,
        )

    def _literal(self, head: Head, teacher: Head | None, labels: Tensor, weights: Weights, tuples: int) -> Tensor:
        seen_by_teacher = None
        if teacher is not None:
            with torch.no_grad():
                seen_by_teacher = View(teacher.features, teacher.classify, self._attention(teacher, labels))
        precise = torch.promote_types(head.features.dtype, torch.float32)
        return literal_loss(
            View(head.features, head.classify, self._attention(head, labels)),
            lambda classes: make_targets(labels, classes, self.smoothing, precise),
            normalised(weights(0, head.features.shape[1]).to(precise)),
            distill=self.distill,
            teacher=seen_by_teacher,
        )

    def _attention(self, head: Head, labels: Tensor) -> Float[Tensor, "m r"] | None:
        """Attention maps, at least float32; None where every position counts the same."""
        if not self.dense or self.attention == "uniform":
            return None
        features = head.features.to(torch.promote_types(head.features.dtype, torch.float32))
        with torch.autocast(features.device.type, enabled=False):
            if self.attention == "gap":
                return normalise(average_scores(features), self.nonlinearity)
            targets = make_targets(labels, head.weight.shape[0], self.smoothing, features.dtype)
            return normalise(class_scores(features, head.weight.to(features.dtype), targets), self.nonlinearity)

    def _weights(
        self, lam: Tensor | None, m: int, r: int, device: torch.device, key: Key | torch.Generator | None
    ) -> tuple[Weights, int]:
        if lam is None:
            source = self._counter.next_key() if key is None else key
            draw = gammas(source, positions=r, tuples=self.tuples, samples=m, alpha=self.alpha, device=device)
            return draw, self.tuples
        if key is not None:
            raise ValueError(f"key must be None where lam is given, got {shown(key)}")
        if not check_tensor("lam", lam, "a floating tensor").is_floating_point():
            raise TypeError(f"lam must be a floating tensor, got {shown(lam)}")
        if lam.device != device:
            raise ValueError(f"lam must be on the device of features, {device}, got {shown(lam)}")
        shape = (r, m) if self.dense else (m,)
        if lam.shape[:-1] != shape or lam.shape[-1] == 0:
            raise ValueError(f"lam must have shape {(*shape, 'n')}, got {tuple(lam.shape)}")
        if lam.device.type == "cpu" and not ((lam >= 0).all() and ((lam.sum(-2) - 1).abs() < 1e-3).all()):
            raise ValueError("lam must have columns that are not negative and sum to 1")
        rows = lam.detach().mT.expand(r, -1, -1)  # (m, n) -> (1, n, m), (r, m, n) -> (r, n, m)
        return (lambda start, stop: rows[start:stop]), lam.shape[-1]

    def get_extra_state(self) -> dict[str, int]:
        """The count of draws without a key."""
        return self._counter.state_dict()

    def set_extra_state(self, state: dict[str, int]) -> None:
        """Continues the count."""
        self._counter.load_state_dict(state)

    def extra_repr(self) -> str:
        """The arguments."""
        dense = f", attention={self.attention!r}, nonlinearity={self.nonlinearity!r}" if self.dense else ""
        return f"tuples={self.tuples}, alpha={self.alpha}, dense={self.dense}{dense}, distill={self.distill}"


_UNCOMPILED: list[Callable[..., Tensor]] = []


def _uncompiled_loss() -> Callable[..., Tensor]:
    """``MultiMix._loss`` that dynamo does not enter, made once; not at import, where dynamo costs seconds."""
    if not _UNCOMPILED:
        _UNCOMPILED.append(torch.compiler.disable(MultiMix._loss))
    return _UNCOMPILED[0]


def make_targets(labels: Tensor, classes: int, smoothing: float, dtype: torch.dtype) -> Float[Tensor, "m c"]:
    """Class probabilities of int labels (m,) or of labels that are probabilities already, smoothed."""
    if labels.ndim == 1:
        check_labels(labels, classes)
        targets = F.one_hot(labels.long(), classes).to(dtype)
    elif labels.shape[1] != classes:
        raise ValueError(f"labels must have the classifier's {classes} classes, got {labels.shape[1]}")
    elif labels.device.type == "cpu" and not ((labels.sum(1, dtype=dtype) - 1).abs() < 1e-2).all():
        raise ValueError(
            f"labels must have rows that sum to 1, got sums from {labels.sum(1).min()} to {labels.sum(1).max()}"
        )
    else:
        targets = labels.detach().to(dtype)
    return targets * (1 - smoothing) + smoothing / classes if smoothing else targets


def _teacher_head(teacher: Any, dense: bool) -> Head:
    features, classifier = check_sequence("teacher", teacher, "a pair of features and their classifier", 2)
    check_type("the teacher's classifier", classifier, nn.Module, "an nn.Module")
    try:
        return Head(classifier, features, dense)
    except (ValueError, TypeError) as error:
        raise type(error)(f"of teacher, {error}") from error


def _check_labels(labels: Any, samples: int, device: torch.device) -> None:
    check_tensor("labels", labels, "a tensor of class numbers or probabilities")
    if labels.ndim not in (1, 2) or len(labels) != samples or (labels.ndim == 2 and not labels.is_floating_point()):
        raise ValueError(
            f"labels must be int ({samples},) or floating-point ({samples}, c), got {labels.dtype} {tuple(labels.shape)}"
        )
    if labels.device != device:
        raise ValueError(f"labels must be on the device of features, {device}, got {shown(labels)}")
