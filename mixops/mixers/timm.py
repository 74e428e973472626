"""timm's ``Mixup`` as a mixer: the same arguments, defaults and laws.

timm pairs a row with the one opposite in the batch, so that batches must be even; here partners are drawn, never the row
itself. Everything else that its arguments say has the same law: which of mixup and CutMix, lambda, the box, the label.
"""

from __future__ import annotations

from typing import Any

from ..runtime.checks import check_choice, check_number
from .base import Mixer
from .beta import BetaMixer
from .cutmix import CutMix
from .mixup import MixUp
from .switch import Switch

__all__ = ["timm_mixup"]


def timm_mixup(
    mixup_alpha: float = 1.0,
    cutmix_alpha: float = 0.0,
    cutmix_minmax: Any = None,
    prob: float = 1.0,
    switch_prob: float = 0.5,
    mode: str = "batch",
    correct_lam: bool = True,
    label_smoothing: float = 0.1,
    num_classes: int = 1000,
) -> Mixer:
    """The mixer that timm's ``Mixup`` of the same arguments is; either alpha may be 0, for the other one alone.

    ``mode`` is "batch" or "elem". Raises ``ValueError`` naming the argument, also where both alphas are 0, and for
    ``cutmix_minmax`` and ``mode="pair"``, which no mixer has.
    """
    if cutmix_minmax is not None:
        raise ValueError(f"cutmix_minmax must be None, since boxes of a uniform size are no CutMix, got {cutmix_minmax!r}")
    if mode == "pair":
        raise ValueError("mode must be 'batch' or 'elem', since every row has a partner of its own, got 'pair'")
    shared: dict[str, Any] = {
        "draw": {"batch": "batch", "elem": "sample"}[check_choice("mode", mode, ("batch", "elem"))],
        "prob": prob, "num_classes": num_classes, "smoothing": label_smoothing,
    }  # fmt: skip
    alphas = {"mixup_alpha": mixup_alpha, "cutmix_alpha": cutmix_alpha}
    first, second = (check_number(name, alpha, 0) for name, alpha in alphas.items())
    switch_prob = check_number("switch_prob", switch_prob, 0, 1)
    mixers: list[BetaMixer] = [MixUp(first)] if first else []
    if second:
        mixers.append(CutMix(second, label="mask" if correct_lam else "sampled"))
    if not mixers:
        raise ValueError("mixup_alpha or cutmix_alpha must be positive, got 0 and 0")
    if len(mixers) == 1:
        return mixers[0].replace(**shared)
    return Switch(mixers, [1 - switch_prob, switch_prob], **shared)
