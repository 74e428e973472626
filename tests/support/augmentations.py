"""Images, plans and policies that the tests of augmentation share."""

from __future__ import annotations

from typing import Any

import numpy as np
from support.images import picture

from mixops.augment.erasing import Erasing
from mixops.augment.operations import FACTORS, WARPS, Filter, Op
from mixops.augment.plan import AugmentPlan
from mixops.augment.policies.base import Policy
from mixops.augment.registry import AUGMENTATIONS

# every augmentation of the registry, with its defaults and with what else it can do
CASES: dict[str, list[dict[str, Any]]] = {
    "TrivialAugmentWide": [{}, {"interpolation": "bilinear", "fill": (1, 2, 3)}, {"num_magnitude_bins": 5, "fill": "mean"}],
    "RandAugment": [{}, {"num_ops": 3, "magnitude": 20, "interpolation": "random", "fill": 128}, {"num_ops": 0}],
    "AutoAugment": [{}, {"policy": "cifar10", "interpolation": "bicubic"}, {"policy": "svhn", "interpolation": "bilinear"}],
    "AugMix": [{}, {"severity": 10, "mixture_width": 2, "chain_depth": 4, "alpha": 0.4, "all_ops": False}],
    "ThreeAugment": [{}, {"color_jitter": 0.0, "sigma": (0.5, 4.0)}],
    "ColorJitter": [{}, {"brightness": 0.4, "contrast": (0.2, 3.0), "saturation": 1.5, "hue": 0.5, "p": 0.8}],
    "RandomGrayscale": [{}, {"p": 1.0}],
    "RandomSolarize": [{"threshold": 128}, {"threshold": 99.5, "p": 1.0}],
    "GaussianBlur": [{}, {"sigma": 3.0, "p": 0.5}],
    "TimmRandAugment": [
        {},
        {"magnitude": 9, "magnitude_std": 0.5, "transforms": "increasing", "interpolation": "bicubic"},
        {"magnitude": 20, "magnitude_max": 20, "magnitude_std": np.inf, "num_layers": 4, "prob": 0.9, "transforms": "3aw"},
        {"transforms": "weights", "num_layers": 3},
        {"transforms": "3a", "fill": None},
    ],
    "TimmAutoAugment": [{}, *({"policy": p, "magnitude_std": 0.5} for p in ("v0r", "original", "originalr", "3a"))],
    "TimmAugMix": [{}, {"magnitude": 5, "width": 4, "depth": 2, "magnitude_std": 0.5}],
    "RandomErasing": [
        {},
        {"p": 1.0, "value": "pixel", "count": 3},
        {"p": 0.5, "value": "random"},
        {"value": (-1.0, 0, 2.5)},
    ],
    "Cutout": [{"length": 16}, {"length": 5, "holes": 3}],
}
MEMBERS = [AUGMENTATIONS[name](**options) for name, cases in CASES.items() for options in cases]
ERASING = [m for m in MEMBERS if isinstance(m, Erasing)]
MIXTURES = [m for m in MEMBERS if isinstance(m, Policy) and m.chained]
POLICIES = [m for m in MEMBERS if isinstance(m, Policy) and not m.chained]


def images(count: int, height: int, width: int) -> np.ndarray:
    """uint8 (count, height, width, 3): pictures, noise, one flat and one of few levels."""
    found = np.stack([np.asarray(picture(i, max(width, 6), max(height, 6)))[:height, :width] for i in range(count)])
    if count > 3:
        found[1] = np.random.default_rng(height * width).integers(0, 256, found[1].shape)
        found[2] = 77
        found[3] = found[3] // 64 * 64
    return found


def magnitudes(op: Op) -> list[float]:
    """Arguments of an operation: torchvision's and timm's, both signs, the ends, and some in between."""
    steps = np.arange(31) / 30
    if op in (Op.SHEAR_X, Op.SHEAR_Y):
        found = np.concatenate([0.99 * steps, 0.3 * steps, [1.5, 2]])
    elif op in (Op.TRANSLATE_X, Op.TRANSLATE_Y):
        found = np.concatenate([np.trunc(32 * steps), 0.45 * 224 * steps, [0.5, 1e-3, 400]])
    elif op == Op.ROTATE:
        found = np.concatenate([135 * steps, 30 * steps, [90, 180, 270, 360, 1e-3]])
    elif op in FACTORS:
        return [float(f) for f in np.concatenate([1 + 0.99 * steps, 1 - 0.99 * steps, [0, 0.1, 1.9, 5]])]
    else:
        return {
            Op.POSTERIZE: list(range(9)),
            Op.SOLARIZE: [*np.linspace(0, 256, 32).tolist(), 128, 127.5, 255, 255.5],
            Op.SOLARIZE_ADD: [*range(0, 129, 16), 110, 255],
            Op.BLUR: [0, 1e-3, *np.linspace(0.1, 4, 40).tolist(), 11, 60],
            Op.HUE: np.linspace(-0.5, 0.5, 41).tolist(),
        }.get(op, [0.0])  # type: ignore[return-value]
    return [float(v) for v in np.concatenate([found, -found])]


def plan_of(
    op: Op, args: Any, height: int, width: int, filter: Filter = Filter.NEAREST, fill: tuple[int, int, int] = (0, 0, 0)
) -> AugmentPlan:
    """One operation, with an argument a row."""
    b = len(args)
    return AugmentPlan(
        op=np.full((b, 1), op, np.int8), arg=np.array(args, np.float32)[:, None], filter=np.full((b, 1), filter, np.int8),
        fill=np.array([fill], np.uint8), box=np.zeros((b, 0, 4), np.int32), colour=np.zeros((b, 0, 3), np.uint8),
        noisy=np.zeros(0, bool), noise=np.zeros(b, np.uint32), mean=(0.5,) * 3, std=(0.25,) * 3, height=height, width=width,
    )  # fmt: skip


SINGLE = [op for op in Op if op not in (Op.KEEP, Op.AUGMIX)]
VARIANTS = [(op, filter) for op in SINGLE for filter in (Filter if op in WARPS else (Filter.NEAREST,))]
