"""The fused CUDA kernels: blend, normalise, cast and lay out in one pass, all k outputs from one read of two images.

    out = M * (own - partner) * scale[c] + partner * scale[c] + bias[c],    M = v0 + wy(y) * wx(x)

A GPU moves three bytes in the time that it has for some twenty instructions, so little may be computed an element. A thread
takes the same columns of ``ROWS`` rows, each a strip of the image below the last: where it is, which channels these are and
wx are then computed once. ``chunks`` keeps the layout and takes as many elements as make a 16-byte store; ``planes`` makes
NCHW of uint8 RGB, reads four pixels as three words and stores four of each plane. ``strides`` takes whatever is left, one
pixel a thread.

Every load of an image is on its way before anything is computed: left alone, the assembler would begin the later ones when
the first rows are done, and each would be waited for. It moves no load across a barrier, for which one warp need not wait.

Of floating images the one that is not shown is left out where M is 0 or 1; bytes are always numbers.

M is computed in registers from the nine floats, of which a plan needs only some, or read: ``MASK`` says what. A pair's only
output is blended and then scaled, with an operation less; of several, the source is scaled once. Pairs come in an order
in which the partner of one is the next one's own image, so that it is in the L2 cache when it is read a second time.
Programs that run at the same time take one image after the other or, ``ACROSS``, the same tile of all images.

Offsets within an image are 32 bit, image offsets 64 bit: a batch may exceed 2**31 elements. The compiler may fuse products
with sums, so results are those of the eager blend up to float32 rounding, and not its bits: uint8 results are rounded half
to even, too, but a value within 1e-4 of a half may go the other way.
"""

from __future__ import annotations

import triton
import triton.language as tl

# what a plan needs: v0; the box as well; the bell as well; all nine floats; dense masks instead, float32; a bit a pixel
FLAT, BOX, BELL, BOTH, DENSE, BITS = range(6)
_FLAT, _BOX, _BELL = tl.constexpr(FLAT), tl.constexpr(BOX), tl.constexpr(BELL)
_DENSE, _BITS = tl.constexpr(DENSE), tl.constexpr(BITS)
_INTERPRETED = tl.constexpr(triton.knobs.runtime.interpret)
# one compilation serves every size, the last batch of an epoch among them
_SIZES = ("batch", "strip", "count", "in_row", "magic", "shift", "height", "width")
_SMALL = ("floats", "pairs", "dense", "scale", "bias")


@triton.jit
def _floats(p, MASK: tl.constexpr):
    """v0, dv, y0, y1, x0, x1, cy, cx and -a log2(e) at ``p``, those that are needed."""
    dv, cy, cx, sharp, box = 0.0, 0.0, 0.0, 0.0, (0.0, 0.0, 0.0, 0.0)
    if MASK != _FLAT:
        dv = tl.load(p + 1)
    if _BOX & MASK:
        box = tl.load(p + 2), tl.load(p + 3), tl.load(p + 4), tl.load(p + 5)
    if _BELL & MASK:  # exp(-a t) = 2^(-a log2(e) t)
        cy, cx, sharp = tl.load(p + 6), tl.load(p + 7), tl.load(p + 8) * -1.4426950408889634
    return tl.load(p), dv, box[0], box[1], box[2], box[3], cy, cx, sharp


@triton.jit
def _along(t, low, high, centre, sharp, peak, MASK: tl.constexpr):
    """[low <= t < high] * peak * 2^(sharp * (t - centre)^2), the box and the Gaussian only where there are such."""
    found = peak
    if _BELL & MASK:
        found = peak * tl.exp2(sharp * ((t - centre) * (t - centre)))
    if _BOX & MASK:
        found = tl.where((t >= low) & (t < high), found, 0.0)
    return found


@triton.jit
def _wy(f, y, MASK: tl.constexpr):
    """What rows ``y`` have of M - v0, dv included."""
    found = 0.0
    if MASK != _FLAT:
        found = _along(y, f[2], f[3], f[6], f[8], f[1], MASK)
    return found


@triton.jit
def _wx(f, x, MASK: tl.constexpr):
    """What columns ``x`` have of it."""
    found = 0.0
    if MASK != _FLAT:
        found = _along(x, f[4], f[5], f[7], f[8], 1.0, MASK)
    return found


@triton.jit
def _divide(n, magic, shift):
    """``n // d`` for 0 <= n < 2**31 by the numbers of ``launch.divisor``; an integer division costs twenty instructions."""
    return (tl.umulhi(2 * n.to(tl.uint32), magic.to(tl.uint32)) >> shift).to(tl.int32)


