"""The CUDA kernels of augmentation plans: passes over uint8 images, the bytes those of the CPU executor and so Pillow's.

    statistics and tables    3 x 256 bytes of each row that looks levels up, from its argument or from its own histogram
    apply                    one pass of each row, from the slot where its image is to the one where it goes (``passes``)

A kernel is of one kind of pass, so that what few rows need, float64 and sixteen neighbours, costs the others no registers,
and its programs are blocks of all the images whose pass is of that kind. A program counts the whole image for a channel's
histogram: no atomics, nothing to clear, and no order that could show.

Integers are exact. Floats are float32 or float64 as on the CPU, each operation rounded: launches say
``enable_fp_fusion=False``, or products and sums would be fused, and float32 divides by ``div_rn``, since ``/`` is
approximate. Offsets within an image are 32 bit, image offsets 64 bit: a batch may exceed 2**31 bytes.
"""

from __future__ import annotations

import triton
import triton.language as tl

from ...augment.operations import Op
from .passes import ARG, FILL, NUMBERS, OP, SOURCE, TARGET, WIDTH

_SOURCE, _TARGET, _OP, _ARG = tl.constexpr(SOURCE), tl.constexpr(TARGET), tl.constexpr(OP), tl.constexpr(ARG)
_NUMBERS, _FILL, _WIDTH = tl.constexpr(NUMBERS), tl.constexpr(FILL), tl.constexpr(WIDTH)
_BRIGHTNESS, _CONTRAST = tl.constexpr(int(Op.BRIGHTNESS)), tl.constexpr(int(Op.CONTRAST))
_POSTERIZE, _SOLARIZE, _INVERT = (
    tl.constexpr(int(Op.POSTERIZE)),
    tl.constexpr(int(Op.SOLARIZE)),
    tl.constexpr(int(Op.INVERT)),
)
_AUTOCONTRAST, _EQUALIZE = tl.constexpr(int(Op.AUTOCONTRAST)), tl.constexpr(int(Op.EQUALIZE))
# one compilation serves every batch, level and size
_SIZES = ("batch", "first", "blocks", "height", "width", "boxes")
_POINTERS = ("tables", "record", "matrix", "mixed", "weight", "box", "seed", "values")  # parts of one upload


@triton.jit
def _slot(images, out, spare, batch, slot, size):
    """Where the image in a slot begins."""
    base, n = images, slot
    if slot >= 2 * batch:
        base, n = spare, slot - 2 * batch
    elif slot >= batch:
        base, n = out, slot - batch
    return base + n.to(tl.int64) * size


@triton.jit
def _pass(images, out, spare, record, batch, first, blocks, size, BLOCK: tl.constexpr):
    """The program's pass and its place: which of the run, its record, both images, and the first of its items."""
    which = tl.program_id(0) // blocks
    line = record + (first + which) * _WIDTH
    source = _slot(images, out, spare, batch, tl.load(line + _SOURCE), size)
    to = _slot(images, out, spare, batch, tl.load(line + _TARGET), size)
    return which, line, source, to, (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)


@triton.jit
def _argument(line):
    return tl.load(line + _ARG).to(tl.float32, bitcast=True)


@triton.jit
def _blend(degenerate, value, factor):
    """Pillow's blend of two integer levels in float32, cut off at black and white."""
    start = degenerate.to(tl.float32)
    v = start + factor * (value.to(tl.float32) - start)
    return tl.minimum(tl.maximum(v, 0.0), 255.0).to(tl.int32)


@triton.jit
def _grey(r, g, b):
    """Pillow's "L": 16 fractional bits, rounded."""
    return (19595 * r + 38470 * g + 7471 * b + 32768) >> 16


@triton.jit
def _pixel(image, i, ok):
    """The three channels of pixels ``i``, int32."""
    r = tl.load(image + 3 * i, mask=ok, other=0).to(tl.int32)
    g = tl.load(image + 3 * i + 1, mask=ok, other=0).to(tl.int32)
    return r, g, tl.load(image + 3 * i + 2, mask=ok, other=0).to(tl.int32)


@triton.jit
def _put(image, i, r, g, b, ok):
    tl.store(image + 3 * i, r.to(tl.uint8), mask=ok)
    tl.store(image + 3 * i + 1, g.to(tl.uint8), mask=ok)
    tl.store(image + 3 * i + 2, b.to(tl.uint8), mask=ok)


