"""Header walks: sizes as Pillow has them, and bytes that a decoder must not see."""

from __future__ import annotations

import contextlib
import io
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import DAMAGE, awkward, damage, encoded, picture

from loaders.sources.headers import MAX_PIXELS, CutShort, check_bytes, image_size
from pipelines.bad_file import BadFile
from pipelines.pillow import decode

KINDS = 17  # of awkward images


def pillow_size(data: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(data)) as image:
        return image.height, image.width


@pytest.mark.parametrize("seed", range(3 * KINDS))
def test_size_is_pillows(seed):
    name, data = awkward(seed)
    assert image_size(data) == check_bytes(data) == pillow_size(data), name
    assert image_size(data[:16384]) == pillow_size(data)


@pytest.mark.parametrize(
    "options", [{"kind": "WEBP", "exact": True}, {"kind": "TIFF", "compression": "tiff_lzw"}, {"kind": "BMP"}]
)
@pytest.mark.parametrize("mode", ["RGB", "L", "1", "RGBA", "P"])
def test_modes_and_variants(options, mode):
    image = picture(1, 37, 53).convert(mode)
    data = encoded(image, **options)
    assert check_bytes(data) == (53, 37)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_tiff_has_the_size_that_pillow_decodes_it_to(orientation):
    data = encoded(picture(1, 37, 53), "TIFF", tiffinfo={274: orientation})
    assert image_size(data) == decode(data).size[::-1]


def test_large_metadata_before_the_frame():
    """A header longer than what is read at first is cut short, not broken."""
    data = encoded(picture(0), icc_profile=b"x" * 100_000)
    with pytest.raises(CutShort):
        image_size(data[:16384])
    assert image_size(data) == check_bytes(data) == (60, 90)


def test_thumbnail_inside_does_not_count_as_the_end():
    thumbnail = encoded(picture(1, 16, 16))
    data = encoded(picture(0))
    with_thumbnail = data[:2] + b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail + data[2:]
    assert check_bytes(with_thumbnail) == (60, 90)
    with pytest.raises(BadFile, match="no end marker"):
        check_bytes(with_thumbnail[:-200])


def test_bytes_after_the_end_are_harmless():
    assert check_bytes(encoded(picture(0)) + b"\0" * 5000) == (60, 90)


@pytest.mark.parametrize("kind", [k for k in DAMAGE if k not in ("missing", "folder")])
def test_damaged_files_are_found(tmp_path, kind):
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(picture(5)))
    damage(path, kind)
    with pytest.raises(BadFile):
        check_bytes(path.read_bytes(), (60, 90))


@pytest.mark.parametrize("seed", range(KINDS))
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5, 0.95])
def test_every_format_is_found_cut_short(seed, share):
    """TIFF keeps its header at the end, or has no length to check: a decoder has the last word there."""
    name, data = awkward(seed)
    cut = data[: int(len(data) * share)]
    if name.endswith(".tif") and share:
        return
    with pytest.raises(BadFile):
        check_bytes(cut)


@settings(max_examples=400, deadline=None)
@given(seed=st.integers(0, KINDS - 1), data=st.data())
def test_no_bytes_raise_anything_else(seed, data):
    """Whatever is flipped or cut, the answer is a size or BadFile."""
    _, good = awkward(seed)
    broken = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 20))):
        if broken:
            broken[data.draw(st.integers(0, min(len(broken) - 1, 700)))] = data.draw(st.integers(0, 255))
    for check in (image_size, check_bytes):
        with contextlib.suppress(BadFile):
            height, width = check(bytes(broken))
            assert 1 <= height * width <= MAX_PIXELS


@settings(max_examples=200, deadline=None)
@given(
    magic=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6 "]),
    rest=st.binary(max_size=300),
)
def test_random_bytes_raise_nothing_else(magic, rest):
    for check in (image_size, check_bytes):
        with contextlib.suppress(BadFile):
            check(magic + rest)


def test_flipped_bits_in_png_are_found():
    good = encoded(picture(0), "PNG")
    rng = np.random.default_rng(0)
    for i in rng.integers(8, len(good), 200).tolist():
        broken = bytearray(good)
        broken[i] ^= 1 << int(rng.integers(8))
        with pytest.raises(BadFile):
            check_bytes(bytes(broken), (60, 90))


def test_size_that_changed_is_named():
    with pytest.raises(BadFile, match="is 60 x 90 pixels high and wide, the index says 90 x 60"):
        check_bytes(encoded(picture(0)), (90, 60))


def test_decompression_bomb_is_refused():
    data = bytearray(encoded(picture(0), "BMP"))
    struct.pack_into("<ii", data, 18, 60_000, 60_000)
    with pytest.raises(BadFile, match="60000 x 60000 pixels, more than"):
        image_size(bytes(data))
