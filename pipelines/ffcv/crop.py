"""A decoder for FFCV whose crops and flips can be repeated, and that says when it fails.

FFCV's ``RandomResizedCropRGBImageDecoder`` draws from generators of numba's threads that nothing seeds, resizes with
OpenCV's area filter, and ignores libffcv's error code: where a record is damaged it delivers what the slot held before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from ffcv.fields.rgb_image import IMAGE_MODES, SimpleRGBImageDecoder
from ffcv.libffcv import imdecode
from ffcv.pipeline.allocation_query import AllocationQuery
from ffcv.pipeline.compiler import Compiler
from ffcv.pipeline.state import State

from mixops.augment.composition import IMAGENET_MEAN, IMAGENET_STD, as_augmentation
from mixops.augment.crop_plan import CropLaw, check_law, draw_crops
from mixops.augment.flips import Flip
from mixops.augment.policies.base import RGB
from mixops.key import Key
from mixops.runtime.checks import check_count, check_numbers, check_sequence

from ..resize import pillow_order
from ..resize_kernel import FILTERS, resized_crop
from .augmented import PlannedAugment, augment_row

WINDOW, FLIPS, FILTER, STATUS, AUGMENT = 2, 3, 4, 5, 6  # places in the decoder's memory; the plans' are the last


class PlannedCrop(SimpleRGBImageDecoder):
    """Decodes, crops by a law, resizes with Pillow's filters and flips; for a ``MixLoader``.

    ``size`` is (height, width) of the output. ``law``, for instance ``mixops.augment.crops.RandomResizedCrop()``, is drawn
    from ``Key(seed, epoch, step)``, and so are flips, with probabilities ``flip`` and ``vertical_flip``: windows and flips
    are those of an ``ImageLoader`` of equal seed and batch size. ``CenterCrop`` is for validation, with ``flip=0``.
    ``augment``, ``mean`` and ``std`` are those of ``AugmentImage``, done here by the thread that made the row. A record that
    libffcv cannot decode is a ``RuntimeError`` in the training loop. Raises ``ValueError`` for laws that reach beyond the
    image.
    """

    def __init__(
        self, size: tuple[int, int], law: CropLaw, *, flip: float = 0.5, vertical_flip: float = 0.0, augment: Any = None,
        mean: RGB = IMAGENET_MEAN, std: RGB = IMAGENET_STD,
    ) -> None:  # fmt: skip
        super().__init__()
        height, width = (check_count("size", side) for side in check_sequence("size", size, "(height, width)", 2))
        if check_law("law", law).padding_mode is not None:
            raise ValueError(f"law must crop inside of the image, got {law!r}; ImageLoader has such crops")
        self.size, self.law, self.flip = (height, width), law, Flip(flip, vertical_flip)
        augmentation = as_augmentation(augment, interpolation=law.interpolation)
        colours: Any = check_numbers("mean", mean, length=3), check_numbers("std", std, length=3)
        self._augment = None if augmentation is None else PlannedAugment(augmentation, self.size, *colours)

    def declare_state_and_memory(self, previous_state: State) -> tuple[State, tuple[AllocationQuery, ...]]:
        height, width = int(self.metadata["height"].max()), int(self.metadata["width"].max())
        shape = (*self.size, 3)
        kinds = [(shape, "u1"), ((height * width * 3,), "u1"), ((4,), "f8"), ((2,), "u1"), ((1,), "u1"), ((1,), "u1")]
        memory = [AllocationQuery(shape, np.dtype(kind)) for shape, kind in kinds]
        memory += [] if self._augment is None else self._augment.queries()
        return replace(previous_state, jit_mode=True, shape=shape, dtype=np.dtype("u1")), tuple(memory)

    def generate_code(self) -> Callable[..., Any]:
        """The compiled loop over a batch; it reads windows and flips from its memory and leaves the status there."""
        read, each, decode_jpeg = self.memory_read, Compiler.get_iterator(), Compiler.compile(imdecode)
        jpeg, raw, spill, order = IMAGE_MODES["jpg"], IMAGE_MODES["raw"], self.law.spill, pillow_order()
        augment, blend = (None, False) if self._augment is None else (augment_row, self._augment.blend)

        def decode(batch_indices, memory, metadata, storage_state):  # type: ignore[no-untyped-def]
            out, pixels, window, flips, kind, status = memory[:6]
            for i in each(len(batch_indices)):
                field = metadata[batch_indices[i]]
                record = read(field["data_ptr"], storage_state)
                height, width = np.uint32(field["height"]), np.uint32(field["width"])
                size = 3 * np.int64(height) * np.int64(width)
                image = pixels[i]
                failed = False
                if field["mode"] == jpeg:
                    failed = decode_jpeg(record, image, height, width, height, width, 0, 0, 1, 1, False, False) != 0
                elif field["mode"] == raw and record.size == size:
                    image = record
                else:
                    failed = True
                status[i, 0] = failed
                if failed:
                    out[i] = 0
                else:
                    whole = image[:size].reshape(height, width, 3)
                    mirrored, upside_down = flips[i, 0] != 0, flips[i, 1] != 0
                    resized_crop(whole, window[i], spill, mirrored, upside_down, kind[i, 0], order, out[i])
                    if augment is not None:
                        augment(i, out, memory[6:], blend)
            return out[: len(batch_indices)]

        decode.is_parallel = True  # type: ignore[attr-defined]
        return decode

    def plan(self, memory: tuple[Any, ...], slot: int, key: Key, rows: np.ndarray, ids: np.ndarray) -> None:
        """Draws the windows, flips and augmentation of a batch and puts them where the compiled loop reads them."""
        sizes = np.stack([self.metadata["height"][ids], self.metadata["width"][ids]], 1).astype(np.int64)
        crops = draw_crops(key, rows, sizes, self.law, self.flip, self.size)
        memory[WINDOW][slot][: len(ids)] = crops.windows
        memory[FLIPS][slot][: len(ids), 0] = crops.flips
        memory[FLIPS][slot][: len(ids), 1] = crops.vertical_flips
        memory[FILTER][slot][: len(ids), 0] = [FILTERS[name] for name in crops.interpolations]
        if self._augment is not None:
            self._augment.plan(memory[AUGMENT:], slot, key, rows)

    def failures(self, memory: tuple[Any, ...], slot: int, ids: np.ndarray) -> list[int]:
        """The samples of a batch that could not be decoded."""
        # a stage that compiles something leaves frames behind, which refer to the memory until they are collected
        failed: list[int] = ids[memory[STATUS].last(slot)[: len(ids), 0] != 0].tolist()
        return failed
