"""The walk over JPEG markers: which files are plain, what their size is, and nothing but an answer for any bytes."""

from __future__ import annotations

import io
import struct
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import DAMAGE, awkward, damage, encoded, picture

from pipelines.jpeg import frame_size, plain_size

GOOD = encoded(picture(0))  # 60 x 90
PROGRESSIVE = encoded(picture(0), progressive=True)
FRAME, SCAN = GOOD.index(b"\xff\xc0"), GOOD.index(b"\xff\xda")


def segment(marker: int, contents: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(contents) + 2) + contents


def with_frame(change: int, value: int) -> bytes:
    """The good file with a byte of the contents of its frame header changed."""
    at = FRAME + 4 + change
    return GOOD[:at] + bytes([value]) + GOOD[at + 1 :]


ADOBE = {transform: segment(0xEE, b"Adobe\0\x64\0\0\0\0" + bytes([transform])) for transform in (0, 1, 2)}
PLAIN = {
    "baseline": GOOD,
    "progressive": PROGRESSIVE,
    "grey": encoded(picture(0).convert("L")),
    "4:4:4": encoded(picture(0), subsampling=0),
    "4:2:2": encoded(picture(0), subsampling=1),
    "restart markers": encoded(picture(0), restart_marker_blocks=1),
    "large metadata": encoded(picture(0), icc_profile=b"x" * 100_000),
    "comment": encoded(picture(0), comment=b"\xff\xd9\xff\xda"),
    "bytes after the end": GOOD + b"\0" * 5000,
    "Adobe's YCbCr": GOOD[:2] + ADOBE[1] + GOOD[2:],
    "no JFIF": GOOD[:2] + GOOD[GOOD.index(b"\xff\xdb") :],
    "thumbnail": GOOD[:2] + segment(0xE1, encoded(picture(1, 16, 16))) + GOOD[2:],
}
OTHERS = {  # good or not: Pillow says
    "CMYK": encoded(picture(0).convert("CMYK")),
    "RGB": encoded(picture(0), keep_rgb=True),
    "Adobe's RGB": GOOD[:2] + ADOBE[0] + GOOD[2:],
    "Adobe's YCCK": GOOD[:2] + ADOBE[2] + GOOD[2:],
    "neither JFIF nor known ids": GOOD[:2] + with_frame(6, ord("R"))[GOOD.index(b"\xff\xdb") :],
    "byte between segments": GOOD[:FRAME] + b"\0" + GOOD[FRAME:],
    "restart marker between segments": GOOD[:FRAME] + b"\xff\xd0" + GOOD[FRAME:],
    "fill byte": GOOD[:FRAME] + b"\xff" + GOOD[FRAME:],
    "another marker": GOOD[:FRAME] + segment(0xF0, b"") + GOOD[FRAME:],
    "extended coding": GOOD[: FRAME + 1] + b"\xc1" + GOOD[FRAME + 2 :],
    "arithmetic coding": GOOD[: FRAME + 1] + b"\xc9" + GOOD[FRAME + 2 :],
    "lossless coding": GOOD[: FRAME + 1] + b"\xc3" + GOOD[FRAME + 2 :],
    "two frames": GOOD[:FRAME] + GOOD[FRAME : FRAME + 19] + GOOD[FRAME:],
    "12 bits": with_frame(0, 12),
    "no rows": GOOD[: FRAME + 5] + b"\0\0" + GOOD[FRAME + 7 :],
    "two components": with_frame(5, 2),
    "sampling 4:1:1": with_frame(7, 0x41),
    "sampling of chroma": with_frame(10, 0x21),
    "a scan of one component of three": GOOD[: SCAN + 4] + b"\1" + GOOD[SCAN + 5 :],
    "no tables": GOOD[:20] + GOOD[FRAME:],
    "no end": GOOD[:-2],
    "half": GOOD[: (SCAN + len(GOOD)) // 2],
    "progressive, half": PROGRESSIVE[: len(PROGRESSIVE) // 2],
    "progressive, a scan's header cut": PROGRESSIVE[: PROGRESSIVE.rindex(b"\xff\xda") + 5],
    "header": GOOD[:SCAN],
    "nothing": b"",
    "two bytes": b"\xff\xd8",
    "PNG": encoded(picture(0), "PNG"),
}  # fmt: skip


@pytest.mark.parametrize("name", PLAIN)
def test_plain_files(name: str) -> None:
    with Image.open(io.BytesIO(PLAIN[name])) as image:
        image.load()
    assert plain_size(PLAIN[name]) == frame_size(PLAIN[name]) == (60, 90)


@pytest.mark.parametrize("name", OTHERS)
def test_other_files(name: str) -> None:
    assert plain_size(OTHERS[name]) is None


@pytest.mark.parametrize("kind", [k for k in DAMAGE if k not in ("missing", "folder", "wrong size")])
def test_damaged_files_are_not_plain(tmp_path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(picture(5)))
    damage(path, kind)
    assert plain_size(path.read_bytes()) is None


def test_fill_bytes_are_legal_before_a_frame() -> None:
    assert frame_size(OTHERS["fill byte"]) == (60, 90)
    assert frame_size(GOOD[:FRAME] + b"\xff" * 7 + GOOD[FRAME:]) == (60, 90)


def test_tables_before_a_frame_are_none() -> None:
    at = GOOD.index(b"\xff\xc4")
    table = GOOD[at : at + 2 + int.from_bytes(GOOD[at + 2 : at + 4], "big")]
    assert frame_size(GOOD[:FRAME] + table + GOOD[FRAME:]) == (60, 90)


@pytest.mark.parametrize(
    "data", [b"", b"\xff", b"\xff\xd8", GOOD[:30], b"GIF89a" + GOOD, b"\xff\xd8" + bytes(100), GOOD[1:]]
)
def test_no_frame(data: bytes) -> None:
    assert frame_size(data) is None


def test_scans_that_never_end_are_not_plain() -> None:
    """A file of 30 kB can hold a thousand scans, each of which costs the decoder a pass over the whole image."""
    at = PROGRESSIVE.rindex(b"\xff\xda")
    assert plain_size(PROGRESSIVE[:at] + PROGRESSIVE[at:-2] * 5 + PROGRESSIVE[-2:]) == (60, 90)
    assert plain_size(PROGRESSIVE[:at] + PROGRESSIVE[at:-2] * 1000 + PROGRESSIVE[-2:]) is None


@settings(max_examples=400, deadline=None)
@given(seed=st.sampled_from([0, 1, 3, 4, 16]), data=st.data())
def test_any_bytes_have_an_answer(seed: int, data: st.DataObject) -> None:
    _, good = awkward(seed)
    broken = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 20))):
        if broken:
            broken[data.draw(st.integers(0, min(len(broken) - 1, 700)))] = data.draw(st.integers(0, 255))
    for size in (plain_size(bytes(broken)), frame_size(bytes(broken))):
        assert size is None or len(size) == 2


def test_bytes_made_to_be_slow_are_not() -> None:
    """Fill bytes without end, and markers without end: linear time, whatever the bytes."""
    began = time.process_time()
    for data in (b"\xff" * 5_000_000, b"\xff\xd8" + b"\xff\xe0\0\2" * 50_000, PROGRESSIVE[:-2] + b"\xff\xd0" * 2_000_000):
        assert plain_size(data) is None
    assert time.process_time() - began < 30


def test_sizes_are_read_as_unsigned() -> None:
    huge = GOOD[: FRAME + 5] + b"\xff\xfe\xff\xfd" + GOOD[FRAME + 9 :]
    assert plain_size(huge) == frame_size(huge) == (65534, 65533)
    assert np.prod(plain_size(huge)) > 2**31