@triton.jit
def _mean_grey(image, pixels, BLOCK: tl.constexpr):
    """The mean grey, rounded half up."""
    total = tl.zeros((BLOCK,), tl.int64)
    for start in range(0, pixels, BLOCK):
        i = start + tl.arange(0, BLOCK)
        r, g, b = _pixel(image, i, i < pixels)
        total += tl.where(i < pixels, _grey(r, g, b), 0).to(tl.int64)
    return (tl.sum(total).to(tl.float64) / pixels.to(tl.float64) + 0.5).to(tl.int32)


@triton.jit
def _histogram(image, channel, pixels, BLOCK: tl.constexpr):
    """How often a channel has each level."""
    found = tl.zeros((256,), tl.int32)
    for start in range(0, pixels, BLOCK):
        i = start + tl.arange(0, BLOCK)
        level = tl.load(image + 3 * i + channel, mask=i < pixels, other=0).to(tl.int32)
        found += tl.histogram(level, 256, mask=i < pixels)
    return found


@triton.jit
def _stretched(v, h):
    """autocontrast: [least, largest] -> [0, 255]."""
    low, high = tl.min(tl.where(h > 0, v, 255)), tl.max(tl.where(h > 0, v, 0))
    scale = 255.0 / tl.maximum(high - low, 1).to(tl.float64)
    offset = -low.to(tl.float64) * scale
    t = tl.minimum(tl.maximum((v.to(tl.float64) * scale + offset).to(tl.int32), 0), 255)
    return tl.where(low < high, t, v)


