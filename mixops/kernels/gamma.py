"""Gamma variates from a counter: Marsaglia-Tsang over Philox-4x32-10, eight lanes at a time.

Marsaglia and Tsang (2000): with d = alpha - 1/3 and c = 1/sqrt(9 d), for x normal and u uniform, ``d * (1 + c x)**3``
is Gamma(alpha) if ``log u < x**2 / 2 + d - d v + d log v``, v = (1 + c x)**3; below alpha = 1 it is that of alpha + 1
times ``u**(1 / alpha)``. Every number is a function of (key, row, column, attempt), so a row is the same on any number
of threads. Rejection is what keeps such a loop from being compiled to vectors. Here one loop tries the whole row, the
columns that were rejected (2 to 5 %) are gathered, and the same loop tries those again, so often that a number which is
still rejected has none to come: compiled code that never ends cannot be interrupted.
"""

from __future__ import annotations

import numpy as np
from numba import float32, int32, uint32, uint64

from ..runtime.jit import INNER, njit

_FAST = {"contract", "nsz", "arcp", "nnan", "ninf"}
_LEAST = float32(1e-37)  # no variate is zero: a row of weights always has a sum
_ATTEMPTS = 64  # a variate is accepted with 95 % at least, at each
_NORMAL, _BOOST, _EXPONENTIAL = uint32(0), uint32(1 << 30), uint32(2 << 30)  # a counter's use, plus the attempt


@njit(fastmath=_FAST, forceinline=True)
def philox(c0, c1, c2, c3, k0, k1):  # type: ignore[no-untyped-def]
    """Philox-4x32-10 (Salmon et al. 2011): four words of 32 bits from a counter of four and a key of two."""
    for _ in range(10):
        p0 = uint64(0xD2511F53) * uint64(c0)
        p1 = uint64(0xCD9E8D57) * uint64(c2)
        c0, c2 = uint32(uint32(p1 >> uint64(32)) ^ c1 ^ k0), uint32(uint32(p0 >> uint64(32)) ^ c3 ^ k1)
        c1, c3 = uint32(p1), uint32(p0)
        k0, k1 = uint32(k0 + uint32(0x9E3779B9)), uint32(k1 + uint32(0xBB67AE85))
    return c0, c1, c2, c3


@njit(fastmath=_FAST, forceinline=True, **INNER)
def _uniform(word):  # type: ignore[no-untyped-def]
    """(0, 1], with all 31 bits below 1 kept near zero."""
    return float32(int32(word >> uint32(1))) * float32(2**-31) + float32(2**-33)


@njit(fastmath=_FAST, forceinline=True, **INNER)
def _log(x):  # type: ignore[no-untyped-def]
    """Natural logarithm of a normal positive float32 (Cephes logf); libm's is not compiled to vectors."""
    i = np.float32(x).view(np.int32)
    e = ((i >> int32(23)) & int32(255)) - int32(126)
    m = np.int32((i & int32(0x7FFFFF)) | int32(0x3F000000)).view(np.float32)
    low = m < float32(0.70710678)
    e = e - int32(1) if low else e
    m = (m + m if low else m) - float32(1)
    z = m * m
    y = float32(7.0376836292e-2) * m - float32(1.1514610310e-1)
    y = y * m + float32(1.1676998740e-1)
    y = y * m - float32(1.2420140846e-1)
    y = y * m + float32(1.4249322787e-1)
    y = y * m - float32(1.6668057665e-1)
    y = y * m + float32(2.0000714765e-1)
    y = y * m - float32(2.4999993993e-1)
    y = y * m + float32(3.3333331174e-1)
    y = y * m * z + float32(-2.12194440e-4) * float32(e) - float32(0.5) * z
    return m + y + float32(0.693359375) * float32(e)


@njit(fastmath=_FAST, forceinline=True, **INNER)
def _exp(x):  # type: ignore[no-untyped-def]
    """Exponential of x <= 0 (Cephes expf)."""
    x = max(x, float32(-87))
    n = int32(x * float32(1.44269504088896341) - float32(0.5))
    r = x - float32(n) * float32(0.693359375) + float32(n) * float32(2.12194440e-4)
    y = float32(1.9875691500e-4) * r + float32(1.3981999507e-3)
    y = y * r + float32(8.3334519073e-3)
    y = y * r + float32(4.1665795894e-2)
    y = y * r + float32(1.6666665459e-1)
    y = y * r + float32(5.0000001201e-1)
    return (y * r * r + r + float32(1)) * np.int32((n + int32(127)) << int32(23)).view(np.float32)


