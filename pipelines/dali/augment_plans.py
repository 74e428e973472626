"""What ``dali.augment`` is told of each batch: an external source that is a pure function of DALI's own batch number.

Operations become kinds of DALI's operators; boxes are painted here, by the CPU's kernels, so that they are exact.
"""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import UInt8

from mixops.augment.apply import augment_images
from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD, Augmentation, as_augmentation
from mixops.augment.operations import LARGEST, WARPS, Filter, Op, warp_matrices
from mixops.augment.plan import AugmentPlan
from mixops.augment.policies.base import RGB
from mixops.key import Key
from mixops.runtime.checks import check_count, check_numbers, set_fields

# kinds of operations in the graph, in the order of its tree; the commonest are not the deepest
(KEEP, NEAREST, LINEAR, BRIGHTNESS, COLOR, CONTRAST, SHARPNESS, POSTERIZE, SOLARIZE, AUTOCONTRAST, EQUALIZE, SOLARIZE_ADD,
 BLUR, HUE) = range(14)  # fmt: skip
_KINDS = {
    Op.KEEP: KEEP, Op.BRIGHTNESS: BRIGHTNESS, Op.COLOR: COLOR, Op.GRAYSCALE: COLOR, Op.CONTRAST: CONTRAST,
    Op.SHARPNESS: SHARPNESS, Op.POSTERIZE: POSTERIZE, Op.SOLARIZE: SOLARIZE, Op.INVERT: SOLARIZE,
    Op.AUTOCONTRAST: AUTOCONTRAST, Op.EQUALIZE: EQUALIZE, Op.SOLARIZE_ADD: SOLARIZE_ADD, Op.BLUR: BLUR, Op.HUE: HUE,
    **dict.fromkeys(WARPS, LINEAR),
}  # fmt: skip
_KIND = np.array([_KINDS.get(op, KEEP) for op in Op], np.int32)


@dataclass(frozen=True)
class AugmentSource:
    """The augmentation of every batch of a pipeline, for ``dali.augment``.

    ``augment`` is a policy, one of timm's strings, or a list of these with erasing last. ``batch_size`` is the pipeline's,
    ``height`` and ``width`` are those of the images. Row i of a batch is row ``rank * batch_size + i`` of the global batch,
    and ``steps_per_epoch`` batches are an epoch, so that the draws are those of an ``ImageLoader`` of equal seed and batch
    size. ``mean`` and ``std`` are the data's, on the scale [0, 1]. ``first_epoch`` is that of a new pipeline. Raises
    ``ValueError`` or ``TypeError`` naming the argument, also for AugMix, whose chains DALI's operators do not have.
    """

    augment: Any
    _: KW_ONLY
    batch_size: int
    height: int
    width: int
    steps_per_epoch: int
    seed: int = 0
    rank: int = 0
    mean: RGB = IMAGENET_MEAN
    std: RGB = IMAGENET_STD
    first_epoch: int = 0
    augmentation: Augmentation = field(init=False, repr=False)

    def __post_init__(self) -> None:
        augmentation = as_augmentation(self.augment, interpolation="bilinear")
        if augmentation is None:
            raise TypeError("augment must be a policy, one of timm's strings or a list of these, got None")
        if any(policy.chained for policy in augmentation.policies):
            raise ValueError(f"augment must not hold AugMix in a DALI pipeline, got {self.augment!r}")
        most = {"height": LARGEST, "width": LARGEST, "batch_size": 2**31 - 1, "steps_per_epoch": 2**63 - 1}
        counts = {name: check_count(name, getattr(self, name), 1, high) for name, high in most.items()}
        numbers = {name: check_count(name, getattr(self, name), 0, 2**63 - 1) for name in ("seed", "first_epoch")}
        set_fields(
            self, **counts, **numbers, rank=check_count("rank", self.rank, 0, 2**31 - 1), augmentation=augmentation,
            mean=check_numbers("mean", self.mean, length=3), std=check_numbers("std", self.std, length=3),
        )  # fmt: skip

    def plan(self, epoch: int, step: int) -> AugmentPlan:
        """What is done to the rows of a step."""
        rows = self.rank * self.batch_size + np.arange(self.batch_size)
        return self.augmentation.draw(Key(self.seed, epoch, step), rows, (self.height, self.width), self.mean, self.std)

    @property
    def fills(self) -> UInt8[np.ndarray, "n 3"]:
        """The colour that warps of each of the n operations show outside the image."""
        return self.plan(0, 0).fill

    def __call__(self, info: Any) -> tuple[Any, ...]:
        """The plan of an iteration as DALI wants it.

        For each operation its kind int32 (b,), argument float32 (b,) and matrix float32 (b, 2, 3); then, where something may
        be erased, whether it is, int32 (b,), and for those rows what is kept, uint8 (h, w, 1), and what is put there, uint8
        (h, w, 3).
        """
        epoch, step = divmod(int(info.iteration), self.steps_per_epoch)
        plan = self.plan(epoch + int(info.epoch_idx) + self.first_epoch, step)
        kind = _KIND[plan.op]
        kind[(kind == LINEAR) & _whole(plan)] = NEAREST
        kind[(kind == BLUR) & (plan.arg <= 0)] = KEEP
        matrix = warp_matrices(plan.op, plan.arg, self.height, self.width).astype(np.float32)
        arrays: list[Any] = []
        for j in range(kind.shape[1]):
            arrays += [kind[:, j].copy(), plan.arg[:, j].copy(), np.ascontiguousarray(matrix[:, j]).reshape(-1, 2, 3)]
        return (*arrays, *_erased(plan)) if self.augmentation.erasing else tuple(arrays)


def _whole(plan: AugmentPlan) -> Any:
    """Warps that need no interpolation."""
    moved = np.isin(plan.op, (Op.TRANSLATE_X, Op.TRANSLATE_Y)) & (plan.arg == np.floor(plan.arg))
    return (plan.filter == Filter.NEAREST) | moved


def _erased(plan: AugmentPlan) -> tuple[Any, list[Any], list[Any]]:
    """The boxes, painted by the CPU's kernels on black; rows without one have a pixel that nobody looks at."""
    rows = np.flatnonzero(np.any(np.all(plan.box[..., 2:] > 0, axis=-1), axis=1))
    kept, shown = ([np.zeros((1, 1, c), np.uint8) for _ in range(plan.batch_size)] for c in (1, 3))
    if len(rows):
        boxes = plan.rows(rows)
        nothing = AugmentPlan(
            **{name: getattr(boxes, name)[:, :0] for name in ("op", "arg", "filter")}, fill=boxes.fill[:0], box=boxes.box,
            colour=boxes.colour, noisy=boxes.noisy, noise=boxes.noise, mean=boxes.mean, std=boxes.std, height=boxes.height,
            width=boxes.width,
        )  # fmt: skip
        painted = augment_images(np.zeros((len(rows), plan.height, plan.width, 3), np.uint8), nothing)
        for row, image, box in zip(rows.tolist(), painted, boxes.box.tolist(), strict=True):
            shown[row], kept[row] = image, np.ones((plan.height, plan.width, 1), np.uint8)
            for top, left, height, width in box:
                kept[row][top : top + height, left : left + width] = 0
    return np.isin(np.arange(plan.batch_size), rows).astype(np.int32), kept, shown
