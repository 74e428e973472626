"""Executes augmentation plans with Pillow's own functions, as the recipes do: the reference of the other executors.

Posterizing to 0 bits is black: so it was until Pillow 13 refused what it had computed. A hue is turned by torchvision's
arithmetic on Pillow's HSV bytes, ``int(255 turns)`` steps of 256.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ...augment.operations import Op
from ...augment.plan import AugmentPlan, Chains
from .noise import noise, values

_ENHANCERS = {
    Op.BRIGHTNESS: ImageEnhance.Brightness,
    Op.COLOR: ImageEnhance.Color,
    Op.CONTRAST: ImageEnhance.Contrast,
    Op.SHARPNESS: ImageEnhance.Sharpness,
}


def augment(images: UInt8[np.ndarray, "b h w 3"], plan: AugmentPlan) -> UInt8[np.ndarray, "b h w 3"]:
    """What ``plan`` says, done to each image."""
    return np.stack([augment_row(image, plan, i) for i, image in enumerate(images)])


def augment_row(image: UInt8[np.ndarray, "h w 3"], plan: AugmentPlan, i: int) -> UInt8[np.ndarray, "h w 3"]:
    """What row ``i`` of ``plan`` says, done to an image."""
    current = Image.fromarray(image)
    for j, op in enumerate(plan.op[i]):
        if op == Op.AUGMIX and plan.chains is not None:
            current = _mixture(current, plan.chains, i)
        else:
            current = operate(current, Op(op), float(plan.arg[i, j]), int(plan.filter[i, j]), plan.fill[j].tolist())
    out, table = np.array(current), values(plan.mean, plan.std)
    for j, (top, left, height, width) in enumerate(plan.box[i].tolist()):
        place = slice(top, top + height), slice(left, left + width)
        out[place] = noise(int(plan.noise[i]), table, *out.shape[:2])[place] if plan.noisy[j] else plan.colour[i, j]
    return out


def operate(image: Image.Image, op: Op, arg: float, filter: int, fill: list[int]) -> Image.Image:
    """One operation; ``filter`` and ``fill`` are a warp's."""
    if Op.SHEAR_X <= op <= Op.ROTATE:
        return _warp(image, op, arg, Image.Resampling(filter), (fill[0], fill[1], fill[2]))
    if op in _ENHANCERS:
        return _ENHANCERS[op](image).enhance(arg)
    if op == Op.POSTERIZE:
        return ImageOps.posterize(image, int(arg)) if arg >= 1 else image.point(lambda v: 0)
    if op == Op.SOLARIZE:
        return ImageOps.solarize(image, arg)  # type: ignore[arg-type]  # torchvision gives it floats too
    if op == Op.SOLARIZE_ADD:
        return image.point([min(255, v + int(arg)) if v < 128 else v for v in range(256)] * 3)
    if op == Op.AUTOCONTRAST:
        return ImageOps.autocontrast(image)
    if op == Op.EQUALIZE:
        return ImageOps.equalize(image)
    if op == Op.INVERT:
        return ImageOps.invert(image)
    if op == Op.GRAYSCALE:
        return image.convert("L").convert("RGB")
    if op == Op.BLUR:
        return image.filter(ImageFilter.GaussianBlur(arg))
    if op == Op.HUE:
        return _turn_hue(image, arg)
    return image


def _warp(image: Image.Image, op: Op, arg: float, resample: Image.Resampling, fill: tuple[int, int, int]) -> Image.Image:
    if op == Op.ROTATE:
        return image.rotate(arg, resample, fillcolor=fill)
    matrix = {
        Op.SHEAR_X: (1, arg, 0, 0, 1, 0),
        Op.SHEAR_Y: (1, 0, 0, arg, 1, 0),
        Op.TRANSLATE_X: (1, 0, -arg, 0, 1, 0),
        Op.TRANSLATE_Y: (1, 0, 0, 0, 1, -arg),
    }[op]
    return image.transform(image.size, Image.Transform.AFFINE, matrix, resample, fillcolor=fill)


def _turn_hue(image: Image.Image, turns: float) -> Image.Image:
    hue, saturation, value = image.convert("HSV").split()
    turned = np.array(hue) + np.int32(turns * 255).astype(np.uint8)
    return Image.merge("HSV", (Image.fromarray(turned), saturation, value)).convert("RGB")


def _mixture(image: Image.Image, chains: Chains, i: int) -> Image.Image:
    """float32 sums in the order of the chains."""
    weight, fill = chains.weight[i], chains.fill.tolist()
    total = np.zeros((*image.size[::-1], 3), np.float32)
    if not chains.blend:
        total += weight[0] * np.asarray(image, np.float32)
    for op, arg, filter, share in zip(chains.op[i], chains.arg[i], chains.filter[i], weight[1:], strict=True):
        chain = image
        for j in range(len(op)):
            chain = operate(chain, Op(op[j]), float(arg[j]), int(filter[j]), fill)
        total += share * np.asarray(chain, np.float32)
    mixed = Image.fromarray(np.clip(total, 0, 255).astype(np.uint8))
    return Image.blend(image, mixed, float(np.float32(1) - weight[0])) if chains.blend else mixed
