"""Walks the markers of a JPEG file, in compiled code.

    SOI  [APPn | COM | DQT | DHT | DRI] ...  SOF0 or SOF2  ...  SOS scan  {[DHT | DQT | DRI | COM] ...  SOS scan}  EOI

A list of what a decoder must not be given is never complete: DALI's parsers end the process on headers that are merely
unusual, and show some files otherwise than Pillow does. So ``find_plain`` knows what is good instead: baseline or
progressive coding whose markers were walked from the first to the last, 8 bits, grey or YCbCr, usual sampling. All else is
Pillow's.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import UInt8

from mixops.runtime.jit import INNER, njit

_SOF0, _SOF2, _DHT, _DAC, _JPG = 0xC0, 0xC2, 0xC4, 0xCC, 0xC8
_RST0, _EOI, _SOS, _DQT, _DRI, _APP0, _APP14, _COM = 0xD0, 0xD9, 0xDA, 0xDB, 0xDD, 0xE0, 0xEE, 0xFE
_MOST_SCANS = 100  # an image of thousands of scans takes minutes to decode
_END, _CUT = -1, -2  # instead of a marker: there is no segment any more; the bytes end before that can be told
_ADOBE_TRANSFORM = 11  # its place in the segment


@njit()
def find_frame(data: UInt8[np.ndarray, " n"]) -> tuple[int, int]:
    """(height, width) of the frame that a header declares, -1 where none is found."""
    if not _begins(data):
        return -1, -1
    at = 2
    while True:
        marker, start, at = _segment(data, at)
        if marker < 0:
            return -1, -1
        if _SOF0 <= marker < _RST0 and marker != _DHT and marker != _JPG and marker != _DAC:
            return _size(data, start) if start + 5 <= len(data) else (-1, -1)
        if marker == _SOS:
            return -1, -1


@njit()
def find_plain(data: UInt8[np.ndarray, " n"]) -> tuple[int, int]:
    """(height, width) of a whole JPEG file that all decoders read alike; 0 for anything else."""
    nothing = 0, 0
    if not _begins(data):
        return nothing
    at, frame, progressive, jfif, transform = 2, -1, False, False, np.int64(-1)
    tables, huffman = False, False
    while True:
        marker, start, end = _segment(data, at)
        if marker < 0 or start != at + 4:  # cut, no segment before a scan, or fill bytes before the marker
            return nothing
        if marker == _APP0:
            jfif |= _is(data, start, (0x4A, 0x46, 0x49, 0x46, 0x00))  # JFIF
        elif marker == _APP14:
            if _is(data, start, (0x41, 0x64, 0x6F, 0x62, 0x65)):  # Adobe
                if start + _ADOBE_TRANSFORM >= len(data):
                    return nothing
                transform = np.int64(data[start + _ADOBE_TRANSFORM])
        elif marker in (_SOF0, _SOF2) and frame < 0:
            frame, progressive = start, marker == _SOF2
        elif marker != _SOS and not _is_table(marker) and not 0xE0 <= marker < 0xF0:
            return nothing
        tables, huffman = tables or marker == _DQT, huffman or marker == _DHT
        at = end
        if marker == _SOS:
            break
    if not tables or not huffman or frame < 0 or not _is_usual(data, frame, jfif, transform):
        return nothing
    if progressive:
        whole = _ends_after_scans(data, at)
    else:  # one scan of all components, and then the end, which compressed data cannot contain
        whole = start < len(data) and data[start] == data[frame + 5] and _has_end(data, at)
    return _size(data, frame) if whole else nothing


@njit(**INNER)
def _begins(data):
    return len(data) >= 2 and data[0] == 0xFF and data[1] == 0xD8


@njit(**INNER)
def _segment(data, at):
    """(marker, first byte of its contents, end) of the segment at ``at``."""
    n = len(data)
    if at >= n:
        return _CUT, 0, 0
    if data[at] != 0xFF:
        return _END, 0, 0
    while at + 1 < n and data[at + 1] == 0xFF:  # a fill byte, which is legal
        at += 1
    if at + 3 >= n:
        return _CUT, 0, 0
    marker = np.int64(data[at + 1])
    length = np.int64(data[at + 2]) << 8 | np.int64(data[at + 3])
    if marker < 0xC0 or _RST0 <= marker <= _EOI or length < 2:
        return _END, 0, 0
    return marker, at + 4, at + 2 + length


@njit(**INNER)
def _size(data, frame):
    height = np.int64(data[frame + 1]) << 8 | np.int64(data[frame + 2])
    return height, np.int64(data[frame + 3]) << 8 | np.int64(data[frame + 4])


@njit(**INNER)
def _is(data, at, expected):
    """Whether the bytes at ``at`` are those."""
    if at + len(expected) > len(data):
        return False
    same = True
    for i in range(len(expected)):
        same &= data[at + i] == expected[i]
    return same


@njit(**INNER)
def _is_table(marker):
    return marker in (_DHT, _DQT, _DRI, _COM)


@njit(**INNER)
def _is_usual(data, frame, jfif, transform):
    """Whether a frame has 8 bits, pixels, and components that can only be grey or YCbCr, under a usual sampling."""
    if frame + 5 >= len(data):
        return False
    height, width = _size(data, frame)
    components = np.int64(data[frame + 5])
    length = np.int64(data[frame - 2]) << 8 | np.int64(data[frame - 1])
    if data[frame] != 8 or height == 0 or width == 0 or length != 8 + 3 * components:
        return False
    if frame + 6 + 3 * components > len(data):
        return False
    first = data[frame + 7]
    if components == 1:
        return first == 0x11
    named = data[frame + 6] == 1 and data[frame + 9] == 2 and data[frame + 12] == 3
    ycbcr = transform == 1 or (transform < 0 and (jfif or named))
    usual = first in (0x11, 0x21, 0x12, 0x22)  # luma: 4:4:4, 4:2:2, 4:4:0, 4:2:0
    return components == 3 and ycbcr and usual and data[frame + 10] == 0x11 and data[frame + 13] == 0x11


@njit(**INNER)
def _has_end(data, at):
    """Whether an end marker comes at or after ``at``; it is looked for from the last byte, where it usually is."""
    i = len(data) - 2
    while i >= at and (data[i] != 0xFF or data[i + 1] != _EOI):
        i -= 1
    return i >= at


@njit(**INNER)
def _next_marker(data, at):
    """Where coded data end: there FF is followed by 0, by a restart marker or, before a marker, by FF. -1 for nowhere."""
    for i in range(at, len(data) - 1):
        if data[i] == 0xFF:
            after = data[i + 1]
            if after != 0 and after != 0xFF and not _RST0 <= after < _RST0 + 8:
                return i
    return -1


@njit(**INNER)
def _ends_after_scans(data, at):
    """Whether nothing but scans and their tables follow the first scan, whose data begin at ``at``, up to an end marker."""
    for _ in range(_MOST_SCANS):
        at = _next_marker(data, at)
        if at < 0:
            return False
        if data[at + 1] == _EOI:
            return True
        marker = _END
        while marker != _SOS:
            marker, _, at = _segment(data, at)
            if marker != _SOS and not _is_table(marker):
                return False
    return False
