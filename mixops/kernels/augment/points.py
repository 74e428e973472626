"""Operations on single pixels, and the statistics that some of them need, in Pillow's arithmetic.

Blends are products and sums in float32, each rounded; tables are in float64; greys, sums and histograms are integers. An
image is a flat array of bytes, three a pixel.
"""

from __future__ import annotations

from numba import float32, int32, int64, uint8, uint32, uint64

from ...runtime.jit import INNER, njit


@njit(**INNER)
def posterize(flat, bits):
    """Keeps the leading bits."""
    mask = uint8(255 ^ ((1 << (8 - bits)) - 1))
    for i in range(flat.size):
        flat[i] = flat[i] & mask


@njit(**INNER)
def solarize(flat, threshold):
    """Inverts levels from a whole threshold on."""
    if threshold > 255:
        return
    first = uint8(threshold)
    for i in range(flat.size):
        v = flat[i]
        flat[i] = uint8(v ^ uint8(255)) if v >= first else v


@njit(**INNER)
def blend(degenerate, value, factor):
    """Pillow's ``Image.blend`` of two levels in float32, cut off at black and white."""
    start = float32(degenerate)
    v = start + factor * (float32(value) - start)
    v = v if v > float32(0) else float32(0)
    v = v if v < float32(255) else float32(255)
    return uint8(int32(v))


@njit(**INNER)
def blend_level(flat, degenerate, factor):
    """Blends with one level: black for brightness, the mean grey for contrast."""
    for i in range(flat.size):
        flat[i] = blend(degenerate, flat[i], factor)


@njit(**INNER)
def _grey(r, g, b):
    """Pillow's "L": 16 fractional bits, rounded."""
    sum = uint32(r) * uint32(19595) + uint32(g) * uint32(38470) + uint32(b) * uint32(7471)
    return int32(uint32(sum + uint32(32768)) >> uint32(16))


@njit(**INNER)
def grey_blend(flat, factor):
    """Blends each pixel with its grey; factor 0 is grayscale."""
    pixels = flat.size // 3
    for i in range(pixels):
        r, g, b = flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]
        y = _grey(r, g, b)
        flat[3 * i], flat[3 * i + 1], flat[3 * i + 2] = blend(y, r, factor), blend(y, g, factor), blend(y, b, factor)


@njit(**INNER)
def mean_grey(flat):
    """The mean grey, rounded half up."""
    pixels = flat.size // 3
    total = int64(0)
    for i in range(pixels):
        total += int64(_grey(flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]))
    return int64(float(total) / float(pixels) + 0.5)


@njit(**INNER)
def extremes(flat, ends):
    """Least and largest byte of each channel: ``ends`` (2, 96), of which three columns count."""
    for j in range(96):
        ends[0, j], ends[1, j] = uint8(255), uint8(0)
    whole = flat.size // 96
    for k in range(whole):
        for j in range(96):
            v = flat[uint64(k * 96 + j)]
            ends[0, j], ends[1, j] = min(ends[0, j], v), max(ends[1, j], v)
    for i in range(whole * 96, flat.size):
        j = i % 3
        ends[0, j], ends[1, j] = min(ends[0, j], flat[i]), max(ends[1, j], flat[i])
    for j in range(3, 96):
        ends[0, j % 3], ends[1, j % 3] = min(ends[0, j % 3], ends[0, j]), max(ends[1, j % 3], ends[1, j])


@njit(**INNER)
def stretch_tables(ends, tables):
    """autocontrast: [least, largest] -> [0, 255] in each channel."""
    for c in range(3):
        low, high = int64(ends[0, c]), int64(ends[1, c])
        scale = 255.0 / (high - low) if low < high else 1.0
        offset = -low * scale if low < high else 0.0
        for v in range(256):
            tables[c, v] = uint8(min(max(int64(v * scale + offset), 0), 255))


@njit(**INNER)
def histograms(flat, counts):
    """``counts`` (2, 3, 256): how often a channel has a level, in two parts, since equal neighbours wait for one another."""
    counts[:] = 0
    pixels = flat.size // 3
    for i in range(0, pixels - 1, 2):
        k = uint64(3 * i)
        counts[0, 0, flat[k]] += uint32(1)
        counts[0, 1, flat[k + uint64(1)]] += uint32(1)
        counts[0, 2, flat[k + uint64(2)]] += uint32(1)
        counts[1, 0, flat[k + uint64(3)]] += uint32(1)
        counts[1, 1, flat[k + uint64(4)]] += uint32(1)
        counts[1, 2, flat[k + uint64(5)]] += uint32(1)
    if pixels % 2:
        for c in range(3):
            counts[0, c, flat[3 * (pixels - 1) + c]] += uint32(1)


@njit(**INNER)
def equal_tables(counts, tables):
    """equalize: steps of the cumulative histogram of each channel."""
    for c in range(3):
        total, last = int64(0), int64(0)
        for v in range(256):
            n = int64(counts[0, c, v]) + int64(counts[1, c, v])
            total += n
            last = n if n else last
        step = (total - last) // 255
        n = step // 2
        for v in range(256):
            tables[c, v] = uint8(v) if step == 0 else uint8(min(n // step, 255))
            n += int64(counts[0, c, v]) + int64(counts[1, c, v])


@njit(**INNER)
def add_tables(amount, tables):
    """solarize_add: levels below 128 are raised."""
    for c in range(3):
        for v in range(256):
            tables[c, v] = uint8(min(255, v + amount) if v < 128 else v)


@njit(**INNER)
def look_up(flat, tables):
    """Each channel through its table, ``tables`` (3, 256)."""
    for i in range(uint64(flat.size // 3)):
        k = uint64(3) * i
        flat[k] = tables[0, flat[k]]
        flat[k + uint64(1)] = tables[1, flat[k + uint64(1)]]
        flat[k + uint64(2)] = tables[2, flat[k + uint64(2)]]
