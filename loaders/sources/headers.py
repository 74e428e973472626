"""Image sizes from the first bytes of a file, and the check of encoded bytes before a decoder sees them.

DALI's CPU decoder can end the whole process on bytes whose header it cannot parse, and any decode error ends its pipeline.
So a loader checks what it can without decoding: that the header can be walked to the image data, that the size is the one
the index has, that the file does not end early. Accepted are the formats that all backends decode: JPEG, PNG, BMP, TIFF,
WebP and binary PNM, told by their first bytes, never by the file's name. Sizes are those stored: EXIF orientation is not
applied, but in TIFF, where Pillow does so.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable

from pipelines.bad_file import BadFile

MAX_PIXELS = 178_956_970  # Pillow's limit for what it takes to be a decompression bomb

Size = tuple[int, int]  # height, width


class CutShort(BadFile):
    """The bytes end before the header does."""


def image_size(data: bytes) -> Size:
    """(height, width) of an image whose header is in ``data``.

    Raises ``BadFile`` with the reason, ``CutShort`` where more bytes might help.
    """
    return _sized(data, complete=False)


def check_bytes(data: bytes, size: Size | None = None) -> Size:
    """(height, width) of a whole file, which looks decodable and has ``size`` where that is given; else ``BadFile``."""
    found = _sized(data, complete=True)
    if size is not None and found != size:
        raise BadFile(
            f"is {found[0]} x {found[1]} pixels high and wide, the index says {size[0]} x {size[1]}: "
            "it was changed while the loader ran"
        )
    return found


def _sized(data: bytes, complete: bool) -> Size:
    if not data:
        raise BadFile("is empty")
    for magic, name, walk in _FORMATS:
        if data.startswith(magic):
            try:
                height, width = walk(data, complete)
            except (struct.error, IndexError):
                raise CutShort(f"{name} header ends early") from None
            if height < 1 or width < 1:
                raise BadFile(f"{name} header says {height} x {width} pixels")
            if height * width > MAX_PIXELS:
                raise BadFile(f"{name} header says {height} x {width} pixels, more than {MAX_PIXELS}")
            return height, width
    if data[:4] == b"GIF8":
        raise BadFile("is a GIF, which DALI does not decode")
    raise BadFile(f"is no image of an accepted format, begins with {data[:12]!r}")


def _jpeg(data: bytes, complete: bool) -> Size:
    size: Size | None = None
    at = 2
    while True:
        if data[at] != 0xFF:
            raise BadFile(f"JPEG header has no marker at byte {at}")
        while data[at + 1] == 0xFF:  # fill bytes
            at += 1
        marker = data[at + 1]
        if marker < 0xC0 or 0xD0 <= marker <= 0xD9:  # not one with a length
            raise BadFile(f"JPEG header has marker {marker:#04x} at byte {at}")
        (length,) = struct.unpack_from(">H", data, at + 2)
        if length < 2:
            raise BadFile(f"JPEG header has a segment of length {length} at byte {at}")
        if marker >= 0xC0 and marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # start of frame
            bits, height, width, components = struct.unpack_from(">BHHB", data, at + 4)
            if bits != 8 or components not in (1, 3, 4) or length != 8 + 3 * components or size is not None:
                raise BadFile(f"JPEG frame has {bits} bits, {components} components and a length of {length}")
            size = height, width
            if not complete:
                return size
        at += 2 + length
        if marker == 0xDA:  # start of scan
            if size is None:
                raise BadFile("JPEG has no frame header before its data")
            if data.rfind(b"\xff\xd9", at) < 0:  # entropy-coded data cannot contain it
                raise BadFile("JPEG ends early, it has no end marker")
            return size


def _png(data: bytes, complete: bool) -> Size:
    length, kind, width, height, depth, colour = struct.unpack_from(">I4sIIBB", data, 8)
    if length != 13 or kind != b"IHDR" or depth not in (1, 2, 4, 8, 16) or colour not in (0, 2, 3, 4, 6):
        raise BadFile("PNG header cannot be read")
    if complete:
        at, kind, pixels = 8, b"", False
        while kind != b"IEND":
            length, kind = struct.unpack_from(">I4s", data, at)
            (checksum,) = struct.unpack_from(">I", data, at + 8 + length)
            if zlib.crc32(memoryview(data)[at + 4 : at + 8 + length]) != checksum:
                raise BadFile(f"PNG chunk {kind!r} at byte {at} does not match its checksum")
            pixels |= kind == b"IDAT"
            at += 12 + length
        if not pixels:
            raise BadFile("PNG has no image data")
    return height, width


def _bmp(data: bytes, complete: bool) -> Size:
    offset, header = struct.unpack_from("<II", data, 10)
    if header == 12:
        width, height, planes, bits = struct.unpack_from("<HHHH", data, 18)
        compression = 0
    elif 40 <= header <= 124:
        width, height, planes, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    else:
        raise BadFile(f"BMP header of {header} bytes is of no known kind")
    if planes != 1 or bits not in (1, 4, 8, 16, 24, 32):
        raise BadFile(f"BMP header has {planes} planes of {bits} bits")
    height = abs(height)  # negative: the first row is the upper one
    if complete and compression in (0, 3) and offset + (width * bits + 31) // 32 * 4 * height > len(data):
        raise BadFile("BMP ends early")
    return height, width


def _webp(data: bytes, complete: bool) -> Size:
    (length,) = struct.unpack_from("<I", data, 4)
    if data[8:12] != b"WEBP":
        raise BadFile("RIFF file is no WebP")
    if complete and 8 + length > len(data):
        raise BadFile("WebP ends early")
    kind = data[12:16]
    if kind == b"VP8 ":
        start, width, height = struct.unpack_from("<3sHH", data, 23)
        if start != b"\x9d\x01\x2a":
            raise BadFile("WebP frame has no start code")
        return height & 0x3FFF, width & 0x3FFF
    if kind == b"VP8L":
        signature, bits = struct.unpack_from("<BI", data, 20)
        if signature != 0x2F:
            raise BadFile("WebP frame has no start code")
        return (bits >> 14 & 0x3FFF) + 1, (bits & 0x3FFF) + 1
    if kind == b"VP8X":
        if data[20] & 0x02:
            raise BadFile("is an animated WebP")
        w0, w1, w2, h0, h1, h2 = struct.unpack_from("<6B", data, 24)
        return (h0 | h1 << 8 | h2 << 16) + 1, (w0 | w1 << 8 | w2 << 16) + 1
    raise BadFile(f"WebP begins with a chunk of unknown kind {kind!r}")


def _tiff(data: bytes, complete: bool) -> Size:
    order = "<" if data[:2] == b"II" else ">"
    (at,) = struct.unpack_from(order + "I", data, 4)
    (count,) = struct.unpack_from(order + "H", data, at)
    tags = {}
    for entry in range(at + 2, at + 2 + 12 * count, 12):
        tag, kind, values = struct.unpack_from(order + "HHI", data, entry)
        if tag in (256, 257, 274):  # width, height, orientation: one 16-bit or 32-bit number
            if values != 1 or kind not in (3, 4):
                raise BadFile("TIFF header cannot be read")
            (tags[tag],) = struct.unpack_from(order + ("H" if kind == 3 else "I"), data, entry + 8)
    if 256 not in tags or 257 not in tags:
        raise BadFile("TIFF header has no size")
    if tags.get(274, 1) >= 5:  # the one format in which Pillow applies the orientation
        return tags[256], tags[257]
    return tags[257], tags[256]


def _pnm(data: bytes, complete: bool) -> Size:
    numbers: list[int] = []
    at = 2
    while len(numbers) < 3:
        while data[at : at + 1].isspace():
            at += 1
        if data[at] == ord("#"):
            end = data.find(b"\n", at)
            if end < 0:
                raise CutShort("PNM header ends early")
            at = end
            continue
        end = at
        while data[end] in b"0123456789":
            end += 1
        if end == at or end - at > 9:
            raise BadFile("PNM header cannot be read")
        numbers.append(int(data[at:end]))
        at = end
    width, height, maximum = numbers
    if maximum != 255:
        raise BadFile(f"PNM with values to {maximum}, only 255 is accepted")
    if complete and at + 1 + width * height * (3 if data[:2] == b"P6" else 1) > len(data):
        raise BadFile("PNM ends early")
    return height, width


_FORMATS: tuple[tuple[bytes, str, Callable[[bytes, bool], Size]], ...] = (
    (b"\xff\xd8\xff", "JPEG", _jpeg),
    (b"\x89PNG\r\n\x1a\n", "PNG", _png),
    (b"BM", "BMP", _bmp),
    (b"RIFF", "WebP", _webp),
    (b"II*\0", "TIFF", _tiff),
    (b"MM\0*", "TIFF", _tiff),
    (b"P5", "PNM", _pnm),
    (b"P6", "PNM", _pnm),
)
