"""Pillow as the reference: the pictures that torchvision's loader gives, and ``BadFile`` for whatever goes wrong."""

from __future__ import annotations

import contextlib
import errno
import io
import struct
import warnings
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import DAMAGE, awkward, damage, encoded, picture

from pipelines import pillow
from pipelines.bad_file import BadFile

KINDS = 17  # of awkward images


def chunk(kind: bytes, data: bytes = b"") -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(depth: int, colour: int, *more: bytes) -> bytes:
    """A PNG of 64 x 64 black pixels, if that is what depth and colour allow."""
    head = chunk(b"IHDR", struct.pack(">2I5B", 64, 64, depth, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + b"".join(more) + chunk(b"IDAT", zlib.compress(bytes(64 * 600))) + chunk(b"IEND")


@pytest.mark.parametrize("seed", range(KINDS))
def test_pictures_are_torchvisions(seed: int, tmp_path) -> None:
    from torchvision.datasets.folder import default_loader

    name, data = awkward(seed)
    (tmp_path / name).write_bytes(data)
    image = pillow.decode(data)
    np.testing.assert_array_equal(np.asarray(image), np.asarray(default_loader(str(tmp_path / name))))
    assert pillow.image_size(io.BytesIO(data)) == (image.height, image.width)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_size_of_a_turned_tiff_is_what_it_decodes_to(orientation: int) -> None:
    data = encoded(picture(1, 37, 53), "TIFF", tiffinfo={274: orientation})
    assert pillow.image_size(io.BytesIO(data)) == pillow.decode(data).size[::-1]


@pytest.mark.parametrize("depth,colour", [(4, 2), (2, 6), (16, 3), (3, 0)])
def test_depths_that_a_colour_does_not_allow(depth: int, colour: int) -> None:
    with contextlib.suppress(BadFile):
        assert pillow.decode(png(depth, colour)).size == (64, 64)


@pytest.mark.parametrize("kind", [k for k in DAMAGE if k not in ("missing", "folder", "wrong size")])
def test_damaged_files_are_bad(tmp_path, kind: str) -> None:
    path = tmp_path / "x.jpg"
    path.write_bytes(encoded(picture(5)))
    damage(path, kind)
    with pytest.raises(BadFile):
        pillow.decode(path.read_bytes())


@pytest.mark.parametrize("seed", range(KINDS))
@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_every_format_is_found_cut_short(seed: int, share: float) -> None:
    _, data = awkward(seed)
    with pytest.raises(BadFile):
        pillow.decode(data[: int(len(data) * share)])


def test_flipped_bits_in_png_are_found() -> None:
    """Those in the pixels, too, whose checksums Pillow does not look at."""
    good = encoded(picture(0), "PNG")
    expected = np.asarray(pillow.decode(good))
    rng = np.random.default_rng(0)
    found = 0
    for i in rng.integers(8, len(good), 200).tolist():
        broken = bytearray(good)
        broken[i] ^= 1 << int(rng.integers(8))
        try:
            np.testing.assert_array_equal(np.asarray(pillow.decode(bytes(broken))), expected)
        except BadFile:
            found += 1
    assert found >= 198  # a flipped bit behind the pixels does no harm


def test_formats_that_are_not_accepted() -> None:
    """AVIF is in some builds of Pillow; PostScript would be run by another program."""
    for data in (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n",
        encoded(picture(0), "TGA"),
        encoded(picture(0), "ICO"),
    ):
        for look in (pillow.decode, lambda data: pillow.image_size(io.BytesIO(data))):
            with pytest.raises(BadFile, match="is no image of an accepted format, begins with b'"):
                look(data)
    with pytest.raises(BadFile, match="is empty"):
        pillow.decode(b"")


def test_decompression_bombs_are_refused() -> None:
    data = bytearray(encoded(picture(0), "BMP"))
    struct.pack_into("<ii", data, 18, 60_000, 60_000)
    for look in (pillow.decode, lambda data: pillow.image_size(io.BytesIO(data))):
        with pytest.raises(BadFile, match=r"too many pixels: .*limit of 178956970 pixels"):
            look(bytes(data))


def test_the_bound_on_bombs_is_pillows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(picture(0))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 90 // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # between the limit and twice that
        assert pillow.decode(data).size == (90, 60)
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60 * 90 // 2 - 1)
        with pytest.raises(BadFile, match="limit of 5398"):
            pillow.decode(data)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    assert pillow.decode(data).size == (90, 60)


def test_what_is_not_the_files_fault_is_raised_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (MemoryError(), OSError(errno.EIO, "Input/output error")):

        def fail(*_: object, error: Exception = error, **__: object) -> None:
            raise error

        monkeypatch.setattr(Image, "open", fail)
        with pytest.raises(type(error)):
            pillow.decode(encoded(picture(0)))


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, KINDS - 1), data=st.data())
def test_no_bytes_raise_anything_else(seed: int, data: st.DataObject) -> None:
    """Whatever is flipped or cut, the answer is a picture or BadFile."""
    _, good = awkward(seed)
    broken = bytearray(good[: data.draw(st.integers(0, len(good)))])
    for _ in range(data.draw(st.integers(0, 20))):
        if broken:
            broken[data.draw(st.integers(0, min(len(broken) - 1, 700)))] = data.draw(st.integers(0, 255))
    with contextlib.suppress(BadFile):
        pillow.image_size(io.BytesIO(broken))
    with contextlib.suppress(BadFile):
        assert pillow.decode(bytes(broken)).mode == "RGB"