@triton.jit
def _bits(masks, which, size, p, ok):
    """Bits p, p + 1 ... of a mask as the lowest of an int32, up to the end of a word, where chunks and quads end, too."""
    return tl.load(masks + which * ((size + 31) // 32) + (p >> 5), mask=ok) >> (p & 31)


@triton.jit
def _raised(values):
    """2**23 + byte, float32, of four bytes by as many instructions, where a conversion takes two each."""
    return tl.inline_asm_elementwise(
        "prmt.b32 $0, $4, 0x4B000000, 0x7440; prmt.b32 $1, $4, 0x4B000000, 0x7441;"
        "prmt.b32 $2, $4, 0x4B000000, 0x7442; prmt.b32 $3, $4, 0x4B000000, 0x7443;",
        "=r,=r,=r,=r,r", [values], dtype=tl.float32, is_pure=True, pack=4,
    )  # fmt: skip


@triton.jit
def _difference(own, partner, VECTOR: tl.constexpr):
    """own - partner and partner, float32."""
    if partner.dtype == tl.uint8 and VECTOR % 4 == 0 and not _INTERPRETED:
        a, d = _raised(own), _raised(partner)
        found = a - d, d - 8388608.0
    else:
        d = partner.to(tl.float32)
        found = own.to(tl.float32) - d, d
    return found


@triton.jit
def _shown(m, value, own, partner):
    """``value``, but where the mask is 0 or 1 the one image alone: 0 times what is not a number is not a number."""
    return tl.where(m == 1.0, own, tl.where(m == 0.0, partner, value))


@triton.jit
def _cast(value, out, BYTES: tl.constexpr):
    if BYTES:  # adding 2**23 leaves the integer, rounded half to even, in the low bits
        value = ((value + 8388608.0).to(tl.int32, bitcast=True) & 255).to(tl.uint8)
    return value.to(out.dtype.element_ty)


@triton.jit
def _place(pairs, batch, ACROSS: tl.constexpr):
    """The tile of this program, its image and the partner of that."""
    fast, slow = tl.program_id(0), tl.program_id(2) * tl.num_programs(1) + tl.program_id(1)
    if ACROSS:
        pair, tile = fast, slow
    else:
        pair, tile = tl.minimum(slow, batch - 1), fast
    return tile, tl.load(pairs + pair).to(tl.int64), tl.load(pairs + batch + pair).to(tl.int64)


@triton.jit
def _rotated(values, first, j, ok, C: tl.constexpr):
    """``values[(first + j) % C]`` for columns j (1, v) after ``first`` (n, 1) < C; ``values`` are repeated for v more."""
    if C > 4:
        found = tl.load(values + first + j, mask=ok)
    else:
        found = tl.load(values + first, mask=ok)
        for i in tl.static_range(1, C):
            found = tl.where(j % C == i, tl.load(values + first + i, mask=ok), found)
    return found


@triton.jit
def _spread(found, j, later, C: tl.constexpr):
    """What the pixels of a chunk have, for its elements j, of which some are ``later`` by a pixel than j // C."""
    here, after = found[0], found[0]
    for i in tl.static_range(1, len(found)):
        here, after = tl.where(j // C == i, found[i], here), tl.where(j // C + 1 == i, found[i], after)
    return tl.where(later, after, here)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_SMALL)
def chunks(
    images, out, floats, pairs, dense, scale, bias, batch, strip, count, in_row, magic, shift, height, width,
    K: tl.constexpr, C: tl.constexpr, PIXELS: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr,
    VECTOR: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """A tile of one image, layout kept: ``BLOCK`` chunks of ``VECTOR`` elements in each of ``ROWS`` strips.

    A row in memory has ``in_row`` chunks, C * width elements of pixels or width of a plane; a strip has ``strip`` chunks,
    whole rows; the image has ``count``.
    """
    MOST: tl.constexpr = (VECTOR + C - 2) // C + 1  # pixels of a chunk
    HAS_BYTES: tl.constexpr = images.dtype.element_ty == tl.uint8
    tile, b, partner = _place(pairs, batch, ACROSS)
    q = (tile * BLOCK + tl.arange(0, BLOCK))[:, None]
    j = tl.arange(0, VECTOR)[None, :]
    own = images + b * count * VECTOR
    other = images + partner * count * VECTOR
    a, d = (), ()
    for i in tl.static_range(ROWS):
        n = q + i * strip
        a += (tl.load(own + n * VECTOR + j, mask=(q < strip) & (n < count)),)
        d += (tl.load(other + n * VECTOR + j, mask=(q < strip) & (n < count)),)
    row = _divide(q, magic, shift)
    x = (q - row * in_row) * VECTOR  # the column of a chunk's first element, which is pixel ``pixel`` of it
    deep = _divide(strip, magic, shift)
    pixel, s, t, later = j, 0.0, 0.0, 0.0
    if PIXELS:
        c, x = x % C, x // C
        later = c + j % C >= C  # whether an element belongs to the pixel after x + j // C
        pixel = j // C + later.to(tl.int32)
        if AFFINE:
            s, t = _rotated(scale, c, j, q < strip, C), _rotated(bias, c, j, q < strip, C)
    bits = ()
    if MASK == _BITS:
        for k in tl.static_range(K):
            for i in tl.static_range(ROWS):
                n, y = q + i * strip, row + i * deep
                if not PIXELS:
                    y = y % height
                bits += (_bits(dense, b * K + k, height * width, y * width + x, (q < strip) & (n < count)),)
    tl.debug_barrier()
    difference, base, whole, scales, biases = (), (), (), (), ()
    for i in tl.static_range(ROWS):
        if AFFINE and not PIXELS:
            c = (row + i * deep) // height
            s, t = tl.load(scale + c, mask=c < C), tl.load(bias + c, mask=c < C)
        differ, partners = _difference(a[i], d[i], VECTOR)
        if AFFINE and K > 1:
            differ, partners = differ * s, partners * s + t
        if not HAS_BYTES:
            own_image = a[i].to(tl.float32)
            if AFFINE and K > 1:
                own_image = own_image * s + t
            whole += (own_image,)
        difference += (differ,)
        base += (partners,)
        scales += (s,)
        biases += (t,)
    for k in tl.static_range(K):
        to = out + (b * K + k) * count * VECTOR
        f, wx = (), 0.0
        if MASK < _DENSE:
            f = _floats(floats + (b * K + k) * 9, MASK)
            if PIXELS:
                found = ()
                for i in tl.static_range(MOST):
                    found += (_wx(f, (x + i).to(tl.float32), MASK),)
                wx = _spread(found, j, later, C)
            else:
                wx = _wx(f, (x + j).to(tl.float32), MASK)
        for i in tl.static_range(ROWS):
            y = row + i * deep
            if not PIXELS:
                y = y % height
            n, at = q + i * strip, y * width + x
            ok = (q < strip) & (n < count)
            if MASK < _DENSE:
                m = _wy(f, y.to(tl.float32), MASK) * wx + f[0]
            elif MASK == _DENSE:
                m = tl.load(dense + (b * K + k) * height * width + at + pixel, mask=ok)
            else:
                if PIXELS:
                    found = ()
                    for p in tl.static_range(MOST):
                        found += (tl.where(bits[k * ROWS + i] & 1 << p != 0, 1.0, 0.0),)
                    m = _spread(found, j, later, C)
                else:
                    m = tl.where(bits[k * ROWS + i] & 1 << j != 0, 1.0, 0.0)
            value = m * difference[i] + base[i]
            if not HAS_BYTES:
                value = _shown(m, value, whole[i], base[i])
            if AFFINE and K == 1:
                value = value * scales[i] + biases[i]
            tl.store(to + n * VECTOR + j, _cast(value, out, BYTES), mask=ok)


@triton.jit
def _four(first, second, third, fourth):
    """(n, 4) from four (n,)."""
    return tl.join(tl.join(first, third), tl.join(second, fourth)).reshape(first.shape[0], 4)


@triton.jit
def _words(words, g, ok):
    """The three words of quads ``g`` of pixels."""
    return tl.load(words + 3 * g, mask=ok), tl.load(words + 3 * g + 1, mask=ok), tl.load(words + 3 * g + 2, mask=ok)


@triton.jit
def _channel(w, C: tl.constexpr):
    """Channel C of the four pixels of quads, float32 (n, 4): byte 3 p + C of the three words is that of pixel p."""
    four = _four(w[0], w[(3 + C) // 4], w[(6 + C) // 4], w[(9 + C) // 4])
    shift = ((tl.arange(0, 4) * 3 + C) % 4 * 8)[None, :]
    return ((four >> shift) & 255).to(tl.float32)


@triton.jit(do_not_specialize=_SIZES, do_not_specialize_on_alignment=_SMALL)
def planes(
    words, out, floats, pairs, dense, scale, bias, batch, strip, count, in_row, magic, shift, height, width,
    K: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
    ACROSS: tl.constexpr,
):  # fmt: skip
    """A tile of one uint8 RGB image, as int32 words, into planes: ``BLOCK`` quads of pixels in each of ``ROWS`` strips.

    A row has ``in_row`` quads, a strip of whole rows ``strip``, the image ``count``.
    """
    tile, b, partner = _place(pairs, batch, ACROSS)
    q = tile * BLOCK + tl.arange(0, BLOCK)
    own = words + b * count * 3
    other = words + partner * count * 3
    a, d = (), ()
    for i in tl.static_range(ROWS):
        g = q + i * strip
        a += (_words(own, g, (q < strip) & (g < count)),)
        d += (_words(other, g, (q < strip) & (g < count)),)
    difference, base, scales, biases = (), (), (), ()
    for c in tl.static_range(3):
        s, t = 0.0, 0.0
        if AFFINE:
            s, t = tl.load(scale + c), tl.load(bias + c)
        scales += (s,)
        biases += (t,)
    bits = ()
    if MASK == _BITS:
        for k in tl.static_range(K):
            for i in tl.static_range(ROWS):
                g = q + i * strip
                bits += (_bits(dense, b * K + k, height * width, 4 * g, (q < strip) & (g < count)),)
    tl.debug_barrier()
    for i in tl.static_range(ROWS):
        for c in tl.static_range(3):
            partners = _channel(d[i], c)
            differ = _channel(a[i], c) - partners
            if AFFINE and K > 1:
                differ, partners = differ * scales[c], partners * scales[c] + biases[c]
            difference += (differ,)
            base += (partners,)
    row = _divide(q, magic, shift)
    deep = _divide(strip, magic, shift)
    four = tl.arange(0, 4)[None, :]
    x = (4 * (q - row * in_row))[:, None].to(tl.float32) + four.to(tl.float32)
    for k in tl.static_range(K):
        f, wx = (), 0.0
        if MASK < _DENSE:
            f = _floats(floats + (b * K + k) * 9, MASK)
            wx = _wx(f, x, MASK)
        for i in tl.static_range(ROWS):
            g = (q + i * strip)[:, None]
            ok, pixel = (q < strip)[:, None] & (g < count), 4 * g + four
            if MASK < _DENSE:
                m = _wy(f, (row + i * deep)[:, None].to(tl.float32), MASK) * wx + f[0]
            elif MASK == _DENSE:
                m = tl.load(dense + (b * K + k) * height * width + pixel, mask=ok)
            else:
                m = tl.where(bits[k * ROWS + i][:, None] & 1 << four != 0, 1.0, 0.0)
            to = out + (b * K + k) * count * 12 + pixel
            for c in tl.static_range(3):
                value = m * difference[3 * i + c] + base[3 * i + c]
                if AFFINE and K == 1:
                    value = value * scales[c] + biases[c]
                tl.store(to + c * count * 4, _cast(value, out, BYTES), mask=ok)


@triton.jit(do_not_specialize=("batch",), do_not_specialize_on_alignment=_SMALL)
def strides(
    images, out, floats, pairs, dense, scale, bias, batch, size, height, width, pixel_in, channel_in, pixel_out, channel_out,
    K: tl.constexpr, C: tl.constexpr, MASK: tl.constexpr, AFFINE: tl.constexpr, BYTES: tl.constexpr, BLOCK: tl.constexpr,
    ROWS: tl.constexpr, ACROSS: tl.constexpr,
):  # fmt: skip
    """A tile of one image of ``size`` elements, ``ROWS`` times ``BLOCK`` pixels, with strides of pixels and channels."""
    tile, b, partner = _place(pairs, batch, ACROSS)
    pixel = tile * BLOCK * ROWS + tl.arange(0, BLOCK * ROWS)
    ok = pixel < height * width
    y, x = (pixel // width).to(tl.float32), (pixel % width).to(tl.float32)
    own = images + b * size
    other = images + partner * size
    for k in tl.static_range(K):
        output = b * K + k
        if MASK < _DENSE:
            f = _floats(floats + output * 9, MASK)
            m = _wy(f, y, MASK) * _wx(f, x, MASK) + f[0]
        elif MASK == _DENSE:
            m = tl.load(dense + output * height * width + pixel, mask=ok)
        else:
            m = (_bits(dense, output, height * width, pixel, ok) & 1).to(tl.float32)
        for c in range(C):
            a = tl.load(own + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
            d = tl.load(other + pixel * pixel_in + c * channel_in, mask=ok).to(tl.float32)
            value = m * (a - d) + d
            if images.dtype.element_ty != tl.uint8:
                value = _shown(m, value, a, d)
            if AFFINE:
                value = value * tl.load(scale + c) + tl.load(bias + c)
            tl.store(out + output * size + pixel * pixel_out + c * channel_out, _cast(value, out, BYTES), mask=ok)
