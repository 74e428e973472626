"""Sizes from headers: those that the image decodes to, from few bytes where these are enough."""

from __future__ import annotations

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from support.images import awkward, encoded, picture

from loaders.sources.headers import image_size
from pipelines import pillow
from pipelines.bad_file import BadFile

KINDS = 17  # of awkward images


class Counting(io.BytesIO):
    taken = 0

    def read(self, size: int | None = -1) -> bytes:
        data = super().read(size)
        self.taken += len(data)
        return data


@pytest.mark.parametrize("seed", range(3 * KINDS))
def test_size_is_what_it_decodes_to(seed: int) -> None:
    name, data = awkward(seed)
    assert image_size(io.BytesIO(data)) == pillow.decode(data).size[::-1], name


def test_a_head_is_enough() -> None:
    for data in (encoded(picture(0, 500, 375), quality=100), encoded(picture(0, 500, 375), "PNG")):
        file = Counting(data)
        assert image_size(file) == (375, 500)
        assert file.taken < 40_000 < len(data)


def test_large_metadata_before_the_frame() -> None:
    assert image_size(io.BytesIO(encoded(picture(0), icc_profile=b"x" * 100_000))) == (60, 90)


def test_bytes_between_segments_are_pillows() -> None:
    good = encoded(picture(0))
    at = good.index(b"\xff\xc0")
    assert image_size(io.BytesIO(good[:at] + b"abc" + good[at:])) == (60, 90)


def test_bombs_and_empty_images_are_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    good = encoded(picture(0))
    at = good.index(b"\xff\xc0") + 5
    with pytest.raises(BadFile, match="header says 0 x 90 pixels"):
        image_size(io.BytesIO(good[:at] + b"\0\0" + good[at + 2 :]))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 2500)
    with pytest.raises(BadFile, match="header says 60 x 90 pixels, more than 5000"):
        image_size(io.BytesIO(good))


@settings(max_examples=200, deadline=None)
@given(
    magic=st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"RIFF", b"II*\0", b"MM\0*", b"P5", b"P6 "]),
    rest=st.binary(max_size=300),
)
def test_random_bytes_raise_nothing_else(magic: bytes, rest: bytes) -> None:
    with contextlib.suppress(BadFile):
        height, width = image_size(io.BytesIO(magic + rest))
        assert height > 0 and width > 0
