"""Faults in augmentation: draws, operations, their arithmetic on the CPU, erasing, and what executes them in loaders."""

from __future__ import annotations

from .base import Fault

PIXELS = ("mixops/kernels/test_augment_cpu.py",)
CONTRACT = ("mixops/augment/test_contract.py",)
TORCHVISION = ("mixops/augment/test_laws_torchvision.py",)
TIMM = ("mixops/augment/test_laws_timm.py",)
ERASING = ("mixops/augment/test_erasing.py",)
TRANSFORM = ("loaders/test_transform.py",)
ON_DEVICE = ("loaders/backends/test_augmentation_on_device.py",)
FFCV = ("pipelines/ffcv/test_ffcv_augment.py",)
DALI = ("pipelines/dali/test_dali_augment.py",)
KERNELS = "mixops/kernels/augment"

# one line a fault
# ruff: noqa: E501
FAULTS = (
    Fault("shear to the other side", "mixops/augment/operations.py", "(Op.SHEAR_X, 1, 1)", "(Op.SHEAR_X, 1, -1)", PIXELS),
    Fault("rotation turns clockwise", "mixops/augment/operations.py", "angle = -math.radians", "angle = math.radians", PIXELS),
    Fault("translation the other way", f"{KERNELS}/cpu.py", "pixels = -int64(math.floor(0.5 - arg))", "pixels = int64(math.floor(0.5 - arg))", PIXELS),
    Fault("nearest pixel cut off, not rounded", f"{KERNELS}/warps.py", "v * 65536.0 + 0.5", "v * 65536.0", PIXELS),
    Fault("fill of another channel", f"{KERNELS}/warps.py", "out[k + uint64(1)] = fill[1]", "out[k + uint64(1)] = fill[0]", PIXELS),
    Fault("border rounded, not cut off", f"{KERNELS}/warps.py", "uint8(int32(value))", "uint8(int32(value + 0.5))", PIXELS),
    Fault("blend rounded, not cut off", f"{KERNELS}/points.py", "return uint8(int32(v))", "return uint8(int32(v + float32(0.5)))", PIXELS),
    Fault("grey of another standard", f"{KERNELS}/points.py", "uint32(19595)", "uint32(13933)", PIXELS),
    Fault("last pixel not counted", f"{KERNELS}/points.py", "if pixels % 2:", "if False:", PIXELS),
    Fault("equalization starts at 0", f"{KERNELS}/points.py", "n = step // 2", "n = int64(0)", PIXELS),
    Fault("one channel's ends for all", f"{KERNELS}/points.py", "int64(ends[0, c]), int64(ends[1, c])", "int64(ends[0, 0]), int64(ends[1, 0])", PIXELS),
    Fault("solarized above the threshold", f"{KERNELS}/points.py", "if v >= first else v", "if v > first else v", PIXELS),
    Fault("smoothing with another centre", f"{KERNELS}/filters.py", "uint16(4) * uint16(v)", "uint16(3) * uint16(v)", PIXELS),
    Fault("blur's box a pixel short", f"{KERNELS}/filters.py", "uint64(min(y + radius, last) * size)", "uint64(min(y + radius - 1, last) * size)", PIXELS),
    Fault("hue in 256 steps a turn", f"{KERNELS}/hue.py", "steps = int32(float64(turns) * 255.0)", "steps = int32(float64(turns) * 256.0)", PIXELS),
    Fault("contrast around the middle grey", f"{KERNELS}/cpu.py", "mean_grey(image) if op == _CONTRAST", "128 if op == _CONTRAST", PIXELS),
    Fault("shares of the chain before", f"{KERNELS}/cpu.py", "share = weight[c + 1]", "share = weight[c]", PIXELS),
    Fault("erased box a column short", f"{KERNELS}/cpu.py", "uint32(at + 3 * box[3])", "uint32(at + 3 * max(box[3], 1) - 3)", PIXELS),
    Fault("noise without its seed", f"{KERNELS}/cpu.py", "_scramble(uint32(k)) ^ seed", "_scramble(uint32(k))", PIXELS),
    Fault("noise repeated between ranks", "mixops/augment/composition.py", "(seeds[:, 0] * 2**32).astype", "np.arange(b).astype", CONTRACT),
    Fault("rows of every rank drawn alike", "mixops/augment/composition.py", "start=int(run[0]) * words", "start=0", CONTRACT),
    Fault("erasing takes the words of operations", "mixops/augment/composition.py", "row_uniform(key, Stream.ERASE", "row_uniform(key, Stream.AUGMENT", CONTRACT),
    Fault("no operation has the largest magnitude", "mixops/augment/policies/trivial_augment.py", "(level * self.num_magnitude_bins)", "(level * (self.num_magnitude_bins - 1))", TORCHVISION),
    Fault("signs for what has none", "mixops/augment/policies/tables.py", "self.signed[which] & (sign < 0.5)", "(sign < 0.5)", TORCHVISION),
    Fault("probability turned round", "mixops/augment/policies/base.py", "skipped = done >= prob", "skipped = done < prob", TORCHVISION),
    Fault("timm's factors negated both ways", "mixops/augment/timm/tables.py", "1.0 + _sign(u) * level * 0.9", "1.0 + level * 0.9", TIMM),
    Fault("the first try is taken, fitting or not", "mixops/augment/erasing.py", "first = fits.argmax(2)[..., None]", "first = 0 * fits.argmax(2)[..., None]", ERASING),
    Fault("a transform has the numbers of every step", "loaders/transform.py", "int(key.words(Stream.TRANSFORM, 1, start=nth)[0] >> 1)", "0", TRANSFORM),
    Fault("a second view is the first", "loaders/transform.py", "first = view * (len(images) // views) + at", "first = at", TRANSFORM),
    Fault("what was left for the device is forgotten", "loaders/output.py", "if augment is not None:", "if False:", ON_DEVICE),
    Fault("augmented on the CPU and on the device", "loaders/backends/ffcv.py", "None if self._config.augments_on_device else shown.augment", "shown.augment", ON_DEVICE),
    Fault("every rank is augmented as the first", "pipelines/ffcv/stages.py", "draw(batch.key, batch.rows,", "draw(batch.key, np.arange(len(batch.rows)),", FFCV),
    Fault("in the decoder every rank is augmented as the first", "pipelines/ffcv/augmented.py", "draw(key, rows, self._size", "draw(key, np.arange(len(rows)), self._size", (f"{FFCV[0]}::test_in_the_decoder_it_is_the_stage_behind_it",)),
    Fault("in the decoder rows are augmented by the first's plan", "pipelines/ffcv/augmented.py", "augment_rows(row, row + 1, images.reshape(b, h * w * 3), 0,", "augment_rows(0, 1, images.reshape(b, h * w * 3)[row:], 0,", (f"{FFCV[0]}::test_in_the_decoder_it_is_the_stage_behind_it",)),
    Fault("DALI sharpens the border", "pipelines/dali/augment.py", "* inner + images * edge", "* inner + smooth * edge", DALI),
    Fault("DALI's epochs never end", "pipelines/dali/augment_plans.py", "divmod(int(info.iteration), self.steps_per_epoch)", "(0, int(info.iteration))", DALI),
)  # fmt: skip
