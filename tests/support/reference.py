"""The only oracle: what a plan means, in slow and obvious float64 loops.

Nothing here calls the code under test. A plan is read as data: ``partner``, ``weight``, ``params``, ``dense``, ``moves``,
``inset``, ``height`` and ``width``. The masks of the mixers are written from the formulas of their papers and of their
authors' code, with lambda and the centre given.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np

# ---------------------------------------------------------------------------------------------- what a plan means


def mask(plan: Any, i: int, k: int) -> np.ndarray:
    """The mask of output k of row i, float64 (h, w), from its nine floats, pixel by pixel."""
    if plan.more is not None:
        return source_mask(plan, i, k, 0)
    if plan.dense is not None:
        return by_pixel(plan.dense[i, k], plan.height, plan.width)
    v0, dv, y0, y1, x0, x1, cy, cx, a = (float(value) for value in plan.params[i, k])
    out = np.empty((plan.height, plan.width))
    for y, x in product(range(plan.height), range(plan.width)):
        inside = y0 <= y < y1 and x0 <= x < x1
        out[y, x] = v0 + dv * math.exp(-a * ((y - cy) ** 2 + (x - cx) ** 2)) if inside else v0
    return out


def by_pixel(blocks: np.ndarray, height: int, width: int) -> np.ndarray:
    """What is said of blocks of equal size, said of each pixel, float64 (h, w)."""
    high, wide = height // len(blocks), width // len(blocks[0])
    return np.array([[float(blocks[y // high, x // wide]) for x in range(width)] for y in range(height)])


def source_mask(plan: Any, i: int, k: int, j: int) -> np.ndarray:
    """The mask of source j in output k of row i, float64 (h, w)."""
    share = plan.more.masks[i, k, j]
    return by_pixel(share if share.ndim else np.full((1, 1), share), plan.height, plan.width)


def mask_mean(plan: Any, i: int, k: int) -> float:
    """The mean of that mask."""
    return math.fsum(mask(plan, i, k).ravel()) / (plan.height * plan.width)


def moved(image: np.ndarray, source: np.ndarray) -> np.ndarray:
    """An image (..., h, w) that shows its block ``source[j]`` at block j of a square grid, numbered row by row."""
    n = math.isqrt(len(source))
    h, w = image.shape[-2] // n, image.shape[-1] // n
    out = np.empty_like(image)
    for place, block in enumerate(source):
        y, x = divmod(place, n)
        v, u = divmod(int(block), n)
        out[..., y * h : y * h + h, x * w : x * w + w] = image[..., v * h : v * h + h, u * w : u * w + w]
    return out


def inset(image: np.ndarray, box: Any) -> np.ndarray:
    """An image (..., h, w) that is shown whole, by its nearest pixels, inside the box of nine floats."""
    out = image.copy()
    y0, y1, x0, x1 = (int(edge) for edge in box[2:6])
    h, w = image.shape[-2:]
    for y, x in product(range(y0, y1), range(x0, x1)):
        out[..., y, x] = image[..., (y - y0) * h // (y1 - y0), (x - x0) * w // (x1 - x0)]
    return out


def _shown(image: np.ndarray, plan: Any, i: int, k: int, signals: bool) -> np.ndarray:
    """The partner of row i as output k shows it."""
    if plan.inset is None or not plan.inset[i]:
        return image
    return inset(image[:, None], plan.params[i, k])[:, 0] if signals else inset(image, plan.params[i, k])


def mix_images(images: np.ndarray, plan: Any, mean: Any = None, std: Any = None, history: Any = None) -> np.ndarray:
    """Mixed images, float64 (b * k, ...), row b * K + k output k of pair b.

    ``images`` are (b, c, h, w), or (b, c, ..., h, w), or (b, ..., w) with a plan of height 1, or of any shape where every
    mask of the plan is constant. With ``mean`` and ``std``, one value a channel or one for all, the result is
    ``(x - mean) / std``, uint8 images being scaled by 1/255 first; without them it stays on the scale of the input,
    not rounded. ``history`` holds the partners of the past, normalised like ``images`` where these are.
    """
    images = np.asarray(images)
    values = images.astype(np.float64)
    if mean is not None:
        values = values / 255 if images.dtype == np.uint8 else values
        channels = images.shape[1]
        for c in range(channels):
            m = float(np.ravel(mean)[c % np.size(mean)])
            s = float(np.ravel(std)[c % np.size(std)])
            values[:, c] = (values[:, c] - m) / s
    if plan.more is not None:
        return _mix_several(values, plan, history)
    placed = (plan.dense, plan.moves, plan.inset)
    constant = all(field is None for field in placed) and all(p[1] == 0 for p in plan.params.reshape(-1, 9))
    rows = []
    for i in range(len(images)):
        j = int(plan.partner[i])
        for k in range(plan.weight.shape[1]):
            own, other = values[i], _partner(values, plan, i, j, history)
            if plan.moves is not None:
                own, other = moved(own, plan.moves[i, k, 0]), moved(other, plan.moves[i, k, 1])
            other = _shown(other, plan, i, k, images.ndim == 3)
            if constant:
                m = np.float64(plan.params[i, k, 0])
            else:
                m = mask(plan, i, k)
                m = m[0] if images.ndim == 3 else m  # a signal (c, w) is an image of height one
            rows.append(m * own + (1 - m) * other)
    return np.stack(rows)


def _partner(values: np.ndarray, plan: Any, i: int, j: int, history: Any) -> np.ndarray:
    """Row j of this batch, or of the one before where the plan says so of row i."""
    if plan.past is None or not plan.past[i]:
        return values[j]
    return np.asarray(history[j], np.float64)


def _mix_several(values: np.ndarray, plan: Any, history: Any) -> np.ndarray:
    """Rows of several sources: the sum of all under their masks; what has no share takes no part."""
    rows = []
    for i in range(len(values)):
        for k in range(plan.weight.shape[1]):
            total = np.zeros(values.shape[1:])
            for j, source in enumerate(plan.more.rows[i]):
                share = plan.more.masks[i, k, j]
                m = source_mask(plan, i, k, j) if share.ndim else np.asarray(share, np.float64)
                image = _partner(values, plan, i, source, history) if j == 1 else values[source]
                if plan.moves is not None and j < 2:
                    image = moved(image, plan.moves[i, k, j])
                if j == 1:
                    image = _shown(image, plan, i, k, values.ndim == 3)
                m = m[0] if m.ndim and values.ndim == 3 else m
                total += np.where(m == 0, 0, m * image)
            rows.append(total)
    return np.stack(rows)


def mix_targets(
    labels: np.ndarray, plan: Any, num_classes: int | None = None, smoothing: float = 0.0, history: Any = None
) -> np.ndarray:
    """Targets of the mixed images, float64 (b * k, classes); int ``labels`` (b,) or weights (b, classes).

    ``history`` holds the targets of the batch before, which are not smoothed again.
    """
    labels = np.asarray(labels)
    if labels.ndim == 1:
        assert num_classes is not None
        whole = np.zeros((len(labels), num_classes))
        for i, label in enumerate(labels):
            whole[i, label] = 1
    else:
        whole = labels.astype(np.float64)
    classes = whole.shape[1]
    whole = (1 - smoothing) * whole + smoothing / classes
    rows = []
    for i in range(len(labels)):
        for k in range(plan.weight.shape[1]):
            if plan.more is None:
                parts = [(i, float(plan.weight[i, k])), (plan.partner[i], 1 - float(plan.weight[i, k]))]
            else:
                parts = list(zip(plan.more.rows[i], map(float, plan.more.weight[i, k]), strict=True))
            found = [
                (_partner(whole, plan, i, source, history) if j == 1 else whole[source])
                for j, (source, _) in enumerate(parts)
            ]
            rows.append(
                [math.fsum(w * target[c] for target, (_, w) in zip(found, parts, strict=True)) for c in range(classes)]
            )
    return np.array(rows)


def soft_cross_entropy(logits: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Cross-entropy of each row of logits against its dense target, float64 (n,)."""
    out = []
    for row, target in zip(np.asarray(logits, np.float64), np.asarray(targets, np.float64), strict=True):
        top = max(row)
        log_total = top + math.log(math.fsum(math.exp(value - top) for value in row))
        out.append(math.fsum(t * (log_total - value) for t, value in zip(target, row, strict=True)))
    return np.array(out)


