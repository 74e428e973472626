"""Faults in ``mixops``: plans, label weights, pixels, CUDA kernels."""

from __future__ import annotations

from .base import Fault

# the quick ones first: a fault is caught by the first test that fails
DRAWING = (
    "mixops/mixers/test_contract.py",
    "mixops/test_key.py",
    "mixops/mixers/test_switch.py",
    "mixops/mixers/test_conformance_authors.py",
)
LOSS = ("mixops/test_losses.py",)
TARGETS = ("mixops/apply/test_targets.py", "mixops/test_plan.py", "mixops/mixers/test_contract.py")
PIXELS = ("mixops/test_inputs.py",)
CROPS = ("mixops/augment/test_crops.py",)
SALIENCY = ("mixops/mixers/test_spectral.py",)
CUDA = ("mixops/kernels/test_blend_cuda.py",)

# one line a fault
# ruff: noqa: E501
FAULTS = (
    Fault("label from the wrong side, dense", "mixops/apply/targets.py", "labels[:, None]] += weight", "labels[:, None]] += 1 - weight", TARGETS),
    Fault("label from the wrong side, on devices", "mixops/apply/targets.py", "((own, weight), (own[partner], 1 - weight))", "((own, 1 - weight), (own[partner], weight))", TARGETS),
    Fault("label from the wrong side, soft", "mixops/apply/targets.py", "shares(weight, labels[:, None], labels[partner][:, None])", "shares(weight, labels[partner][:, None], labels[:, None])", TARGETS),
    Fault("label from the wrong side, sparse", "mixops/apply/targets.py", "torch.cat([weight, 1 - weight], -1)", "torch.cat([1 - weight, weight], -1)", TARGETS),
    Fault("same class assigned, not added", "mixops/apply/targets.py", "labels[plan.partner][:, None]] += (1 - weight)", "labels[plan.partner][:, None]] = (1 - weight)", TARGETS),
    Fault("smoothing applied twice", "mixops/apply/targets.py", "labels[:, None]] += weight * (1 - smoothing)", "labels[:, None]] += weight * (1 - smoothing) ** 2", TARGETS),
    Fault("smoothing forgotten for soft labels", "mixops/apply/targets.py", "targets * (1 - smoothing) + smoothing / labels.shape[1] if smoothing else targets", "targets", TARGETS),
    Fault("loss ignores smoothing of sparse targets", "mixops/losses.py", "label_smoothing * mass * logits.mean(-1)", "0 * mass * logits.mean(-1)", LOSS),
    Fault("label weight is the drawn lambda", "mixops/mixers/beta.py", 'weight = lam.copy() if self.label == "sampled" else mask_means(params, height, width)', "weight = lam.copy()", DRAWING),
    Fault("box area not clipped", "mixops/mixers/boxes.py", "np.minimum(middle + half, side)", "middle + half", DRAWING),
    Fault("box off by one", "mixops/mixers/boxes.py", "np.minimum(middle + half, side)", "np.minimum(middle + half + 1, side)", DRAWING),
    Fault("box of the side, not its root", "mixops/mixers/cutmix.py", "np.sqrt(1 - draws.lam)", "(1 - draws.lam)", DRAWING),
    Fault("box of the partner's share", "mixops/mixers/cutmix.py", "np.sqrt(1 - draws.lam)", "np.sqrt(draws.lam)", DRAWING),
    Fault("height and width exchanged", "mixops/mixers/boxes.py", "((Y0, Y1, cy, height), (X0, X1, cx, width))", "((Y0, Y1, cy, width), (X0, X1, cx, height))", DRAWING),
    Fault("centre of rows used for columns", "mixops/mixers/boxes.py", "(X0, X1, cx, width)", "(X0, X1, cy, width)", DRAWING),
    Fault("Gaussian normalised by the height alone", "mixops/mixers/gmix.py", "1) * height * width)", "1) * height * height)", DRAWING),
    Fault("Gaussian's roles not exchanged below one half", "mixops/mixers/gmix.py", '(lam.mean(1, keepdims=True) < 0.5)', '(lam.mean(1, keepdims=True) < 0)', DRAWING),
    Fault("roles of GMix exchanged within a pair", "mixops/mixers/gmix.py", "(lam.mean(1, keepdims=True) < 0.5)", "(lam < 0.5)", DRAWING),
    Fault("conventions of GMix exchanged", "mixops/mixers/gmix.py", '(1 if self.convention == "authors" else 2)', '(2 if self.convention == "authors" else 1)', DRAWING),
    Fault("K Gaussians of a pair apart", "mixops/mixers/gmix.py", "np.floor(draws.cx * width)[:, None]", "np.floor(draws.cx * width)[:, None] + np.arange(lam.shape[1])", DRAWING),
    Fault("mean of a Gaussian half a pixel off", "mixops/masks.py", "x = ends - (middle + 0.5)", "x = ends - middle", DRAWING),
    Fault("HMix outside by the paper's weight", "mixops/mixers/hmix.py", 'self.convention == "authors" else', 'self.convention == "nobody" else', DRAWING),
    Fault("HMix divides by zero", "mixops/mixers/hmix.py", "np.divide(lam, free, out=np.zeros_like(lam), where=free > 0)", "np.float64(1) * lam / free", DRAWING),
    Fault("lambda shared by all rows by accident", "mixops/mixers/beta.py", "u[:, SHARED_WORDS:].reshape(len(u)", "np.broadcast_to(u[:1, SHARED_WORDS:], u[:, SHARED_WORDS:].shape).reshape(len(u)", DRAWING),
    Fault("lambda shared by the outputs of a pair", "mixops/mixers/beta.py", "lam = -np.sort(-lam, axis=1)", "lam = np.repeat(lam[:, :1], lam.shape[1], 1)", DRAWING),
    Fault("lambdas rise along k", "mixops/mixers/beta.py", "np.argsort(-masks.weight, axis=1", "np.argsort(masks.weight, axis=1", DRAWING),
    Fault("lambda is never below one half", "mixops/mixers/beta.py", "np.where(u[..., 2] < 0.5, -half, half)", "half", DRAWING),
    Fault("lambda's law has another alpha", "mixops/mixers/beta.py", "-np.log1p(-u[..., 0]) / alpha", "-np.log1p(-u[..., 0]) / (alpha + 0.5)", DRAWING),
    Fault("lambda not rounded to float32", "mixops/mixers/beta.py", ".astype(np.float32).astype(np.float64)", "", DRAWING),
    Fault("prob turned round", "mixops/mixers/beta.py", "u[:, APPLY] >= self.prob", "u[:, APPLY] < self.prob", DRAWING),
    Fault("prob leaves the label mixed", "mixops/mixers/beta.py", "for array in (masks.lam, masks.weight, masks.dense)", "for array in (masks.lam, masks.dense)", DRAWING),
    Fault("draw='batch' draws for rows", "mixops/mixers/base.py", "return np.zeros_like(block_of_row)", "return block_of_row", DRAWING),
    Fault("partner not inverted", "mixops/pairing/blocks.py", "partner[self.rows] = self.columns", "partner[:] = self.columns", DRAWING),
    Fault("everybody his own partner", "mixops/pairing/blocks.py", "np.roll(rows, -k)", "np.roll(rows, 0)", DRAWING),
    Fault("rank forgotten in the key", "mixops/key.py", "[block, self.rank, self.step, self.epoch]", "[block, 0, self.step, self.epoch]", DRAWING),
    Fault("epoch forgotten in the key", "mixops/key.py", "[block, self.rank, self.step, self.epoch]", "[block, self.rank, self.step, 0]", DRAWING),
    Fault("streams share their words", "mixops/key.py", "[self.seed, stream]", "[self.seed, 0]", DRAWING),
    Fault("switch takes labels from another member", "mixops/mixers/switch.py", "for plan in plans])[choice, rows]", "for masks in drawn])[choice if name != 'weight' else 0 * choice, rows]", DRAWING),
    Fault("switch ignores its weights", "mixops/mixers/switch.py", "np.cumsum(np.asarray(self.weights))", "np.cumsum(np.ones(len(self.weights)))", DRAWING),
    Fault("FMix label is the mean of another cut", "mixops/mixers/fmix.py", "return masks.reshape(u, k, height, width), counts / pixels", "return masks.reshape(u, k, height, width), counts / (pixels + 1)", DRAWING),
    Fault("joined plans point into the first batch", "mixops/plan.py", "plan.partner + start", "plan.partner", TARGETS),
    Fault("JSON keeps six digits", "mixops/plan.py", "None if array is None else array.tolist()", "None if array is None else array.round(6).tolist()", TARGETS),
    Fault("accuracy forgets the partner", "mixops/plan.py", "guess == label[self.partner]", "guess == label", TARGETS),
    Fault("uint8 truncated", "mixops/kernels/blend/eager.py", "mixed.round_().clamp_(0, 255)", "mixed.clamp_(0, 255)", PIXELS),
    Fault("uint8 scaled by 1/256", "mixops/apply/normalisation.py", "unit = 255.0 if", "unit = 256.0 if", PIXELS),
    Fault("mean not divided by std", "mixops/apply/normalisation.py", "1 / (unit * s), -m / s", "1 / (unit * s), -m", PIXELS),
    Fault("mask turned round", "mixops/kernels/blend/eager.py", "outputs.append(mix(mask, a, b))", "outputs.append(mix(mask, b, a))", PIXELS),
    Fault("label maps from the wrong side", "mixops/apply/label_maps.py", "torch.where(mask >= 0.5, own, other)", "torch.where(mask >= 0.5, other, own)", ("mixops/apply/test_label_maps.py",)),
    Fault("keyless calls repeat themselves", "mixops/mixers/keyless.py", "self._step += 1", "self._step += 0", ("mixops/test_call.py",)),
    Fault("ranks seeded alike mix alike", "mixops/runtime/ranks.py", 'int(os.environ.get("RANK", 0))', "0", ("mixops/test_call.py",)),
    Fault("CUDA: the wrong tile", "mixops/kernels/blend/cuda.py", "pair, tile = fast, slow", "pair, tile = fast, slow + 1", CUDA),
    Fault("CUDA: its own partner", "mixops/kernels/blend/cuda.py", "tl.load(pairs + batch + pair)", "tl.load(pairs + pair)", CUDA),
    Fault("CUDA: masks of the first strip in all", "mixops/kernels/blend/cuda.py", "y = row + i * deep", "y = row", CUDA),
    Fault("CUDA: masks a pixel late", "mixops/kernels/blend/cuda.py", "later = c + j % C >= C", "later = c + j % C > C", CUDA),
    Fault("CUDA: bytes of another pixel", "mixops/kernels/blend/cuda.py", "(6 + C) // 4", "(7 + C) // 4", CUDA),
    Fault("CUDA: two bytes exchanged", "mixops/kernels/blend/cuda.py", "prmt.b32 $1, $4, 0x4B000000, 0x7441;", "prmt.b32 $1, $4, 0x4B000000, 0x7442;", CUDA),
    Fault("CUDA: bits of a word's first pixels in all", "mixops/kernels/blend/cuda.py", ">> (p & 31)", ">> (p & 15)", CUDA),
    Fault("CUDA: a pair's only output not scaled", "mixops/kernels/blend/cuda.py", "value = value * scales[i] + biases[i]", "value = value * scales[i]", CUDA),
    Fault("CUDA: loads put off", "mixops/kernels/blend/cuda.py", "    tl.debug_barrier()\n    difference", "    difference", CUDA),
    Fault("CUDA: bits from the highest", "mixops/kernels/blend/launch.py", 'bitorder="little"', 'bitorder="big"', CUDA),
    Fault("CUDA: no box where there is a bell", "mixops/kernels/blend/launch.py", "(p[..., DV] == 0)).all() else BOTH", "(p[..., DV] == 0)).all() else BELL", CUDA),
    Fault("CUDA: division one off", "mixops/kernels/blend/launch.py", "-(-(1 << 31 + shift) // d)", "(1 << 31 + shift) // d", CUDA),
    Fault("two channels exchanged on the way to planes", "mixops/kernels/blend/cpu.py", "out[side, w + x] = rows[at, 3 * x + 1]", "out[side, w + x] = rows[at, 3 * x + 2]", ("mixops/kernels/test_blend_cpu.py",)),
    Fault("binary masks turned round", "mixops/kernels/blend/cpu.py", "float32(binary[b, j, y, x])", "1 - float32(binary[b, j, y, x])", ("mixops/mixers/test_fmix.py", "mixops/test_inputs.py")),
    Fault("left of a crop takes the word of top", "mixops/augment/words.py", "_SHARED, WORDS = 20, 21, 22, 23, 24", "_SHARED, WORDS = 20, 20, 22, 23, 24", CROPS),
    Fault("flip takes the word of an aspect", "mixops/augment/words.py", "_SHARED, WORDS = 20, 21, 22, 23, 24", "_SHARED, WORDS = 20, 21, 10, 23, 24", CROPS),
    Fault("rows of a crop overlap", "mixops/augment/words.py", "start=int(rows[0]) * WORDS", "start=int(rows[0]) * (WORDS - 1)", CROPS),
    Fault("no window touches the lower edge", "mixops/augment/crops.py", "np.floor(u[:, TOP, None] * (height - h + 1))", "np.floor(u[:, TOP, None] * (height - h))", CROPS),
    Fault("centre crop half a pixel off", "mixops/augment/crops.py", "np.rint((resized - crop) / 2)", "(resized - crop) / 2 + 0.5", CROPS),
    Fault("a shared pixel is the partner's", "mixops/apply/label_maps.py", "torch.where(mask >= 0.5, own, other)", "torch.where(mask > 0.5, own, other)", ("mixops/apply/test_label_maps.py",)),
    Fault("concentrations take the words of the key", "mixops/embedding/dirichlet.py", "(positions, tuples), start=4)", "(positions, tuples))", ("mixops/test_streams.py",)),
    Fault("all partners of a plan that mixes nothing are one", "mixops/plan.py", "return cls(np.arange(batch_size), ones", "return cls(np.zeros(batch_size, np.int64), ones", ("pipelines/dali/test_plans.py",)),
    Fault("a box where the row's own image is salient", "mixops/mixers/cutmix.py", "(x[partner] for x in peaks(found))", "(x for x in peaks(found))", SALIENCY),
    Fault("saliency of the amplitude, not of its residual", "mixops/mixers/saliency/spectral.py", "xp.exp(log - smooth)", "xp.exp(log)", SALIENCY),
    Fault("saliency of one image for all", "mixops/mixers/saliency/peaks.py", "values.argmax(1)", "values.argmax(1)[0]", SALIENCY),
    Fault("height and width of a peak exchanged", "mixops/mixers/saliency/peaks.py", "np.divmod(at, w)", "np.divmod(at, h)", SALIENCY),
    Fault("the compiler traces the draw", "mixops/runtime/uncompiled.py", "if torch.compiler.is_compiling():", "if False:", ("mixops/test_call.py",)),
)  # fmt: skip