@triton.jit
def _equalized(v, h):
    """equalize: steps of the cumulative histogram."""
    last = tl.max(tl.where(h > 0, v, 0))
    step = (tl.sum(h) - tl.sum(tl.where(v == last, h, 0))) // 255
    before = tl.cumsum(h) - h
    t = tl.minimum((before + step // 2) // tl.maximum(step, 1), 255)
    return tl.where(step > 0, t, v)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def make_tables(images, out, spare, tables, record, batch, first, height, width, BLOCK: tl.constexpr):
    """``tables`` uint8 (run, 3, 256); a program is one channel of one image."""
    which, channel, pixels = tl.program_id(0) // 3, tl.program_id(0) % 3, height * width
    line = record + (first + which) * _WIDTH
    image = _slot(images, out, spare, batch, tl.load(line + _SOURCE), 3 * pixels)
    op, arg = tl.load(line + _OP), _argument(line)
    v = tl.arange(0, 256)
    if op == _BRIGHTNESS:
        t = _blend(tl.zeros_like(v), v, arg)
    elif op == _CONTRAST:
        t = _blend(tl.zeros_like(v) + _mean_grey(image, pixels, BLOCK), v, arg)
    elif op == _POSTERIZE:
        t = v & (255 ^ ((1 << (8 - arg.to(tl.int32))) - 1))
    elif (op == _SOLARIZE) | (op == _INVERT):  # inversion has argument 0
        t = tl.where(v >= tl.ceil(arg).to(tl.int32), 255 - v, v)
    elif op == _AUTOCONTRAST:
        t = _stretched(v, _histogram(image, channel, pixels, BLOCK))
    elif op == _EQUALIZE:
        t = _equalized(v, _histogram(image, channel, pixels, BLOCK))
    else:  # solarize_add
        t = tl.where(v < 128, tl.minimum(255, v + arg.to(tl.int32)), v)
    tl.store(tables + (which * 3 + channel) * 256 + v, t.to(tl.uint8))


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def points(
    images, out, spare, tables, record, batch, first, blocks, height, width, TABLE: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """Copies, or looks each byte up in its channel's table."""
    size = 3 * height * width
    which, _, source, to, k = _pass(images, out, spare, record, batch, first, blocks, size, BLOCK)
    v = tl.load(source + k, mask=k < size, other=0)
    if TABLE:
        v = tl.load(tables + which * 768 + k % 3 * 256 + v.to(tl.int32))
    tl.store(to + k, v, mask=k < size)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def greys(images, out, spare, record, batch, first, blocks, height, width, BLOCK: tl.constexpr):
    """Blends each pixel with its grey; grayscale has argument 0."""
    pixels = height * width
    _, line, source, to, i = _pass(images, out, spare, record, batch, first, blocks, 3 * pixels, BLOCK)
    arg = _argument(line)
    r, g, b = _pixel(source, i, i < pixels)
    y = _grey(r, g, b)
    _put(to, i, _blend(y, r, arg), _blend(y, g, arg), _blend(y, b, arg), i < pixels)


@triton.jit
def _nearest(x):
    """C's ``round`` of float64 that are not negative: halves up, without a sum that would round once more."""
    whole = tl.floor(x)
    return (whole + tl.where(x - whole >= 0.5, 1.0, 0.0)).to(tl.int32)


@triton.jit
def _hue(r, g, b, most, spread):
    """Pillow's hue of float32 channels, 0 .. 255."""
    d = tl.where(spread > 0.0, spread, 1.0)  # of a grey the hue is not asked for
    rc, gc, bc = tl.div_rn(most - r, d), tl.div_rn(most - g, d), tl.div_rn(most - b, d)
    green = (2.0 + rc.to(tl.float64) - bc.to(tl.float64)).to(tl.float32)
    blue = (4.0 + gc.to(tl.float64) - rc.to(tl.float64)).to(tl.float32)
    h = tl.where(r == most, bc - gc, tl.where(g == most, green, blue))
    turn = h.to(tl.float64) / 6.0 + 1.0  # 5/6 to 11/6
    turn = tl.where(turn >= 1.0, turn - 1.0, turn)
    return (turn.to(tl.float32).to(tl.float64) * 255.0).to(tl.int32)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def hues(images, out, spare, record, batch, first, blocks, height, width, BLOCK: tl.constexpr):
    """Turns hues by whole steps of 256, the first of the numbers; the precisions are those of ``hue``."""
    pixels = height * width
    _, line, source, to, i = _pass(images, out, spare, record, batch, first, blocks, 3 * pixels, BLOCK)
    r, g, b = _pixel(source, i, i < pixels)
    top = tl.maximum(tl.maximum(r, g), b)
    most, spread = top.to(tl.float32), (top - tl.minimum(tl.minimum(r, g), b)).to(tl.float32)
    hue = _hue(r.to(tl.float32), g.to(tl.float32), b.to(tl.float32), most, spread)
    place = ((hue + tl.load(line + _NUMBERS)) & 255).to(tl.float64) * 6.0 / 255.0
    sixth = tl.floor(place)  # 0 to 6, and 6 is 0
    f, sector = (place - sixth).to(tl.float32), sixth.to(tl.int32)
    s = (tl.div_rn(spread, tl.where(most > 0.0, most, 1.0)).to(tl.float64) * 255.0).to(tl.int32)
    fs, v = (s.to(tl.float64) / 255.0).to(tl.float32), most.to(tl.float64)
    p = _nearest(v * (1.0 - fs.to(tl.float64)))
    q = _nearest(v * (1.0 - (fs * f).to(tl.float64)))
    t = _nearest(v * (1.0 - fs.to(tl.float64) * (1.0 - f.to(tl.float64))))
    r = tl.where((sector == 0) | (sector >= 5), top, tl.where(sector == 1, q, tl.where(sector == 4, t, p)))
    g = tl.where((sector == 1) | (sector == 2), top,
                 tl.where(sector == 3, q, tl.where((sector == 0) | (sector == 6), t, p)))  # fmt: skip
    b = tl.where((sector == 3) | (sector == 4), top, tl.where(sector == 5, q, tl.where(sector == 2, t, p)))
    _put(to, i, tl.where(s == 0, top, r), tl.where(s == 0, top, g), tl.where(s == 0, top, b), i < pixels)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def sharpen(images, out, spare, record, batch, first, blocks, height, width, BLOCK: tl.constexpr):
    """The argument of the image and the rest of the image smoothed by a kernel of 3 x 3: centre 5, others 1, of 13.

    The border stays.
    """
    wide, size = 3 * width, 3 * height * width
    _, line, source, to, k = _pass(images, out, spare, record, batch, first, blocks, size, BLOCK)
    x = k % wide
    inner = (x >= 3) & (x < wide - 3) & (k >= wide) & (k < size - wide)
    centre = tl.load(source + k, mask=k < size, other=0).to(tl.int32)
    s = 4 * centre + 6
    for dy in tl.static_range(-1, 2):
        for dx in tl.static_range(-1, 2):
            s += tl.load(source + k + dy * wide + 3 * dx, mask=inner, other=0).to(tl.int32)
    smooth = (s * 5042) >> 16  # s // 13
    v = tl.where(inner, _blend(smooth, centre, _argument(line)), centre)
    tl.store(to + k, v.to(tl.uint8), mask=k < size)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def boxes(
    images, out, spare, record, batch, first, blocks, height, width, DOWN: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A box with fractional ends, across or down: 24 fractional bits, rounded, the border repeated.

    The numbers are its radius and the shares of a pixel within and of the two at its ends.
    """
    wide, size = 3 * width, 3 * height * width
    _, line, source, to, k = _pass(images, out, spare, record, batch, first, blocks, size, BLOCK)
    ok = k < size
    radius = tl.load(line + _NUMBERS)
    whole, edge = tl.load(line + _NUMBERS + 1).to(tl.uint32), tl.load(line + _NUMBERS + 2).to(tl.uint32)
    if DOWN:
        step, last = wide, height - 1
        at = k // wide
    else:
        step, last = 3, width - 1
        at = k % wide // 3
    line_start = source + k - at * step
    total = tl.zeros((BLOCK,), tl.uint32)
    for j in range(-radius, radius + 1):
        total += tl.load(line_start + tl.minimum(tl.maximum(at + j, 0), last) * step, mask=ok, other=0).to(tl.uint32)
    ends = tl.load(line_start + tl.maximum(at - radius - 1, 0) * step, mask=ok, other=0).to(tl.uint32)
    ends += tl.load(line_start + tl.minimum(at + radius + 1, last) * step, mask=ok, other=0).to(tl.uint32)
    value = total * whole + ends * edge + tl.full((BLOCK,), 1 << 23, tl.uint32)
    tl.store(to + k, (value >> 24).to(tl.uint8), mask=ok)


@triton.jit
def _filled(to, i, line, ok):
    """Fills pixels with the fill."""
    fill = tl.load(line + _FILL) + tl.zeros_like(i)
    _put(to, i, fill & 255, (fill >> 8) & 255, fill >> 16, ok)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def nearest(images, out, spare, record, batch, first, blocks, height, width, BLOCK: tl.constexpr):
    """A warp that shows the pixel in which the point lies: the matrix has 16 fractional bits."""
    pixels = height * width
    _, line, source, to, i = _pass(images, out, spare, record, batch, first, blocks, 3 * pixels, BLOCK)
    y = i // width
    x, m = i - y * width, line + _NUMBERS
    u = (tl.load(m + 2) + tl.load(m + 1) * y + tl.load(m) * x) >> 16
    v = (tl.load(m + 5) + tl.load(m + 4) * y + tl.load(m + 3) * x) >> 16
    ok = i < pixels
    inside = (u >= 0) & (u < width) & (v >= 0) & (v < height)
    r, g, b = _pixel(source, v * width + u, ok & inside)
    _put(to, i, r, g, b, ok & inside)
    _filled(to, i, line, ok & ~inside)


@triton.jit
def _cubic(a, b, c, d, t):
    """Pillow's cubic through b and c, t of the way from b."""
    return b + t * ((-a + c) + t * ((2.0 * (a - b) + c - d) + t * (-a + b - c + d)))


@triton.jit
def _level(image, y, x, width, ok):
    return tl.load(image + 3 * (y * width + x), mask=ok, other=0).to(tl.float64)


@triton.jit
def _across(image, y, x, height, width, t, ok, CUBIC: tl.constexpr):
    """t of the way from column x to the next, in row y, the border repeated."""
    y = tl.minimum(tl.maximum(y, 0), height - 1)
    b = _level(image, y, tl.maximum(x, 0), width, ok)
    c = _level(image, y, tl.minimum(x + 1, width - 1), width, ok)
    if CUBIC:
        a = _level(image, y, tl.minimum(tl.maximum(x - 1, 0), width - 1), width, ok)
        d = _level(image, y, tl.minimum(x + 2, width - 1), width, ok)
        found = _cubic(a, b, c, d, t)
    else:
        found = b + (c - b) * t
    return found


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def interpolate(
    images, out, spare, record, matrix, batch, first, blocks, height, width, CUBIC: tl.constexpr, BLOCK: tl.constexpr
):  # fmt: skip
    """A warp that interpolates in float64, cut off at whole levels."""
    pixels = height * width
    which, line, source, to, i = _pass(images, out, spare, record, batch, first, blocks, 3 * pixels, BLOCK)
    row, m, ok = i // width, matrix + (first + which) * 6, i < pixels
    x, y = (i - row * width).to(tl.float64) + 0.5, row.to(tl.float64) + 0.5
    u = tl.load(m) * x + tl.load(m + 1) * y + tl.load(m + 2)
    v = tl.load(m + 3) * x + tl.load(m + 4) * y + tl.load(m + 5)
    inside = (u >= 0.0) & (u < width.to(tl.float64)) & (v >= 0.0) & (v < height.to(tl.float64))
    u, v = tl.where(inside, u - 0.5, 0.0), tl.where(inside, v - 0.5, 0.0)
    left, above = tl.floor(u), tl.floor(v)
    p, q, a, b = u - left, v - above, left.to(tl.int32), above.to(tl.int32)
    seen = ok & inside
    for c in tl.static_range(3):
        top = _across(source + c, b, a, height, width, p, seen, CUBIC)
        low = _across(source + c, b + 1, a, height, width, p, seen, CUBIC)
        if CUBIC:
            over = _across(source + c, b - 1, a, height, width, p, seen, CUBIC)
            under = _across(source + c, b + 2, a, height, width, p, seen, CUBIC)
            value = tl.minimum(tl.maximum(_cubic(over, top, low, under, q), 0.0), 255.0)
        else:
            value = top + (low - top) * q
        tl.store(to + 3 * i + c, value.to(tl.int32).to(tl.uint8), mask=seen)
    _filled(to, i, line, ok & ~inside)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def mix(
    images, out, spare, record, mixed, weight, batch, first, blocks, height, width,
    CHAINS: tl.constexpr, BLENDED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """The mixture of chains: float32 sums in their order, cut off at whole levels. The first of the numbers is the row."""
    size = 3 * height * width
    _, line, source, to, k = _pass(images, out, spare, record, batch, first, blocks, size, BLOCK)
    row, ok = tl.load(line + _NUMBERS), k < size
    own, share = tl.load(source + k, mask=ok, other=0), weight + row * (CHAINS + 1)
    total = tl.zeros((BLOCK,), tl.float32)
    if not BLENDED:
        total = tl.load(share) * own.to(tl.float32)
    for c in tl.static_range(CHAINS):
        chain = _slot(images, out, spare, batch, tl.load(mixed + row * CHAINS + c), size)
        total += tl.load(share + c + 1) * tl.load(chain + k, mask=ok, other=0).to(tl.float32)
    v = tl.minimum(total, 255.0).to(tl.int32)
    if BLENDED:
        v = _blend(own.to(tl.int32), v, 1.0 - tl.load(share))
    tl.store(to + k, v.to(tl.uint8), mask=ok)


@triton.jit
def _scramble(x):
    """``noise.scramble``."""
    x = (x ^ (x >> 16)) * tl.full((), 0x7FEB352D, tl.uint32)
    x = (x ^ (x >> 15)) * tl.full((), 0x846CA68B, tl.uint32)
    return x ^ (x >> 16)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_POINTERS)
def erase(out, box, seed, values, blocks, height, width, boxes, BLOCK: tl.constexpr):
    """Fills ``box`` int32 (b, boxes, 6): top, left, height, width, colour as 0xBBGGRR, whether it shows noise instead."""
    row, wide, size = tl.program_id(0) // blocks, 3 * width, 3 * height * width
    k = (tl.program_id(0) % blocks) * BLOCK + tl.arange(0, BLOCK)
    y, channel = k // wide, k % 3
    x = (k - y * wide) // 3
    found, erased = tl.zeros((BLOCK,), tl.int32), k < 0
    for e in range(boxes):
        line = box + (row * boxes + e) * 6
        top, left = tl.load(line), tl.load(line + 1)
        here = (y >= top) & (y < top + tl.load(line + 2)) & (x >= left) & (x < left + tl.load(line + 3)) & (k < size)
        colour = (tl.load(line + 4) >> (8 * channel)) & 255
        if tl.load(line + 5) != 0:
            chosen = _scramble(_scramble(k.to(tl.uint32)) ^ tl.load(seed + row).to(tl.uint32, bitcast=True)) >> 20
            colour = tl.load(values + channel * 4096 + chosen.to(tl.int32), mask=here, other=0).to(tl.int32)
        found, erased = tl.where(here, colour, found), erased | here
    tl.store(out + row.to(tl.int64) * size + k, found.to(tl.uint8), mask=erased)