@njit(fastmath=_FAST, forceinline=True, **INNER)
def _normals(radius_word, angle_word):  # type: ignore[no-untyped-def]
    """Two normals (Box-Muller): 26 bits of angle, of which two are the quadrant."""
    radius = np.sqrt(float32(-2) * _log(_uniform(radius_word)))
    quadrant = angle_word >> uint32(30)
    t = float32(int32((angle_word >> uint32(6)) & uint32(0xFFFFFF))) * float32(2**-24) - float32(0.5)
    t = t * float32(1.5707963267948966)  # [-pi/4, pi/4)
    z = t * t
    s = ((float32(-1.9515295891e-4) * z + float32(8.3321608736e-3)) * z - float32(1.6666654611e-1)) * z * t + t
    c = (float32(2.443315711809948e-5) * z - float32(1.388731625493765e-3)) * z + float32(4.166664568298827e-2)
    c = c * z * z - float32(0.5) * z + float32(1)
    turned = (quadrant & uint32(1)) != uint32(0)
    x = s if turned else c
    y = -c if turned else s
    sign = float32(1) if (quadrant & uint32(2)) == uint32(0) else float32(-1)
    return sign * radius * x, sign * radius * y


@njit(fastmath=_FAST, forceinline=True, **INNER)
def _tested(x, u, c, d):  # type: ignore[no-untyped-def]
    """d * v where it is accepted, else 0."""
    root = float32(1) + c * x
    v = max(root, float32(1e-6))
    log_v = float32(3) * _log(v)
    v = v * v * v
    accepted = (root > float32(0)) & (_log(u) < float32(0.5) * x * x + d * (float32(1) - v + log_v))
    return d * v if accepted else float32(0)


@njit(fastmath=_FAST)
def gamma_rows(start, stop, alpha, first_row, key, out):  # type: ignore[no-untyped-def]
    """Rows ``start`` to ``stop`` of ``out`` (rows, columns), float32: Gamma(alpha[row]), at least 1e-37.

    ``key`` holds three words of 32 bits; the counter of row i is ``first_row + i``.
    """
    columns = out.shape[1]
    half = (columns + 1) // 2
    x = np.empty(2 * half + 8, np.float32)
    u = np.empty(2 * half, np.float32)
    g = np.empty(2 * half, np.float32)
    again = np.empty(2 * half + 8, np.uint32)  # unsigned: no test for negative indices
    for row in range(start, stop):
        shape = float32(alpha[row])
        boost = shape < float32(1)
        d = (shape + float32(1) if boost else shape) - float32(1 / 3)
        c = float32(1) / np.sqrt(float32(9) * d)
        k0, k1, k2, r = key[0], key[1], key[2], uint32(first_row + row)
        for i in range(half):
            w0, w1, w2, w3 = philox(uint32(i), r, _NORMAL, k2, k0, k1)
            x[i], x[half + i] = _normals(w0, w1)
            u[i] = _uniform(w2)
            u[half + i] = _uniform(w3)
        for i in range(2 * half):
            g[i] = _tested(x[i], u[i], c, d)
        left = 0
        for i in range(2 * half):
            again[left] = i
            left += int32(g[i] == float32(0))
        attempt = _NORMAL
        while left > 0 and attempt < _ATTEMPTS:
            attempt = uint32(attempt + uint32(1))
            for i in range(left, left + 7):  # whole vectors only: the rest of the last one repeats column 0
                again[i] = 0
            for i in range((left + 7) // 8 * 8):
                w0, w1, w2, _ = philox(again[i], r, attempt, k2, k0, k1)
                x[i] = _tested(_normals(w0, w1)[0], _uniform(w2), c, d)
            rejected = 0
            for i in range(left):
                column = again[i]
                g[column] = x[i]
                again[rejected] = column
                rejected += int32(x[i] == float32(0))
            left = rejected
        if boost:
            inverse = float32(1) / shape
            for i in range(half):
                w0, w1, _, _ = philox(uint32(i), r, _BOOST, k2, k0, k1)
                u[i] = _uniform(w0)
                u[half + i] = _uniform(w1)
            for i in range(2 * half):
                g[i] *= _exp(_log(u[i]) * inverse)
        for i in range(columns):
            out[row, i] = max(g[i], _LEAST)


@njit(fastmath=_FAST)
def exponential_rows(start, stop, first_row, key, out):  # type: ignore[no-untyped-def]
    """Rows ``start`` to ``stop`` of ``out``: Gamma(1), which is exponential and needs one uniform."""
    columns = out.shape[1]
    quarter = (columns + 3) // 4
    u = np.empty(4 * quarter, np.float32)
    for row in range(start, stop):
        k0, k1, k2, r = key[0], key[1], key[2], uint32(first_row + row)
        for i in range(quarter):
            w0, w1, w2, w3 = philox(uint32(i), r, _EXPONENTIAL, k2, k0, k1)
            u[i] = _uniform(w0)
            u[quarter + i] = _uniform(w1)
            u[2 * quarter + i] = _uniform(w2)
            u[3 * quarter + i] = _uniform(w3)
        for i in range(columns):
            out[row, i] = max(-_log(u[i]), _LEAST)