# ---------------------------------------------------------------------------------- masks from the papers' formulas


def mixup_mask(lam: float, height: int, width: int) -> np.ndarray:
    """mixup (arXiv 1710.09412): lambda everywhere."""
    return np.full((height, width), float(lam))


def box(ratio: float, cy: int, cx: int, height: int, width: int) -> tuple[int, int, int, int]:
    """y0, y1, x0, x1 of the box of ``rand_bbox`` in the CutMix authors' code: centre given, clipped to the image."""
    cut_h, cut_w = int(height * ratio), int(width * ratio)
    y0, y1 = min(max(cy - cut_h // 2, 0), height), min(max(cy + cut_h // 2, 0), height)
    x0, x1 = min(max(cx - cut_w // 2, 0), width), min(max(cx + cut_w // 2, 0), width)
    return y0, y1, x0, x1


def _box_mask(inside: float, outside: float, edges: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    out = np.empty((height, width))
    for y, x in product(range(height), range(width)):
        out[y, x] = inside if edges[0] <= y < edges[1] and edges[2] <= x < edges[3] else outside
    return out


def cutmix_mask(lam: float, cy: int, cx: int, height: int, width: int) -> np.ndarray:
    """CutMix (arXiv 1905.04899 and its authors' code): sides sqrt(1 - lambda) of the image's, 0 inside, 1 outside."""
    return _box_mask(0.0, 1.0, box(math.sqrt(1 - lam), cy, cx, height, width), height, width)


def hmix_mask(
    lam: float, cy: int, cx: int, height: int, width: int, r: float = 0.75, convention: str = "authors"
) -> np.ndarray:
    """HMix (arXiv 2203.08437, section 4): 0 inside a box of sides sqrt(1 - lambda) * sqrt(r), a blend outside.

    Authors' code: lambda over the share of the image that is outside the clipped box. Paper: lambda / (1 - (1 - lambda) r).
    """
    y0, y1, x0, x1 = edges = box(math.sqrt(1 - lam) * math.sqrt(r), cy, cx, height, width)
    if convention == "paper":
        outside_share = 1 - (1 - lam) * r
    else:
        outside_share = 1 - (y1 - y0) * (x1 - x0) / (height * width)
    return _box_mask(0.0, lam / outside_share if outside_share > 0 else 0.0, edges, height, width)


def gmix_mask(
    lam: float, cy: int, cx: int, height: int, width: int, convention: str = "authors", own_bump: bool | None = None
) -> np.ndarray:
    """GMix (arXiv 2203.08437, section 4), N^2 being the number of pixels.

    Paper: 1 - exp(-|i - p|^2 pi / (2 (1 - lambda) N^2)). Authors' code: the row's own image is shown by
    exp(-pi |i - p|^2 / (lambda N^2)) for lambda < 1/2, or where ``own_bump`` says so, and by
    1 - exp(-pi |i - p|^2 / ((1 - lambda) N^2)) otherwise.
    """
    out = np.empty((height, width))
    own = lam < 0.5 if own_bump is None else own_bump
    for y, x in product(range(height), range(width)):
        d2 = (y - cy) ** 2 + (x - cx) ** 2
        if convention == "paper":
            out[y, x] = 1 - (math.exp(-d2 * math.pi / (2 * (1 - lam) * height * width)) if lam < 1 else 0)
        else:
            p = lam if own else 1 - lam
            g = math.exp(-math.pi * d2 / (p * height * width)) if p > 0 else 0.0
            out[y, x] = g if own else 1 - g
    return out


def gmix_masks(lams: list[float], cy: int, cx: int, height: int, width: int) -> list[np.ndarray]:
    """The masks of a pair by the authors' kernel: the mean of its lambdas decides which image is the bump in all of them."""
    own_bump = math.fsum(lams) / len(lams) < 0.5
    return [gmix_mask(lam, cy, cx, height, width, own_bump=own_bump) for lam in lams]


# ------------------------------------------------------------------------------------------------------ random words


def philox4x64(counter: tuple[int, ...], key: tuple[int, ...]) -> tuple[int, ...]:
    """Philox-4x64-10 (Salmon et al. 2011, "Parallel random numbers: as easy as 1, 2, 3") in Python integers."""
    word = 2**64
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        hi0, lo0 = divmod(0xD2E7470EE14C6C93 * c0, word)
        hi1, lo1 = divmod(0xCA5A826395121157 * c2, word)
        c0, c1, c2, c3 = hi1 ^ c1 ^ k0, lo1, hi0 ^ c3 ^ k1, lo0
        k0, k1 = (k0 + 0x9E3779B97F4A7C15) % word, (k1 + 0xBB67AE8584CAA73B) % word
    return c0, c1, c2, c3


def words(seed: int, epoch: int, step: int, rank: int, stream: int, count: int) -> list[int]:
    """The first ``count`` words of a stream of a key. Block n of a stream has the counter (n + 1, rank, step, epoch)."""
    out: list[int] = []
    block = 0
    while len(out) < count:
        block += 1  # NumPy's Philox adds one to its counter before it makes a block
        out += philox4x64((block, rank, step, epoch), (seed, stream))
    return out[:count]


def uniforms(raw: list[int]) -> list[float]:
    """Words as uniform numbers in [0, 1): the upper 53 bits."""
    return [(word >> 11) / 2**53 for word in raw]


def symmetric_beta(u: float, v: float, sign: float, alpha: float) -> float:
    """Beta(alpha, alpha) from three uniforms (Devroye 1996), as the nearest float32."""
    exponent = -math.log1p(-u) / alpha
    odds = (math.expm1(exponent) if exponent < 709 else math.inf) * math.cos(2 * math.pi * v) ** 2
    half = 0.5 / math.sqrt(1 + 1 / odds) if odds > 0 else 0.0
    return float(np.float32(0.5 - half if sign < 0.5 else 0.5 + half))
