"""Which JPEG files are decoded at a fraction of their size (``decode="fast"``), and what is left of their crops to do.

libjpeg's scaled inverse transform makes 4 x 4, 2 x 2 or 1 x 1 pixels of each block of 8 x 8, by leaving out its high
frequencies; Pillow's ``draft`` asks for it. A crop that is at least twice its output in both directions keeps at least one
pixel for each of the output. The pixels are not those of decoding all of it and resizing: low frequencies of a block stand
for its means, and the resize's filter reads beyond the edges of the window, which lie between pixels. So it is an option.
"""

from __future__ import annotations

from dataclasses import replace

from mixops.augment.crop_plan import CropPlan

_SCALES = (8, 4, 2)
_LEAST = 8  # pixels of a side: TurboJPEG, which is given the size that it shall come to, could take 5/8 for 1/2 of fewer


def decode_scale(crops: CropPlan, row: int) -> int:
    """8, 4, 2 or 1: how many times smaller than it is the image of a row may be decoded."""
    high, wide = crops.windows[row, 2:].tolist()
    top, left, bottom, right = (0, 0, 0, 0) if crops.margins is None else crops.margins[row].tolist()
    least = max(crops.size[0] - top - bottom, 1), max(crops.size[1] - left - right, 1)
    fits = (scale for scale in _SCALES if high >= max(scale * least[0], _LEAST) and wide >= max(scale * least[1], _LEAST))
    return next(fits, 1)


def scaled_crops(crops: CropPlan, scale: int) -> CropPlan:
    """``crops`` of images that were decoded ``scale`` times smaller."""
    return crops if scale == 1 else replace(crops, windows=crops.windows / scale, spill=True)


def scaled_size(size: tuple[int, int], scale: int) -> tuple[int, int]:
    """(height, width) of such an image: the last pixels may stand for fewer."""
    return -(-size[0] // scale), -(-size[1] // scale)
